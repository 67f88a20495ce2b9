//! Tasks to write journals about, and what their owners write.

use std::sync::Arc;

use keybaton_messages::{TaskEpoch, TaskKey, Timestamp, Version};
use keybaton_ports::{
    CheckpointRef, Claimed, Entry, TaskError, TaskJournal, TaskSpec, TaskState, TaskWrite,
};

/// A task of the tenant `acme`.
#[must_use]
pub fn task(name: &str) -> TaskKey {
    task_of("acme", name)
}

/// A task of any tenant.
#[must_use]
pub fn task_of(tenant: &str, name: &str) -> TaskKey {
    TaskKey { tenant: tenant.parse().expect("a tenant"), task: name.parse().expect("a task") }
}

/// What a task is, with this input.
#[must_use]
pub fn spec(input: &[u8]) -> TaskSpec {
    TaskSpec {
        kind: "agent".into(),
        provider: "openai".parse().expect("a provider"),
        input: input.to_vec(),
        spawned_at: Timestamp(1),
    }
}

/// A step's result without a checkpoint.
#[must_use]
pub fn result(n: u64) -> Entry {
    Entry::Result {
        n,
        idem: [1; 16],
        version: Some(Version(1)),
        outcome: format!("outcome of step {n}").into_bytes(),
        checkpoint: None,
        at: Timestamp(n),
    }
}

/// A step's result that names a checkpoint.
#[must_use]
pub fn result_with_checkpoint(n: u64, checkpoint: &[u8]) -> Entry {
    let Entry::Result { idem, version, outcome, at, .. } = result(n) else {
        unreachable!("it is a result");
    };
    Entry::Result {
        n,
        idem,
        version,
        outcome,
        checkpoint: Some(CheckpointRef::Inline(checkpoint.to_vec())),
        at,
    }
}

/// A change of state.
#[must_use]
pub fn state(state: TaskState) -> Entry {
    Entry::State { state, at: Timestamp(9) }
}

/// One owner of one task.
pub struct Owner {
    tasks: Arc<dyn TaskJournal>,
    /// Which task.
    pub key: TaskKey,
    /// Its claim.
    pub epoch: TaskEpoch,
    /// Entries so far.
    pub rev: u64,
}

impl Owner {
    /// Creates the task if need be, and claims it.
    pub async fn claim(tasks: &Arc<dyn TaskJournal>, key: &TaskKey) -> Self {
        tasks.create(key, &spec(b"input")).await.expect("created");
        let claimed = tasks.claim(key).await.expect("claimed");
        Self {
            tasks: tasks.clone(),
            key: key.clone(),
            epoch: claimed.row.epoch,
            rev: claimed.row.rev,
        }
    }

    /// The append of this entry at this place.
    #[must_use]
    pub fn write(&self, expect: u64, entry: Entry) -> TaskWrite {
        TaskWrite { key: self.key.clone(), epoch: self.epoch, expect, entry }
    }

    /// Appends at the end.
    pub async fn append(&mut self, entry: Entry) -> Result<(), TaskError> {
        self.tasks.append(&self.write(self.rev, entry)).await?;
        self.rev += 1;
        Ok(())
    }

    /// Appends each in turn.
    pub async fn append_all(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.append(entry).await.expect("appended");
        }
    }

    /// Claims the task once more; this owner is fenced from here on.
    pub async fn claim_again(&self) -> Claimed {
        self.tasks.claim(&self.key).await.expect("claimed")
    }

    /// Every entry that is kept.
    pub async fn entries(&self) -> Vec<Entry> {
        self.tasks.entries(&self.key).await.expect("read")
    }
}
