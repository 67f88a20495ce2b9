//! Where checkpoints lie: one prefix per tenant, encrypted, reached only through a reference that
//! the task journal holds, or inside the journal's row, which is encrypted itself.

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskId, TaskKey, TenantId};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Where one checkpoint is. The task journal's row points to it, so that pointer and results move
/// in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointRef {
    /// The encoded checkpoint itself: it travels inside the journal row that names it, so that a
    /// hand-over costs one durable write and not two. The row keeps it secret and whole, as it does
    /// the outcomes of steps.
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

    /// Stores a checkpoint. It is found again only once a journal row names the reference. What does
    /// not go with its row is never stored under the same reference again, so that a deletion which
    /// is carried out late takes nothing else.
    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal>;

    /// Opens a checkpoint of this task. Bytes of another task or tenant or cut short are `Corrupt`,
    /// whatever the reference says; so are changed ones, unless a journal's row vouches for them.
    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal>;

    /// What lies in the store of a tenant, or of one of its tasks, in any order: also what no row names
    /// any more, or never did. Nothing where checkpoints go with the rows that name them.
    async fn list(
        &self,
        tenant: &TenantId,
        task: Option<&TaskId>,
    ) -> Result<Vec<(TaskKey, CheckpointRef)>, Refusal>;

    /// Deletes what a reference points to; deleting one that is gone succeeds.
    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal>;
}
