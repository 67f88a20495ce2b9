//! The journal of tasks in Postgres.
//!
//! A task's row counts its entries; an append compares and sets that count and inserts the entry, for
//! everybody who waits in one statement. Rows far behind the newest checkpoint are deleted as the
//! task goes on.
//!
//! **Invariant:** an entry opens only as the n-th entry of the task, and of the life of that task,
//! that it was written for; a hole after the checkpoint is corrupt.

use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use keybaton_messages::{TaskEpoch, TaskKey, TenantId};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{
    Claimed, Entropy, Entry, Refusal, TaskError, TaskJournal, TaskRow, TaskSpec, TaskState,
    TaskWrite,
};
use tokio_postgres::Row;

use crate::journals::postgres::appends::{Append, Appended, Appends};
use crate::journals::postgres::rows::{signed, unsigned};
use crate::journals::tasks::rows::{
    EntryHead, Kind, check_size, checkpoint_of, clear_number, corrupt, open_entry_of, open_task,
    point, seal_entry, seal_task,
};
use crate::limits::{
    ENTRIES_BEHIND_CHECKPOINT_KEPT, ENTRIES_BEHIND_CHECKPOINT_MAX, TASK_LIVES_KEPT,
};
use crate::postgres::{Pool, Value};
use crate::queue::Queue;
use crate::store::{Broken, Down, Sealer, SystemEntropy};

const CREATE: &str = "insert into keybaton.task (tenant, task, born, spec) values ($1, $2, $3, $4)
    on conflict do nothing";
const CLAIM: &str = "update keybaton.task set epoch = epoch + 1 where tenant = $1 and task = $2
    returning epoch";
const TASK: &str = "select t.tenant, t.task, t.epoch, t.rev, t.tail, t.checkpoint, t.spec, s.body,
        t.born
    from keybaton.task t left join keybaton.task_entry s
        on (s.tenant, s.task, s.idx) = (t.tenant, t.task, t.state)
    where t.tenant = $1 and t.task = $2";
const TASKS: &str = "select t.tenant, t.task, t.epoch, t.rev, t.tail, t.checkpoint, t.spec, s.body,
        t.born
    from keybaton.task t left join keybaton.task_entry s
        on (s.tenant, s.task, s.idx) = (t.tenant, t.task, t.state)
    where $1::text is null or t.tenant = $1 order by t.tenant, t.task";
const ENTRIES: &str = "select idx, body from keybaton.task_entry
    where tenant = $1 and task = $2 and idx >= $3 order by idx";
const PRUNE: &str = "with moved as (
        update keybaton.task set tail = checkpoint - $3
        where tenant = $1 and task = $2 and checkpoint - tail >= $4 returning tail, state)
    delete from keybaton.task_entry e using moved
    where e.tenant = $1 and e.task = $2 and e.idx < moved.tail
        and e.idx is distinct from moved.state";
const FORGET: &str = "delete from keybaton.task where tenant = $1 and task = $2 and has_ended
    returning 1";

// Changes nothing, and waits for the standby like any other write.
const CONFIRM: &str = "update keybaton.task set rev = rev where tenant = $1 and task = $2";

/// The task journal of one Postgres database.
pub struct PostgresTaskJournal {
    pool: Arc<Pool>,
    appends: Arc<Appends>,
    queue: Queue<Append, Result<Appended, Down>>,
    sealer: Arc<Sealer>,
    /// The present life of tasks that were seen. One that is out of date is noticed by the
    /// statement that names it.
    born: DashMap<TaskKey, u64>,
}

/// A task's row as it was read.
struct Found {
    key: TaskKey,
    born: u64,
    epoch: TaskEpoch,
    rev: u64,
    tail: u64,
    checkpoint: Option<u64>,
    spec: Vec<u8>,
    state: Option<Vec<u8>>,
}

impl PostgresTaskJournal {
    pub(crate) fn new(pool: Arc<Pool>, sealer: Arc<Sealer>) -> Self {
        let appends = Arc::new(Appends(Arc::clone(&pool)));
        let queue = Queue::start(Arc::clone(&appends));
        Self { pool, appends, queue, sealer, born: DashMap::new() }
    }

