//! Checkpoints in Postgres: one partition and one role for each tenant.
//!
//! ```text
//!   keybaton's user ──set local role──► role of the tenant ──► partition of the tenant
//! ```
//!
//! Every row is read and written as the tenant's role, which may reach its own partition and nothing
//! else. Row security stands on top, also against keybaton's own user: whoever names the wrong
//! partition finds nothing there.
//!
//! **Invariant:** bytes are sealed under the tenant's key before they leave the process.

mod partitions;

use std::sync::Arc;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use keybaton_messages::{Checkpoint, TaskId, TaskKey, TenantId};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use self::partitions::{Change, Changed, Partitions};
use crate::limits::INLINE_CHECKPOINT_BYTES_MAX;
use crate::postgres::{Pool, Value};
use crate::queue::Queue;
use crate::store::{Down, Place, Purpose, RowKey, Sealer, Whose};

const TABLE: &str = "checkpoints";
const CHECKPOINT_SCHEMA: u16 = 1;

/// The checkpoint store of one Postgres database.
pub struct PostgresCheckpoints {
    pool: Arc<Pool>,
    sealer: Arc<Sealer>,
    partitions: Arc<Partitions>,
    queue: Queue<Change, Result<Changed, Down>>,
}

impl PostgresCheckpoints {
    pub(crate) fn new(pool: Arc<Pool>, sealer: Arc<Sealer>, store_id: [u8; 16]) -> Self {
        let partitions = Arc::new(Partitions::new(Arc::clone(&pool), store_id));
        let queue = Queue::start(Arc::clone(&partitions));
        Self { pool, sealer, partitions, queue }
    }

    /// Makes the change together with whatever else is to be changed.
    async fn change(&self, change: Change) -> Result<(), Refusal> {
        self.partitions.prepare(&change.tenant).await?;
        if self.queue.submit(change.clone()).await?? == Changed::LeftOut {
            self.partitions.alone(&change).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl CheckpointStore for PostgresCheckpoints {
    async fn preflight(&self) -> Result<(), Refusal> {
        let writable = self.pool.read(async |client| {
            client.query_one("select current_setting('transaction_read_only') = 'off'", &[]).await
        });
        if writable.await?.get(0) {
            return Ok(());
        }
        Err(Refusal::busy("postgres takes no writes"))
    }

    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal> {
        let too_large = || Refusal::denied(Denial::TooLarge, "the checkpoint is larger than 1 MiB");
        if checkpoint.state.len() > TASK_VALUE_BYTES_MAX {
            return Err(too_large());
        }
        let task = &checkpoint.task;
        let row = RowKey::task(task);
        let sealed = self
            .sealer
            .seal_value(whose(task), &place(&row), checkpoint)
            .map_err(|_| too_large())?;
        if sealed.len() > INLINE_CHECKPOINT_BYTES_MAX {
            return Err(too_large());
        }
        let digest: [u8; 32] = Sha256::digest(&sealed).into();
        let key = key_of(task, &digest);
        let (tenant, body) = (task.tenant.clone(), Some(sealed.into()));
        self.change(Change { tenant, key: key.clone(), body }).await?;
        Ok(CheckpointRef::Blob { key, digest })
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let (key, digest) = self.find(task, at)?;
        self.partitions.prepare(&task.tenant).await?;
        let values: [Value; 2] = [&task.tenant.as_str(), &key];
        let sql = "select body from {} where tenant = $1 and key = $2";
        let rows = self.partitions.read(&task.tenant, sql, &values).await?;
        let sealed: &[u8] = match rows.first() {
            Some(row) => row.get(0),
            None => return Err(corrupt("the bytes that the reference names are not there")),
        };
        if <[u8; 32]>::from(Sha256::digest(sealed)) != *digest {
            return Err(corrupt("its bytes are not the ones that were written"));
        }
        let row = RowKey::task(task);
        let checkpoint: Checkpoint = self
            .sealer
            .open_value(whose(task), &place(&row), sealed)
            .map_err(|broken| corrupt(&broken.to_string()))?;
        if checkpoint.task == *task {
            Ok(checkpoint)
        } else {
            Err(corrupt("it belongs to another task"))
        }
    }

    async fn list(
        &self,
        tenant: &TenantId,
        task: Option<&TaskId>,
    ) -> Result<Vec<(TaskKey, CheckpointRef)>, Refusal> {
        if !self.partitions.exists(tenant).await? {
            return Ok(Vec::new());
        }
        self.partitions.prepare(tenant).await?;
        let name = tenant.as_str();
        let rows = match task {
            None => {
                self.partitions.read(tenant, "select key from {} where tenant = $1", &[&name]).await
            }
            Some(task) => {
                // Keys are in the order of their bytes, and '0' comes behind '/'.
                let (from, to) = (format!("{task}/"), format!("{task}0"));
                let sql = "select key from {} where tenant = $1 and key >= $2 and key < $3";
                self.partitions.read(tenant, sql, &[&name, &from, &to]).await
            }
        }?;
        let read = |row: &Row| {
            let found = read_key(tenant, row.get(0));
            if found.is_none() {
                tracing::error!(%tenant, "a checkpoint has a foreign key; it is left alone");
            }
            found
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal> {
        if matches!(at, CheckpointRef::Inline(_)) {
            // It goes with the row that it stands in.
            return Ok(());
        }
        let (key, _) = self.find(task, at)?;
        let (tenant, key) = (task.tenant.clone(), key.to_owned());
        self.change(Change { tenant, key, body: None }).await
    }
}

impl PostgresCheckpoints {
    /// Key and digest of a reference that this store made for this task.
    fn find<'a>(
        &self,
        task: &TaskKey,
        at: &'a CheckpointRef,
    ) -> Result<(&'a str, &'a [u8; 32]), Refusal> {
        match at {
            CheckpointRef::Inline(_) => Err(corrupt("it lies in another checkpoint store")),
            CheckpointRef::Blob { key, digest } if *key == key_of(task, digest) => {
                Ok((key, digest))
            }
            CheckpointRef::Blob { .. } => Err(corrupt("the reference leads elsewhere")),
        }
    }
}

/// The task and the reference of a key that [`key_of`] made.
fn read_key(tenant: &TenantId, key: &str) -> Option<(TaskKey, CheckpointRef)> {
    let (task, digest) = key.rsplit_once('/')?;
    let task = TaskKey { tenant: tenant.clone(), task: task.parse().ok()? };
    let digest = HEXLOWER.decode(digest.as_bytes()).ok()?.try_into().ok()?;
    (key_of(&task, &digest) == key)
        .then(|| (task, CheckpointRef::Blob { key: key.to_owned(), digest }))
}

fn corrupt(why: &str) -> Refusal {
    Refusal::denied(Denial::Corrupt, format!("checkpoint: {why}"))
}

/// Path below the tenant.
fn key_of(task: &TaskKey, digest: &[u8; 32]) -> String {
    format!("{}/{}", task.task, HEXLOWER.encode(digest))
}

fn whose(task: &TaskKey) -> Whose<'_> {
    Whose::Tenant(Purpose::Checkpoints, &task.tenant)
}

fn place(key: &RowKey) -> Place<'_> {
    Place { table: TABLE, key: key.as_bytes(), clear: &[], schema: CHECKPOINT_SCHEMA }
}
