//! What a task's checkpoint says, besides the task's own state.

use serde::{Deserialize, Serialize};

use crate::ids::{TaskKey, Version};
use crate::time::Timestamp;

/// Why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointReason {
    /// The task hands over to a new version of its credential.
    HandOver,
    /// The node stops politely.
    Shutdown,
    /// The journal behind the last checkpoint had grown long.
    Compaction,
}

/// One checkpoint: everything needed to go on after the step before `step`.
///
/// **Invariant:** it names the credential's version, never a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Whose it is.
    pub task: TaskKey,
    /// The program's kind, so that no other program ever reads this state.
    pub kind: String,
    /// The step that comes next; every step before it is folded into `state`.
    pub step: u64,
    /// The program's own state (conversation, tool results, intermediate outputs), in its own
    /// encoding.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
    /// The version of the credential that was in use.
    pub version: Option<Version>,
    /// Why it was written.
    pub reason: CheckpointReason,
    /// When it was written, store time.
    pub at: Timestamp,
}