    async fn write(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Down> {
        Ok(self.pool.write(sql, values).await?)
    }

    async fn read(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Down> {
        let rows = self.pool.read(async |client| {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, values).await
        });
        rows.await
    }

    async fn find(&self, key: &TaskKey) -> Result<Found, TaskError> {
        let rows = self.read(TASK, &[&key.tenant.as_str(), &key.task.as_str()]).await?;
        let row = rows.first().ok_or(TaskError::NotFound)?;
        let found = found(row).ok_or_else(|| corrupt(Broken::Foreign))?;
        self.remember(key, found.born);
        Ok(found)
    }

    fn remember(&self, key: &TaskKey, born: u64) {
        if self.born.len() >= TASK_LIVES_KEPT {
            self.born.clear();
        }
        self.born.insert(key.clone(), born);
    }

    fn open_row(&self, found: &Found) -> Result<TaskRow, TaskError> {
        let key = &found.key;
        let spec = open_task(&self.sealer, key, found.born, &found.spec).map_err(corrupt)?;
        let state = match &found.state {
            None => TaskState::Running,
            Some(bytes) => match self.open_entry(key, found, bytes, None)? {
                Entry::State { state, .. } => state,
                _ => return Err(TaskError::Corrupt("its state is missing".into())),
            },
        };
        Ok(TaskRow { key: key.clone(), spec, state, epoch: found.epoch, rev: found.rev })
    }

    /// Opens bytes that should be an entry of this task (entry `index`, if that is known).
    fn open_entry(
        &self,
        key: &TaskKey,
        task: &Found,
        bytes: &[u8],
        index: Option<u64>,
    ) -> Result<Entry, TaskError> {
        let opened = open_entry_of(&self.sealer, key, (task.born, task.epoch), bytes, index)?;
        Ok(opened.1)
    }

    /// The entries from index `from` on, oldest first, without a hole up to the end that `task`
    /// tells of. What was pruned or appended since is left out.
    async fn entries_from(&self, task: &Found, from: u64) -> Result<Vec<Entry>, TaskError> {
        let key = &task.key;
        let values: [Value; 3] = [&key.tenant.as_str(), &key.task.as_str(), &signed(from)];
        let rows = self.read(ENTRIES, &values).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let index = unsigned(row.get(0));
            if index >= task.rev {
                break;
            }
            let next = from + entries.len() as u64;
            if index != next {
                // The row of the newest state outlives the ones around it.
                if self.is_pruned(task, next).await? {
                    return Box::pin(self.entries_from(&self.find(key).await?, index)).await;
                }
                return Err(TaskError::Corrupt(format!("entry {next} is missing")));
            }
            entries.push(self.open_entry(key, task, row.get(1), Some(index))?);
        }
        if from + entries.len() as u64 != task.rev.max(from) {
            return Err(TaskError::Corrupt("its last entries are missing".into()));
        }
        Ok(entries)
    }

    /// Whether an entry is missing because it was pruned since the task was read.
    async fn is_pruned(&self, task: &Found, index: u64) -> Result<bool, TaskError> {
        let present = self.find(&task.key).await?;
        Ok(present.born == task.born && present.tail > index)
    }

    /// Why nothing was appended, or that this very entry is the last one.
    async fn settle(&self, write: &TaskWrite, born: u64) -> Result<Settled, TaskError> {
        let task = self.find(&write.key).await?;
        if task.born != born {
            return Ok(Settled::OtherLife);
        }
        if task.epoch != write.epoch {
            return Err(TaskError::Fenced);
        }
        if task.rev.checked_sub(1) != Some(write.expect) {
            return Err(TaskError::Conflict);
        }
        let key = &write.key;
        let values: [Value; 3] = [&key.tenant.as_str(), &key.task.as_str(), &signed(write.expect)];
        let rows = self.read(ENTRIES, &values).await?;
        let bytes: &[u8] = match rows.first() {
            Some(row) => row.get(1),
            None => return Err(TaskError::Corrupt("its last entry is missing".into())),
        };
        let head = EntryHead::read(bytes).ok_or_else(|| corrupt(Broken::Foreign))?;
        let entry = self.open_entry(key, &task, bytes, Some(write.expect))?;
        if head.epoch == write.epoch && entry == write.entry {
            Ok(Settled::Same)
        } else {
            Err(TaskError::Conflict)
        }
    }

    fn seal(&self, write: &TaskWrite, born: u64) -> Result<Append, TaskError> {
        let kind = Kind::of(&write.entry);
        let head = EntryHead { index: write.expect, epoch: write.epoch, born, kind };
        let mut body = seal_entry(&self.sealer, &write.key, head, &write.entry)?;
        let sealed = body.len();
        point(&mut body, sealed, 0);
        let (key, epoch, expect) = (write.key.clone(), write.epoch, write.expect);
        Ok(Append { key, epoch, expect, born, kind, body })
    }

    /// Deletes what is far behind the newest checkpoint. It is not needed to go on, so that a
    /// failure here only leaves it for the next time.
    async fn prune(&self, key: &TaskKey) {
        let values: [Value; 4] = [
            &key.tenant.as_str(),
            &key.task.as_str(),
            &signed(ENTRIES_BEHIND_CHECKPOINT_KEPT),
            &signed(ENTRIES_BEHIND_CHECKPOINT_MAX),
        ];
        if let Err(down) = self.write(PRUNE, &values).await {
            tracing::debug!(%down, task = %key, "old entries were not pruned");
        }
    }
}

