//! Checkpoints in Postgres: one partition and one role for each tenant.
//!
//! ```text
//!   keybaton's user ──set local role──► role of the tenant ──► partition of the tenant
//! ```
//!
//! Every statement runs as the tenant's role, which may reach its own partition and nothing else.
//! Row security stands on top, also against keybaton's own user: a statement that names the wrong
//! partition finds nothing there.
//!
//! **Invariant:** bytes are sealed under the tenant's key before they leave the process.

use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashSet;
use data_encoding::HEXLOWER;
use futures::try_join;
use keybaton_messages::{Checkpoint, TaskId, TaskKey, TenantId};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};
use sha2::{Digest, Sha256};
use tokio_postgres::{Error, Row};

use crate::limits::INLINE_CHECKPOINT_BYTES_MAX;
use crate::postgres::{Pool, Value, discard, written};
use crate::store::{Down, Place, Purpose, RowKey, Sealer, Whose};

const TABLE: &str = "checkpoints";
const CHECKPOINT_SCHEMA: u16 = 1;

/// The checkpoint store of one Postgres database.
pub struct PostgresCheckpoints {
    pool: Arc<Pool>,
    sealer: Arc<Sealer>,
    store_id: [u8; 16],
    /// Tenants whose partition is there.
    known: DashSet<TenantId>,
}

impl PostgresCheckpoints {
    pub(crate) fn new(pool: Arc<Pool>, sealer: Arc<Sealer>, store_id: [u8; 16]) -> Self {
        Self { pool, sealer, store_id, known: DashSet::new() }
    }

    /// What the tenant's partition and role are called. Tenants' names are longer than names in
    /// Postgres may be, and roles belong to the whole server.
    fn suffix(&self, tenant: &TenantId) -> String {
        let digest = Sha256::new()
            .chain_update(self.store_id)
            .chain_update(tenant.as_str().as_bytes())
            .finalize();
        HEXLOWER.encode(&digest[..16])
    }

    /// Makes the tenant's partition and role if they are not there.
    async fn prepare(&self, tenant: &TenantId) -> Result<(), Refusal> {
        if self.known.contains(tenant) {
            return Ok(());
        }
        let sql = partition_of(tenant, &self.suffix(tenant));
        let client = self.pool.take().await?;
        match self.pool.in_time(client.batch_execute(&sql)).await {
            Some(Ok(())) => {
                self.known.insert(tenant.clone());
                Ok(())
            }
            Some(Err(error)) => {
                discard(client);
                // What is there already is found so at the next try.
                Err(written(&error).into())
            }
            None => {
                discard(client);
                Err(Refusal::unknown(self.pool.silence()))
            }
        }
    }

    /// Whether anything was ever put for the tenant.
    async fn has_partition(&self, tenant: &TenantId) -> Result<bool, Refusal> {
        if self.known.contains(tenant) {
            return Ok(true);
        }
        let name = format!("keybaton.checkpoint_{}", self.suffix(tenant));
        let found = self.pool.read(async |client| {
            client.query_one("select to_regclass($1) is not null", &[&name]).await
        });
        Ok(found.await?.get(0))
    }

