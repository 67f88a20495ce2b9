//! The journal of tasks in Redis.
//!
//! A task's hash counts its entries; an append compares and sets that count and adds the entry, in
//! one step. Entries far behind the newest checkpoint are deleted as the task goes on.
//!
//! **Invariant:** an entry opens only as the n-th entry of the task, and of the life of that task,
//! that it was written for; a hole after the checkpoint is corrupt.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use keybaton_messages::{TaskEpoch, TaskKey, TenantId};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{
    Claimed, Entropy, Entry, Refusal, TaskError, TaskJournal, TaskRow, TaskSpec, TaskState,
    TaskWrite,
};
use redis::{Cmd, cmd};

use super::change::Change;
use super::names::{self, TaskKeys, read_task};
use super::server::{Answers, Server, Step};
use crate::journals::redb::Unread;
use crate::journals::redb::pairs::Corrupt;
use crate::journals::tasks::rows::{
    EntryHead, Kind, check_size, checkpoint_of, corrupt, has_checkpoint, open_entry_of, open_task,
    point, seal_entry, seal_task,
};
use crate::limits::{
    ENTRIES_BEHIND_CHECKPOINT_KEPT, ENTRIES_BEHIND_CHECKPOINT_MAX, REDIS_TASKS_PER_QUESTION,
    TASK_LIVES_KEPT,
};
use crate::store::{Broken, Down, Sealer, SystemEntropy};

/// How often a step is tried that others took first. Each of these is somebody else's success.
const TRIES_MAX: usize = 64;

const FIELDS: [&str; 9] =
    ["born", "epoch", "rev", "tail", "checkpoint", "state", "left", "has_ended", "spec"];

/// The task journal of one Redis database.
pub(super) struct RedisTaskJournal {
    server: Arc<Server>,
    sealer: Arc<Sealer>,
    /// The present life of tasks that were seen. One that is out of date is noticed by the write
    /// that names it.
    born: DashMap<TaskKey, u64>,
}

/// A task's hash as it was read.
struct Found {
    key: TaskKey,
    born: u64,
    epoch: TaskEpoch,
    rev: u64,
    tail: u64,
    checkpoint: Option<u64>,
    /// The entry that tells the newest state.
    state: Option<u64>,
    /// An entry that was the newest state when the ones around it were deleted.
    left: Option<u64>,
    has_ended: bool,
    spec: Vec<u8>,
}

impl RedisTaskJournal {
    pub(super) fn new(server: Arc<Server>, sealer: Arc<Sealer>) -> Self {
        Self { server, sealer, born: DashMap::new() }
    }

    async fn find(&self, key: &TaskKey) -> Result<Found, TaskError> {
        let mut answers = self.server.read(vec![question(key)]).await?;
        let found = found(key, &mut answers)?.ok_or(TaskError::NotFound)?;
        if self.born.len() >= TASK_LIVES_KEPT {
            self.born.clear();
        }
        self.born.insert(key.clone(), found.born);
        Ok(found)
    }

