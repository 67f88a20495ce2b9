//! The journal of tasks in the embedded store.
//!
//! ```text
//!   tasks        tenant, task        → born, what it is
//!   task_claims  tenant, task        → epoch
//!   entries      running number      → whose, which, what; and the number of the one before
//! ```
//!
//! Entries of all tasks stand in one table in the order of their writing, many in one value, because
//! appending at the end is what is cheap. In memory a [`Heads`] knows each task's last entry; from there every entry
//! points to the one before. Rows behind a task's newest checkpoint are pruned once there are many.
//!
//! **Invariant:** an entry opens only as the n-th entry of the task, and of the life of that task,
//! that it was written for; a chain with a hole after the checkpoint is corrupt.

mod compaction;
mod heads;
mod reads;
pub(super) mod rows;
mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{TaskKey, TenantId};
use keybaton_ports::{
    Claimed, Denial, Entry, Refusal, TaskError, TaskJournal, TaskRow, TaskSpec, TaskWrite,
};

use crate::store::{Down, RowKey, Rows, Sealer, Store, Table};

pub(crate) use heads::Heads;
use rows::has_checkpoint;
use writes::{Append, Appended, Claim, Create, Forget};

/// The task journal of one embedded store.
pub struct RedbTaskJournal {
    store: Arc<Store>,
    sealer: Arc<Sealer>,
    heads: Arc<Heads>,
}

impl RedbTaskJournal {
    pub(crate) fn new(store: Arc<Store>, sealer: Arc<Sealer>, heads: Arc<Heads>) -> Self {
        Self { store, sealer, heads }
    }
}

impl From<Down> for TaskError {
    fn from(down: Down) -> Self {
        match down {
            Down::Unavailable(why) => Self::Unavailable(why),
            Down::Unknown(why) => Self::Unknown(why),
        }
    }
}

#[async_trait]
impl TaskJournal for RedbTaskJournal {
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        let work = Create::prepare(&self.sealer, &self.heads, key, spec)?;
        self.store.submit(work).await?;
        let row = self.row(key)?;
        let is_same = (&row.spec.kind, &row.spec.provider, &row.spec.input)
            == (&spec.kind, &spec.provider, &spec.input);
        if is_same { Ok(row) } else { Err(TaskError::Taken) }
    }

    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError> {
        let work = Claim::new(&self.sealer, &self.heads, key);
        let epoch = self.store.submit(work).await??;
        self.claimed(key, epoch)
    }

    async fn append(&self, write: &TaskWrite) -> Result<(), TaskError> {
        let work = Append::prepare(&self.sealer, &self.heads, write)?;
        match self.store.submit(work).await?? {
            Appended::Written => {
                if has_checkpoint(&write.entry) {
                    self.prune(&write.key);
                }
                Ok(())
            }
            Appended::Behind => self.check_repeat(write),
        }
    }

    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal> {
        let prefix = tenant.map(|tenant| RowKey::tenant(tenant.as_str()));
        let prefix = prefix.as_ref().map_or(&[][..], RowKey::as_bytes);
        let keys = self.store.read(|reader| {
            let rows = reader.all(Table::Tasks, prefix)?;
            Ok(rows.iter().filter_map(|(key, _)| RowKey::read_task(key)).collect::<Vec<_>>())
        })?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            match self.row(&key) {
                Ok(row) => rows.push(row),
                // It was forgotten meanwhile.
                Err(TaskError::NotFound) => {}
                // One damaged task must not keep the others from going on; whoever claims it is
                // told.
                Err(TaskError::Corrupt(why)) => {
                    tracing::error!(task = %key, why, "a task cannot be read; it is left out");
                }
                Err(error) => return Err(refusal(error)),
            }
        }
        Ok(rows)
    }

    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError> {
        let (_, head) = self.heads.committed(key).ok_or(TaskError::NotFound)?;
        self.entries_from(key, &head, head.tail)
    }

    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError> {
        let (place, head) = self.heads.committed(key).ok_or(TaskError::NotFound)?;
        let rows = self.rows_from(&head, head.tail)?;
        let work = Forget::new(&self.heads, key, place, head.born);
        self.store.submit(work).await??;
        self.heads.bury(rows);
        Ok(())
    }
}

fn refusal(error: TaskError) -> Refusal {
    match error {
        TaskError::Unavailable(why) => Refusal::busy(why),
        TaskError::Unknown(why) => Refusal::unknown(why),
        TaskError::Corrupt(why) => Refusal::denied(Denial::Corrupt, why),
        other => Refusal::denied(Denial::BadRequest, other.to_string()),
    }
}
