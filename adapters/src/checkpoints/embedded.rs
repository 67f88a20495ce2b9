//! Checkpoints that travel inside the journal row that names them.
//!
//! Putting one seals it under a key of its tenant, bound to its task; what makes it durable is the
//! row it stands in, so that a hand-over costs one durable write and not two.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskKey};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};

use crate::limits::INLINE_CHECKPOINT_BYTES_MAX;
use crate::store::{Place, Purpose, RowKey, Sealer, Store, Whose};

const TABLE: &str = "checkpoints";
const CHECKPOINT_SCHEMA: u16 = 1;

/// The checkpoint store of one embedded store.
pub struct EmbeddedCheckpoints {
    store: Arc<Store>,
    sealer: Arc<Sealer>,
}

impl EmbeddedCheckpoints {
    pub(crate) fn new(store: Arc<Store>, sealer: Arc<Sealer>) -> Self {
        Self { store, sealer }
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
        let key = RowKey::task(&checkpoint.task);
        let sealed = self
            .sealer
            .seal_value(whose(&checkpoint.task), &place(&key), checkpoint)
            .map_err(|_| too_large())?;
        if sealed.len() > INLINE_CHECKPOINT_BYTES_MAX {
            return Err(too_large());
        }
        Ok(CheckpointRef::Inline(sealed))
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let corrupt = |why: String| Refusal::denied(Denial::Corrupt, format!("checkpoint: {why}"));
        let CheckpointRef::Inline(sealed) = at else {
            return Err(corrupt("it lies in another checkpoint store".into()));
        };
        if sealed.len() > INLINE_CHECKPOINT_BYTES_MAX {
            return Err(corrupt("it is larger than any that was written".into()));
        }
        let key = RowKey::task(task);
        let checkpoint: Checkpoint = self
            .sealer
            .open_value(whose(task), &place(&key), sealed)
            .map_err(|broken| corrupt(broken.to_string()))?;
        if checkpoint.task == *task {
            Ok(checkpoint)
        } else {
            Err(corrupt("it belongs to another task".into()))
        }
    }

    async fn delete(&self, _task: &TaskKey, _at: &CheckpointRef) -> Result<(), Refusal> {
        // It goes with the row that it stands in.
        Ok(())
    }
}

pub(super) fn whose(task: &TaskKey) -> Whose<'_> {
    Whose::Tenant(Purpose::Checkpoints, &task.tenant)
}

pub(super) fn place(key: &RowKey) -> Place<'_> {
    Place { table: TABLE, key: key.as_bytes(), clear: &[], schema: CHECKPOINT_SCHEMA }
}