    async fn steps(&self, key: &TaskKey, from: u64, to: u64) -> Result<Vec<Row>, TaskError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let asked =
            cmd("HMGET").arg(TaskKeys::new(key).steps).arg((from..to).collect::<Vec<_>>()).clone();
        Ok(self.server.read(vec![asked]).await?.next()?)
    }

    /// The task's row, with its state as it stands now.
    async fn row(&self, key: &TaskKey) -> Result<TaskRow, TaskError> {
        let mut task = self.find(key).await?;
        loop {
            let Some(index) = task.state else {
                return self.open_row(&task, None);
            };
            let mut rows = self.steps(key, index, index + 1).await?;
            if let Some(bytes) = rows.pop().flatten() {
                return self.open_row(&task, Some(&bytes));
            }
            // Overtaken by a newer state, behind which the old one was deleted.
            let again = self.find(key).await?;
            if (again.born, again.state) == (task.born, task.state) {
                return Err(TaskError::Corrupt("its state is missing".into()));
            }
            task = again;
        }
    }

    fn open_row(&self, task: &Found, state: Option<&[u8]>) -> Result<TaskRow, TaskError> {
        let key = &task.key;
        let spec = open_task(&self.sealer, key, task.born, &task.spec).map_err(corrupt)?;
        let state = match state {
            None => TaskState::Running,
            Some(bytes) => match self.open(task, bytes, task.state)?.1 {
                Entry::State { state, .. } => state,
                _ => return Err(TaskError::Corrupt("its state is missing".into())),
            },
        };
        Ok(TaskRow { key: key.clone(), spec, state, epoch: task.epoch, rev: task.rev })
    }

    fn open(
        &self,
        task: &Found,
        bytes: &[u8],
        index: Option<u64>,
    ) -> Result<(EntryHead, Entry), TaskError> {
        open_entry_of(&self.sealer, &task.key, (task.born, task.epoch), bytes, index)
    }

    /// The entries from index `from` on, oldest first, without a hole up to the end that `task`
    /// tells of. What was deleted meanwhile is left out.
    async fn entries_from(&self, task: &Found, from: u64) -> Result<Vec<Entry>, TaskError> {
        let rows = self.steps(&task.key, from, task.rev).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for (index, row) in (from..).zip(rows) {
            let Some(bytes) = row else {
                let present = self.find(&task.key).await?;
                if present.born == task.born && present.tail > index {
                    return Box::pin(self.entries_from(&present, present.tail)).await;
                }
                return Err(TaskError::Corrupt(format!("entry {index} is missing")));
            };
            entries.push(self.open(task, &bytes, Some(index))?.1);
        }
        Ok(entries)
    }

    /// Why nothing was appended, or that this very entry is the last one.
    async fn settle(&self, write: &TaskWrite, born: u64) -> Result<Settled, TaskError> {
        let task = self.find(&write.key).await?;
        if task.born != born {
            return Ok(Settled::OtherLife(task.born));
        }
        if task.epoch != write.epoch {
            return Err(TaskError::Fenced);
        }
        if task.rev.checked_sub(1) != Some(write.expect) {
            return Err(TaskError::Conflict);
        }
        let mut rows = self.steps(&write.key, write.expect, task.rev).await?;
        let Some(bytes) = rows.pop().flatten() else {
            return Err(TaskError::Corrupt("its last entry is missing".into()));
        };
        let (head, entry) = self.open(&task, &bytes, Some(write.expect))?;
        if head.epoch == write.epoch && entry == write.entry {
            Ok(Settled::Same)
        } else {
            Err(TaskError::Conflict)
        }
    }

    async fn append_to(&self, write: &TaskWrite, born: u64) -> Result<Step, TaskError> {
        let kind = Kind::of(&write.entry);
        let head = EntryHead { index: write.expect, epoch: write.epoch, born, kind };
        let mut row = seal_entry(&self.sealer, &write.key, head, &write.entry)?;
        let sealed = row.len();
        point(&mut row, sealed, 0);
        let keys = TaskKeys::new(&write.key);
        let index = write.expect.to_string();
        let mut change = unchanged(&keys, born, write.epoch, write.expect);
        change.set(&keys.task, "rev", write.expect.saturating_add(1).to_string());
        change.set(&keys.steps, index.as_str(), row);
        if kind.is_checkpoint() {
            change.set(&keys.task, "checkpoint", index.as_str());
        }
        if kind.is_state() {
            change.set(&keys.task, "state", index.as_str());
            change.set(&keys.task, "has_ended", if kind == Kind::Ended { "1" } else { "0" });
        }
        Ok(self.server.write(change).await?)
    }

    /// Writes that the last entry is the last one: the answer to an append that is asked again has
    /// to be as durable as its first one.
    async fn confirm(&self, write: &TaskWrite, born: u64) -> Result<Step, TaskError> {
        let keys = TaskKeys::new(&write.key);
        let rev = write.expect.saturating_add(1);
        let mut change = unchanged(&keys, born, write.epoch, rev);
        change.set(&keys.task, "rev", rev.to_string());
        Ok(self.server.write(change).await?)
    }

    /// Deletes what is far behind the newest checkpoint. It is not needed to go on, so that a
    /// failure here only leaves it for the next time.
    async fn prune(&self, key: &TaskKey) {
        if let Err(why) = self.try_prune(key).await {
            tracing::debug!(%why, task = %key, "old entries were not pruned");
        }
    }

    async fn try_prune(&self, key: &TaskKey) -> Result<(), TaskError> {
        let task = self.find(key).await?;
        let checkpoint = task.checkpoint.unwrap_or_default();
        if checkpoint.saturating_sub(task.tail) < ENTRIES_BEHIND_CHECKPOINT_MAX {
            return Ok(());
        }
        let tail = checkpoint - ENTRIES_BEHIND_CHECKPOINT_KEPT;
        let keys = TaskKeys::new(key);
        let mut change = Change::default();
        change.check(&keys.task, "born", number(task.born));
        change.check(&keys.task, "tail", task.tail.to_string());
        change.set(&keys.task, "tail", tail.to_string());
        for index in (task.tail..tail).chain(task.left) {
            if Some(index) != task.state {
                change.remove(&keys.steps, index.to_string());
            }
        }
        match task.state {
            Some(state) if state < tail => change.set(&keys.task, "left", state.to_string()),
            _ => change.remove(&keys.task, "left"),
        }
        self.server.write(change).await?;
        Ok(())
    }

    async fn rows(&self, keys: &[TaskKey]) -> Result<Vec<TaskRow>, TaskError> {
        let mut answers = self.server.read(keys.iter().map(question).collect()).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let row = match found(key, &mut answers)? {
                // Forgotten since the list was read.
                None => continue,
                Some(task) if task.state.is_none() => self.open_row(&task, None),
                Some(_) => self.row(key).await,
            };
            match row {
                Ok(row) => rows.push(row),
                Err(TaskError::NotFound) => {}
                // One damaged task must not keep the others from going on; whoever claims it is
                // told.
                Err(TaskError::Corrupt(why)) => {
                    tracing::error!(task = %key, %why, "a task cannot be read; it is left out");
                }
                Err(other) => return Err(other),
            }
        }
        Ok(rows)
    }
}

