//! The journal of tasks as one map.

use std::collections::BTreeMap;

use keybaton_messages::{TaskEpoch, TaskKey};
use keybaton_ports::{
    CheckpointRef, Claimed, Entry, TaskError, TaskRow, TaskSpec, TaskState, TaskWrite,
};

/// One call with all its arguments.
#[derive(Clone, Debug)]
pub enum Call {
    /// `create`.
    Create(TaskKey, TaskSpec),
    /// `claim`.
    Claim(TaskKey),
    /// `append`.
    Append(TaskWrite),
    /// `forget`.
    Forget(TaskKey),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `create`.
    Row(Result<TaskRow, TaskError>),
    /// To `claim`.
    Claimed(Result<Claimed, TaskError>),
    /// To `append`.
    Appended(Result<(), TaskError>),
    /// To `forget`. The contract does not say with which word a task that has not ended is refused.
    Forgotten(Result<(), TaskError>),
}

#[derive(Clone, Debug)]
struct Task {
    spec: TaskSpec,
    epoch: TaskEpoch,
    entries: Vec<Entry>,
    /// Under which epoch the last entry was written.
    last_by: TaskEpoch,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Tasks(BTreeMap<TaskKey, Task>);

/// Everything that can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// `list`, by key.
    pub rows: Vec<TaskRow>,
    /// `entries` of each task.
    pub entries: Vec<Vec<Entry>>,
}

fn checkpoint_of(entry: &Entry) -> Option<&CheckpointRef> {
    match entry {
        Entry::Result { checkpoint, .. } => checkpoint.as_ref(),
        Entry::Checkpoint { checkpoint, .. } => Some(checkpoint),
        Entry::Intent { .. } | Entry::State { .. } => None,
    }
}

impl Task {
    fn state(&self) -> TaskState {
        let states = self.entries.iter().rev().filter_map(|entry| match entry {
            Entry::State { state, .. } => Some(state.clone()),
            _ => None,
        });
        states.into_iter().next().unwrap_or(TaskState::Running)
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
}

impl Tasks {
    /// Epoch and number of entries; of a task that is not there, zeros.
    pub fn at(&self, key: &TaskKey) -> (TaskEpoch, u64) {
        let task = self.0.get(key);
        task.map_or_else(Default::default, |task| (task.epoch, task.entries.len() as u64))
    }

    /// The entry that was written last, and under which epoch.
    pub fn last(&self, key: &TaskKey) -> Option<(TaskEpoch, Entry)> {
        let task = self.0.get(key)?;
        Some((task.last_by, task.entries.last()?.clone()))
    }

    /// What a call answers.
    pub fn expect(&mut self, call: &Call) -> Answer {
        match call {
            Call::Create(key, spec) => Answer::Row(self.create(key, spec)),
            Call::Claim(key) => Answer::Claimed(self.claim(key)),
            Call::Append(write) => Answer::Appended(self.append(write)),
            Call::Forget(key) => Answer::Forgotten(self.forget(key)),
        }
    }

    fn create(&mut self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        let new = || Task {
            spec: spec.clone(),
            epoch: TaskEpoch(0),
            entries: Vec::new(),
            last_by: TaskEpoch(0),
        };
        let task = self.0.entry(key.clone()).or_insert_with(new);
        let (there, asked) = (&task.spec, spec);
        if (&there.kind, &there.provider, &there.input)
            == (&asked.kind, &asked.provider, &asked.input)
        {
            Ok(task.row(key))
        } else {
            Err(TaskError::Taken)
        }
    }

    fn claim(&mut self, key: &TaskKey) -> Result<Claimed, TaskError> {
        let task = self.0.get_mut(key).ok_or(TaskError::NotFound)?;
        task.epoch = task.epoch.next();
        let newest = task.entries.iter().rposition(|entry| checkpoint_of(entry).is_some());
        Ok(Claimed {
            row: task.row(key),
            checkpoint: newest.and_then(|at| checkpoint_of(&task.entries[at]).cloned()),
            entries: task.entries[newest.map_or(0, |at| at + 1)..].to_vec(),
        })
    }

    fn append(&mut self, write: &TaskWrite) -> Result<(), TaskError> {
        let task = self.0.get_mut(&write.key).ok_or(TaskError::NotFound)?;
        let there = task.entries.len() as u64;
        if task.epoch != write.epoch {
            return Err(TaskError::Fenced);
        }
        if write.expect == there {
            task.entries.push(write.entry.clone());
            task.last_by = write.epoch;
            return Ok(());
        }
        let is_repeat = Some(write.expect) == there.checked_sub(1)
            && task.last_by == write.epoch
            && task.entries.last() == Some(&write.entry);
        if is_repeat { Ok(()) } else { Err(TaskError::Conflict) }
    }

    fn forget(&mut self, key: &TaskKey) -> Result<(), TaskError> {
        let task = self.0.get(key).ok_or(TaskError::NotFound)?;
        if matches!(task.state(), TaskState::Running | TaskState::Parked(_)) {
            return Err(TaskError::Conflict);
        }
        self.0.remove(key);
        Ok(())
    }

    /// Everything that can be read.
    pub fn view(&self) -> View {
        View {
            rows: self.0.iter().map(|(key, task)| task.row(key)).collect(),
            entries: self.0.values().map(|task| task.entries.clone()).collect(),
        }
    }
}
