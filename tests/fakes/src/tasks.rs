//! A journal of tasks in memory. It keeps every entry.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keybaton_messages::{TaskEpoch, TaskKey, TenantId};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{
    CheckpointRef, Claimed, Entry, Refusal, TaskError, TaskJournal, TaskRow, TaskSpec, TaskState,
    TaskWrite,
};
use parking_lot::Mutex;

use crate::faults::Faults;

/// What a sealed checkpoint may be larger than its state.
const SEALED_MORE_BYTES_MAX: usize = 1024;

struct Task {
    spec: TaskSpec,
    epoch: TaskEpoch,
    /// Each with the epoch under which it was written.
    entries: Vec<(TaskEpoch, Entry)>,
}

impl Task {
    fn state(&self) -> TaskState {
        let mut states = self.entries.iter().rev().filter_map(|(_, entry)| match entry {
            Entry::State { state, .. } => Some(state.clone()),
            _ => None,
        });
        states.next().unwrap_or(TaskState::Running)
    }

    fn row(&self, key: &TaskKey) -> TaskRow {
        TaskRow {
            key: key.clone(),
            spec: self.spec.clone(),
            state: self.state(),
            epoch: self.epoch,
            rev: self.entries.len() as u64,
        }
    }

    fn claimed(&self, key: &TaskKey) -> Claimed {
        let newest = self.entries.iter().rposition(|(_, entry)| checkpoint_of(entry).is_some());
        let after = newest.map_or(0, |at| at + 1);
        let entries = self.entries[after..].iter();
        Claimed {
            row: self.row(key),
            checkpoint: newest.and_then(|at| checkpoint_of(&self.entries[at].1).cloned()),
            entries: entries.map(|(_, entry)| entry.clone()).collect(),
        }
    }

    fn append(&mut self, flaws: TaskFlaws, write: &TaskWrite) -> Result<(), TaskError> {
        if flaws.compares_nothing {
            self.entries.push((write.epoch, write.entry.clone()));
            return Ok(());
        }
        if write.epoch != self.epoch {
            return Err(TaskError::Fenced);
        }
        let rev = self.entries.len() as u64;
        let line = (write.epoch, write.entry.clone());
        let is_repeat =
            rev.checked_sub(1) == Some(write.expect) && self.entries.last() == Some(&line);
        if is_repeat {
            return Ok(());
        }
        if write.expect != rev {
            return Err(TaskError::Conflict);
        }
        self.entries.push(line);
        Ok(())
    }
}

fn checkpoint_of(entry: &Entry) -> Option<&CheckpointRef> {
    match entry {
        Entry::Result { checkpoint, .. } => checkpoint.as_ref(),
        Entry::Checkpoint { checkpoint, .. } => Some(checkpoint),
        _ => None,
    }
}

fn check_size(entry: &Entry) -> Result<(), TaskError> {
    let value = match entry {
        Entry::Result { outcome, .. } => outcome.len(),
        Entry::State { state: TaskState::Done(output), .. } => output.len(),
        _ => 0,
    };
    let checkpoint = match checkpoint_of(entry) {
        Some(CheckpointRef::Inline(bytes)) => bytes.len(),
        _ => 0,
    };
    if value > TASK_VALUE_BYTES_MAX || checkpoint > TASK_VALUE_BYTES_MAX + SEALED_MORE_BYTES_MAX {
        return Err(TaskError::TooLarge);
    }
    Ok(())
}

/// What is wrong with a journal of tasks, for tests that must notice it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskFlaws {
    /// Neither epoch nor number of entries of a writer is looked at.
    pub compares_nothing: bool,
}

/// The fake. Clones of its `Arc` are views of one store, as after a restart.
#[derive(Default)]
pub struct FakeTaskJournal {
    tasks: Mutex<BTreeMap<TaskKey, Task>>,
    last: Mutex<Option<TaskKey>>,
    flaws: TaskFlaws,
    /// What goes wrong with the next writes.
    pub faults: Faults,
}

impl FakeTaskJournal {
    /// An empty journal with something wrong.
    #[must_use]
    pub fn flawed(flaws: TaskFlaws) -> Self {
        Self { flaws, ..Self::default() }
    }

    /// Takes the last entry back that was acknowledged, as no store may.
    pub fn forget_last_write(&self) {
        if let Some(key) = self.last.lock().take()
            && let Some(task) = self.tasks.lock().get_mut(&key)
        {
            task.entries.pop();
        }
    }
}

#[async_trait]
impl TaskJournal for FakeTaskJournal {
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        self.faults.pass(|| {
            if spec.input.len() > TASK_VALUE_BYTES_MAX {
                return Err(TaskError::TooLarge);
            }
            let mut tasks = self.tasks.lock();
            let task = tasks.entry(key.clone()).or_insert_with(|| Task {
                spec: spec.clone(),
                epoch: TaskEpoch(0),
                entries: Vec::new(),
            });
            let known = TaskSpec { spawned_at: spec.spawned_at, ..task.spec.clone() };
            if known != *spec {
                return Err(TaskError::Taken);
            }
            Ok(task.row(key))
        })
    }

    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError> {
        self.faults.pass(|| {
            let mut tasks = self.tasks.lock();
            let task = tasks.get_mut(key).ok_or(TaskError::NotFound)?;
            task.epoch = task.epoch.next();
            Ok(task.claimed(key))
        })
    }

    async fn append(&self, write: &TaskWrite) -> Result<(), TaskError> {
        self.faults.pass(|| {
            check_size(&write.entry)?;
            let mut tasks = self.tasks.lock();
            let task = tasks.get_mut(&write.key).ok_or(TaskError::NotFound)?;
            task.append(self.flaws, write)?;
            *self.last.lock() = Some(write.key.clone());
            Ok(())
        })
    }

    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal> {
        let tasks = self.tasks.lock();
        Ok(tasks
            .iter()
            .filter(|(key, _)| tenant.is_none_or(|tenant| *tenant == key.tenant))
            .map(|(key, task)| task.row(key))
            .collect())
    }

    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError> {
        let tasks = self.tasks.lock();
        let task = tasks.get(key).ok_or(TaskError::NotFound)?;
        let entries = task.entries.iter();
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
    }

    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError> {
        self.faults.pass(|| {
            let mut tasks = self.tasks.lock();
            let task = tasks.get(key).ok_or(TaskError::NotFound)?;
            match task.state() {
                TaskState::Running | TaskState::Parked(_) => Err(TaskError::Conflict),
                TaskState::Done(_) | TaskState::Failed(_) | TaskState::Cancelled => {
                    tasks.remove(key);
                    Ok(())
                }
            }
        })
    }
}