/// An entry as it lies there, if it does.
type Row = Option<Vec<u8>>;

/// What an append that changed nothing meant.
enum Settled {
    /// The entry is the last one already.
    Same,
    /// The task was forgotten and made again since its life was looked up.
    OtherLife(u64),
}

#[async_trait]
impl TaskJournal for RedisTaskJournal {
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        if spec.input.len() > TASK_VALUE_BYTES_MAX {
            return Err(TaskError::TooLarge);
        }
        let born = SystemEntropy.bits().max(1);
        let keys = TaskKeys::new(key);
        let mut change = Change::default();
        change.check_absent(&keys.task, "born");
        for (field, value) in [("born", number(born).as_str()), ("epoch", "0"), ("rev", "0")] {
            change.set(&keys.task, field, value);
        }
        change.set(&keys.task, "tail", "0");
        change.set(&keys.task, "spec", seal_task(&self.sealer, key, born, spec)?);
        change.set(names::TASKS, keys.name.as_str(), "1");
        // One that is there stays as it is.
        self.server.write(change).await?;
        let row = self.row(key).await?;
        let is_same = (&row.spec.kind, &row.spec.provider, &row.spec.input)
            == (&spec.kind, &spec.provider, &spec.input);
        if is_same { Ok(row) } else { Err(TaskError::Taken) }
    }

    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError> {
        let keys = TaskKeys::new(key);
        let mut epoch = None;
        for _ in 0..TRIES_MAX {
            let task = self.find(key).await?;
            let next = task.epoch.next();
            let mut change = Change::default();
            change.check(&keys.task, "born", number(task.born));
            change.check(&keys.task, "epoch", task.epoch.0.to_string());
            change.set(&keys.task, "epoch", next.0.to_string());
            if self.server.write(change).await? == Step::Done {
                epoch = Some(next);
                break;
            }
        }
        let epoch = epoch.ok_or_else(busy)?;
        // From here on nobody else appends, unless somebody claims it in turn.
        let row = TaskRow { epoch, ..self.row(key).await? };
        let task = self.find(key).await?;
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
        for _ in 0..TRIES_MAX {
            if self.append_to(write, born).await? == Step::Done {
                if has_checkpoint(&write.entry) {
                    self.prune(&write.key).await;
                }
                return Ok(());
            }
            match self.settle(write, born).await? {
                Settled::Same => {
                    if self.confirm(write, born).await? == Step::Done {
                        return Ok(());
                    }
                }
                Settled::OtherLife(present) => born = present,
            }
        }
        Err(busy())
    }

    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal> {
        let asked = cmd("HKEYS").arg(names::TASKS).clone();
        let all: BTreeSet<String> = self.server.read(vec![asked]).await?.next()?;
        let keys: Vec<_> = all
            .iter()
            .filter_map(|name| read_task(name))
            .filter(|key| tenant.is_none_or(|tenant| key.tenant == *tenant))
            .collect();
        let mut rows = Vec::with_capacity(keys.len());
        for some in keys.chunks(REDIS_TASKS_PER_QUESTION) {
            rows.extend(self.rows(some).await.map_err(|why| match why {
                TaskError::Unavailable(why) => Refusal::busy(why),
                other => Refusal::denied(keybaton_ports::Denial::Corrupt, other.to_string()),
            })?);
        }
        Ok(rows)
    }

    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError> {
        let task = self.find(key).await?;
        self.entries_from(&task, task.tail).await
    }

    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError> {
        let keys = TaskKeys::new(key);
        for _ in 0..TRIES_MAX {
            let task = self.find(key).await?;
            if !task.has_ended {
                return Err(TaskError::Conflict);
            }
            let mut change = unchanged(&keys, task.born, task.epoch, task.rev);
            change.drop_hash(&keys.task);
            change.drop_hash(&keys.steps);
            change.remove(names::TASKS, keys.name.as_str());
            if self.server.write(change).await? == Step::Done {
                self.born.remove(key);
                return Ok(());
            }
        }
        Err(busy())
    }
}

