//! The tasks' store: what each task has done, so that a crash repeats nothing that must not be
//! repeated.
//!
//! **Invariant:** every write carries the task's epoch and the expected number of entries, and is
//! refused if either is stale.

use async_trait::async_trait;
use keybaton_messages::{ProviderName, TaskEpoch, TaskKey, TenantId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoints::CheckpointRef;
use crate::refusal::Refusal;

/// What a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The program's kind; a node that does not know it parks the task.
    pub kind: String,
    /// Whose credential it works with.
    pub provider: ProviderName,
    /// The program's input, in its own encoding.
    #[serde(with = "serde_bytes")]
    pub input: Vec<u8>,
    /// When it was spawned.
    pub spawned_at: Timestamp,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Working, or to be worked on.
    Running,
    /// Waiting for a person or for a node that knows its kind.
    Parked(String),
    /// Finished, with the program's output in its own encoding.
    Done(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Ended without output.
    Failed(String),
    /// Cancelled by its caller.
    Cancelled,
}

/// A task's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Which task.
    pub key: TaskKey,
    /// What it is.
    pub spec: TaskSpec,
    /// Where it stands.
    pub state: TaskState,
    /// Its fencing number.
    pub epoch: TaskEpoch,
    /// Entries written so far, over all of its life; the next write must expect this number.
    pub rev: u64,
}

/// One entry of a task's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// Step `n` is about to be executed, and it has side effects.
    Intent {
        /// The step.
        n: u64,
        /// The idempotency key that its calls carry.
        idem: [u8; 16],
        /// The credential's version.
        version: Version,
        /// When.
        at: Timestamp,
    },
    /// Step `n` was executed.
    Result {
        /// The step.
        n: u64,
        /// The idempotency key that its calls carried.
        idem: [u8; 16],
        /// The credential's version when it ended; `None`: the step used none.
        version: Option<Version>,
        /// The outcome, in the program's encoding.
        #[serde(with = "serde_bytes")]
        outcome: Vec<u8>,
        /// A checkpoint that covers this and all earlier steps, in the same write.
        checkpoint: Option<CheckpointRef>,
        /// When.
        at: Timestamp,
    },
    /// A checkpoint between two steps, covering all steps before `n`.
    Checkpoint {
        /// The step that comes next.
        n: u64,
        /// Where it is.
        checkpoint: CheckpointRef,
        /// When.
        at: Timestamp,
    },
    /// The task's state changed.
    State {
        /// To this.
        state: TaskState,
        /// When.
        at: Timestamp,
    },
}

/// One append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskWrite {
    /// Which task.
    pub key: TaskKey,
    /// The writer's fencing number.
    pub epoch: TaskEpoch,
    /// Entries that must be there before.
    pub expect: u64,
    /// What to append.
    pub entry: Entry,
}

/// A task and what it takes to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its row, with the epoch of this claim.
    pub row: TaskRow,
    /// The newest checkpoint that a row names.
    pub checkpoint: Option<CheckpointRef>,
    /// Entries after that checkpoint, oldest first.
    pub entries: Vec<Entry>,
}

/// A write to the task journal that changed nothing, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TaskError {
    /// The task was claimed by somebody else since.
    #[error("fenced: the task was claimed elsewhere")]
    Fenced,
    /// The task has another number of entries than expected.
    #[error("conflict: the task has another number of entries")]
    Conflict,
    /// A task of this id exists with another kind, provider or input.
    #[error("a task of this id exists already, with another input; choose another id")]
    Taken,
    /// There is no such task.
    #[error("no such task")]
    NotFound,
    /// The value is larger than the port carries.
    #[error("value too large: at most {} bytes", crate::limits::TASK_VALUE_BYTES_MAX)]
    TooLarge,
    /// It may or may not be written. The same write may be tried again.
    #[error("unknown outcome at the task journal: {0}")]
    Unknown(String),
    /// Nothing was written; the store is away.
    #[error("task journal unavailable: {0}")]
    Unavailable(String),
    /// The stored bytes are not what was written.
    #[error("corrupt task journal: {0}")]
    Corrupt(String),
}

/// Keeps tasks and the entries of their steps.
#[async_trait]
pub trait TaskJournal: Send + Sync {
    /// Creates a task in state Running. A task that is there with the same kind, provider and
    /// input answers with its row as it is.
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError>;

    /// Claims a task: epoch + 1, all earlier claims are fenced.
    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError>;

    /// Appends one entry; returns once it is durable. A repeated append of the entry that is
    /// already the last one (same epoch, `expect` and entry) succeeds.
    async fn append(&self, write: &TaskWrite) -> Result<(), TaskError>;

    /// The rows of all tasks, or of one tenant's.
    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal>;

    /// Every entry of a task that is still kept, oldest first, for export and display.
    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError>;

    /// Forgets a task that has ended, with all of its entries.
    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError>;
}