/// What an append that changed no row meant.
enum Settled {
    /// The entry is the last one already.
    Same,
    /// The task was forgotten and made again since its life was looked up.
    OtherLife,
}

#[async_trait]
impl TaskJournal for PostgresTaskJournal {
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        if spec.input.len() > TASK_VALUE_BYTES_MAX {
            return Err(TaskError::TooLarge);
        }
        let born = SystemEntropy.bits().max(1);
        let sealed = seal_task(&self.sealer, key, born, spec)?;
        let values: [Value; 4] =
            [&key.tenant.as_str(), &key.task.as_str(), &&born.to_be_bytes()[..], &sealed];
        self.write(CREATE, &values).await?;
        let row = self.open_row(&self.find(key).await?)?;
        let is_same = (&row.spec.kind, &row.spec.provider, &row.spec.input)
            == (&spec.kind, &spec.provider, &spec.input);
        if is_same { Ok(row) } else { Err(TaskError::Taken) }
    }

    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError> {
        let values: [Value; 2] = [&key.tenant.as_str(), &key.task.as_str()];
        let claimed = self.write(CLAIM, &values).await?;
        let epoch = claimed.first().ok_or(TaskError::NotFound)?.get(0);
        // From here on nobody else appends, unless somebody claims it in turn.
        let task = self.find(key).await?;
        let mut row = self.open_row(&task)?;
        row.epoch = TaskEpoch(unsigned(epoch));
        let Some(index) = task.checkpoint else {
            if task.tail > 0 {
                return Err(TaskError::Corrupt("its first entries are missing".into()));
            }
            let entries = self.entries_from(&task, 0).await?;
            return Ok(Claimed { row, checkpoint: None, entries });
        };
        let mut entries = self.entries_from(&task, index).await?.into_iter();
        let Some(checkpoint) = entries.next().and_then(checkpoint_of) else {
            return Err(TaskError::Corrupt("its checkpoint is missing".into()));
        };
        Ok(Claimed { row, checkpoint: Some(checkpoint), entries: entries.collect() })
    }

    async fn append(&self, write: &TaskWrite) -> Result<(), TaskError> {
        check_size(&write.entry)?;
        let remembered = self.born.get(&write.key).map(|born| *born);
        let mut born = match remembered {
            Some(born) => born,
            None => self.find(&write.key).await?.born,
        };
        loop {
            let mut appended = self.queue.submit(self.seal(write, born)?).await??;
            if appended == Appended::LeftOut {
                appended = self.appends.alone(&self.seal(write, born)?).await?;
            }
            if let Appended::Written { behind } = appended {
                if behind >= ENTRIES_BEHIND_CHECKPOINT_MAX {
                    self.prune(&write.key).await;
                }
                return Ok(());
            }
            match self.settle(write, born).await? {
                Settled::Same => {
                    let key = &write.key;
                    let values: [Value; 2] = [&key.tenant.as_str(), &key.task.as_str()];
                    self.write(CONFIRM, &values).await?;
                    return Ok(());
                }
                Settled::OtherLife => born = self.find(&write.key).await?.born,
            }
        }
    }

    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal> {
        let rows = self.read(TASKS, &[&tenant.map(TenantId::as_str)]).await?;
        let mut tasks = Vec::with_capacity(rows.len());
        for row in &rows {
            let task = found(row)
                .ok_or_else(|| corrupt(Broken::Foreign))
                .and_then(|found| self.open_row(&found));
            match task {
                Ok(task) => tasks.push(task),
                // One damaged task must not keep the others from going on; whoever claims it is
                // told.
                Err(why) => {
                    let task: &str = row.get(1);
                    tracing::error!(task, %why, "a task cannot be read; it is left out");
                }
            }
        }
        Ok(tasks)
    }

    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError> {
        let task = self.find(key).await?;
        self.entries_from(&task, task.tail).await
    }

    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError> {
        let values: [Value; 2] = [&key.tenant.as_str(), &key.task.as_str()];
        // Its entries go with it.
        if !self.write(FORGET, &values).await?.is_empty() {
            self.born.remove(key);
            return Ok(());
        }
        self.find(key).await?;
        Err(TaskError::Conflict)
    }
}

fn found(row: &Row) -> Option<Found> {
    let tenant = row.get::<_, &str>(0).parse().ok()?;
    let task = row.get::<_, &str>(1).parse().ok()?;
    let spec: Vec<u8> = row.get(6);
    let born = clear_number(row.get(8))?;
    (clear_number(&spec)? == born).then_some(())?;
    Some(Found {
        key: TaskKey { tenant, task },
        born,
        epoch: TaskEpoch(unsigned(row.get(2))),
        rev: unsigned(row.get(3)),
        tail: unsigned(row.get(4)),
        checkpoint: row.get::<_, Option<i64>>(5).map(unsigned),
        spec,
        state: row.get(7),
    })
}