fn question(key: &TaskKey) -> Cmd {
    cmd("HMGET").arg(TaskKeys::new(key).task).arg(&FIELDS).clone()
}

/// Reads the answer; nothing for a task that is not there.
fn found(key: &TaskKey, answers: &mut Answers) -> Result<Option<Found>, TaskError> {
    let fields: Vec<Row> = answers.next()?;
    if fields.iter().all(Option::is_none) {
        return Ok(None);
    }
    let text = |at: usize| {
        let bytes = fields.get(at)?.as_ref()?;
        std::str::from_utf8(bytes).ok()
    };
    let number = |at: usize| text(at)?.parse::<u64>().ok();
    let read = || {
        Some(Found {
            key: key.clone(),
            born: u64::from_str_radix(text(0)?, 16).ok()?,
            epoch: TaskEpoch(number(1)?),
            rev: number(2)?,
            tail: number(3)?,
            checkpoint: number(4),
            state: number(5),
            left: number(6),
            has_ended: text(7) == Some("1"),
            spec: fields.get(8)?.clone()?,
        })
    };
    read().map(Some).ok_or_else(|| corrupt(Broken::Foreign))
}

/// A change of a task that is as it was read.
fn unchanged(keys: &TaskKeys, born: u64, epoch: TaskEpoch, rev: u64) -> Change {
    let mut change = Change::default();
    change.check(&keys.task, "born", number(born));
    change.check(&keys.task, "epoch", epoch.0.to_string());
    change.check(&keys.task, "rev", rev.to_string());
    change
}

fn number(born: u64) -> String {
    format!("{born:016x}")
}

fn busy() -> TaskError {
    TaskError::Unavailable("too many others write to this task".into())
}

impl From<Unread> for TaskError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Down(Down::Unavailable(why)) => Self::Unavailable(why),
            Unread::Down(Down::Unknown(why)) => Self::Unknown(why),
            Unread::Corrupt(Corrupt(why)) => Self::Corrupt(why),
        }
    }
}
