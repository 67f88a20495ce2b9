//! Checkpoints that travel inside the journal row that names them.
//!
//! Putting one only encodes it; what makes it durable, keeps it secret and binds it to its tenant,
//! its task and its place there is the row it stands in, so that a hand-over costs one durable
//! write, and one encryption, and not two.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskId, TaskKey, TenantId, wire};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};

use crate::limits::INLINE_CHECKPOINT_BYTES_MAX;
use crate::store::Store;

const CHECKPOINT_SCHEMA: u16 = 1;

/// The checkpoint store of one embedded store.
pub struct EmbeddedCheckpoints {
    store: Arc<Store>,
}

impl EmbeddedCheckpoints {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl CheckpointStore for EmbeddedCheckpoints {
    async fn preflight(&self) -> Result<(), Refusal> {
        self.store.check_writable()
    }

    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal> {
        let too_large = || Refusal::denied(Denial::TooLarge, "the checkpoint is larger than 1 MiB");
        if checkpoint.state.len() > TASK_VALUE_BYTES_MAX {
            return Err(too_large());
        }
        let bytes = wire::encode(CHECKPOINT_SCHEMA, checkpoint).map_err(|_| too_large())?;
        if bytes.len() > INLINE_CHECKPOINT_BYTES_MAX {
            return Err(too_large());
        }
        Ok(CheckpointRef::Inline(bytes))
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let corrupt = |why: String| Refusal::denied(Denial::Corrupt, format!("checkpoint: {why}"));
        let CheckpointRef::Inline(bytes) = at else {
            return Err(corrupt("it lies in another checkpoint store".into()));
        };
        if bytes.len() > INLINE_CHECKPOINT_BYTES_MAX {
            return Err(corrupt("it is larger than any that was written".into()));
        }
        let checkpoint: Checkpoint =
            wire::decode(CHECKPOINT_SCHEMA, bytes).map_err(|error| corrupt(error.to_string()))?;
        if checkpoint.task == *task {
            Ok(checkpoint)
        } else {
            Err(corrupt("it belongs to another task".into()))
        }
    }

    async fn list(
        &self,
        _tenant: &TenantId,
        _task: Option<&TaskId>,
    ) -> Result<Vec<(TaskKey, CheckpointRef)>, Refusal> {
        Ok(Vec::new())
    }

    async fn delete(&self, _task: &TaskKey, _at: &CheckpointRef) -> Result<(), Refusal> {
        // It goes with the row that it stands in.
        Ok(())
    }
}
