//! Where checkpoints lie: one prefix per tenant, encrypted, reached only through a reference that
//! the task journal holds.

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskKey};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Where one checkpoint is. The task journal's row points to it, so that pointer and results move
/// in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointRef {
    /// The sealed bytes themselves: they travel inside the journal row that names them, so that a
    /// hand-over costs one durable write and not two.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Content-addressed in a store of its own.
    Blob {
        /// Path below the tenant's prefix.
        key: String,
        /// SHA-256 of the sealed bytes.
        digest: [u8; 32],
    },
}

/// Keeps checkpoints.
#[async_trait]
pub trait CheckpointStore: Send + Sync {
    /// Asks whether a put can succeed now. Changes nothing.
    async fn preflight(&self) -> Result<(), Refusal>;

    /// Seals and stores a checkpoint. It is found again only once a journal row names the
    /// reference.
    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal>;

    /// Opens a checkpoint of this task. Bytes of another task or tenant, cut short or changed are
    /// `Corrupt`, whatever the reference says.
    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal>;

    /// Deletes what a reference points to; deleting one that is gone succeeds.
    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal>;
}