    /// Runs one statement as the tenant. `{}` in it stands for the tenant's partition.
    async fn run(
        &self,
        tenant: &TenantId,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Down> {
        let suffix = self.suffix(tenant);
        let sql = sql.replace("{}", &format!("keybaton.checkpoint_{suffix}"));
        let role = format!("set local role keybaton_{suffix}");
        let client = self.pool.take().await?;
        let doubts = self.pool.doubts();
        let done = self.pool.in_time(async {
            let statement = client.prepare_cached(&sql).await?;
            let (_, _, rows, _) = try_join!(
                client.batch_execute("begin"),
                client.batch_execute(&role),
                client.query(&statement, values),
                client.batch_execute("commit"),
            )?;
            Ok::<_, Error>(rows)
        });
        match done.await {
            Some(Ok(rows)) if self.pool.doubts() == doubts => Ok(rows),
            Some(Ok(_)) => Err(Down::Unknown("the wait for the standby was cut short".into())),
            Some(Err(error)) => {
                discard(client);
                Err(written(&error))
            }
            None => {
                discard(client);
                Err(Down::Unknown(self.pool.silence()))
            }
        }
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
        self.prepare(&task.tenant).await?;
        let values: [Value; 3] = [&task.tenant.as_str(), &key, &sealed];
        let sql = "insert into {} (tenant, key, body) values ($1, $2, $3)";
        self.run(&task.tenant, sql, &values).await?;
        Ok(CheckpointRef::Blob { key, digest })
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let (key, digest) = self.find(task, at)?;
        self.prepare(&task.tenant).await?;
        let values: [Value; 2] = [&task.tenant.as_str(), &key];
        let sql = "select body from {} where tenant = $1 and key = $2";
        let rows = self.run(&task.tenant, sql, &values).await.map_err(not_read)?;
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
        if !self.has_partition(tenant).await? {
            return Ok(Vec::new());
        }
        self.prepare(tenant).await?;
        let name = tenant.as_str();
        let rows = match task {
            None => self.run(tenant, "select key from {} where tenant = $1", &[&name]).await,
            Some(task) => {
                // Keys are in the order of their bytes, and '0' comes behind '/'.
                let (from, to) = (format!("{task}/"), format!("{task}0"));
                let sql = "select key from {} where tenant = $1 and key >= $2 and key < $3";
                self.run(tenant, sql, &[&name, &from, &to]).await
            }
        };
        let rows = rows.map_err(not_read)?;
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
        self.prepare(&task.tenant).await?;
        let values: [Value; 2] = [&task.tenant.as_str(), &key];
        let sql = "delete from {} where tenant = $1 and key = $2";
        self.run(&task.tenant, sql, &values).await?;
        Ok(())
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

/// Nothing was asked to be written.
fn not_read(down: Down) -> Refusal {
    let (Down::Unknown(why) | Down::Unavailable(why)) = down;
    Refusal::busy(why)
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

/// What makes a tenant's partition, once, whoever is first. Nothing happens if it is there.
fn partition_of(tenant: &TenantId, suffix: &str) -> String {
    // A policy for a role is one for its members too, and keybaton's user is a member of all: hence
    // the comparison with the present user. Checked names hold no quote; it is doubled all the same.
    let name = tenant.as_str().replace('\'', "''");
    format!(
        "begin;
        select pg_advisory_xact_lock(hashtextextended('keybaton_{suffix}', 0));
        do $make$ begin
            if exists (select from pg_tables
                    where schemaname = 'keybaton' and tablename = 'checkpoint_{suffix}')
                and exists (select from pg_roles where rolname = 'keybaton_{suffix}') then
                return;
            end if;
            create table if not exists keybaton.checkpoint_{suffix}
                partition of keybaton.checkpoint for values in ('{name}');
            alter table keybaton.checkpoint_{suffix} enable row level security;
            alter table keybaton.checkpoint_{suffix} force row level security;
            if not exists (select from pg_roles where rolname = 'keybaton_{suffix}') then
                create role keybaton_{suffix} nologin;
            end if;
            grant keybaton_{suffix} to current_user;
            grant usage on schema keybaton to keybaton_{suffix};
            grant select, insert, delete on keybaton.checkpoint_{suffix} to keybaton_{suffix};
            drop policy if exists own_tenant on keybaton.checkpoint_{suffix};
            create policy own_tenant on keybaton.checkpoint_{suffix} to keybaton_{suffix}
                using (tenant = '{name}' and current_user = 'keybaton_{suffix}')
                with check (tenant = '{name}' and current_user = 'keybaton_{suffix}');
        end $make$;
        commit"
    )
}

fn whose(task: &TaskKey) -> Whose<'_> {
    Whose::Tenant(Purpose::Checkpoints, &task.tenant)
}

fn place(key: &RowKey) -> Place<'_> {
    Place { table: TABLE, key: key.as_bytes(), clear: &[], schema: CHECKPOINT_SCHEMA }
}
