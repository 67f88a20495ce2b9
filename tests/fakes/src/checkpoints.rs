//! A checkpoint store in memory, content-addressed as the large ones are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskKey, wire};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};
use parking_lot::Mutex;

use crate::faults::Faults;

const SCHEMA: u16 = 1;

/// The fake. Clones of its `Arc` are views of one store, as after a restart.
#[derive(Default)]
pub struct FakeCheckpointStore {
    /// By the path of the blob.
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// What goes wrong with the next puts, deletions and preflights.
    pub faults: Faults,
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (salt, part) in digest.chunks_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (salt, bytes).hash(&mut hasher);
        part.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    digest
}

fn corrupt(why: &str) -> Refusal {
    Refusal::denied(Denial::Corrupt, why)
}

#[async_trait]
impl CheckpointStore for FakeCheckpointStore {
    async fn preflight(&self) -> Result<(), Refusal> {
        self.faults.pass(|| Ok(()))
    }

    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal> {
        self.faults.pass(|| {
            if checkpoint.state.len() > TASK_VALUE_BYTES_MAX {
                return Err(Refusal::denied(Denial::TooLarge, "larger than 1 MiB"));
            }
            let bytes = wire::encode(SCHEMA, checkpoint)
                .map_err(|error| Refusal::denied(Denial::TooLarge, error.to_string()))?;
            let digest = digest_of(&bytes);
            // By its content: a row may name an earlier checkpoint of the same step.
            let mark = u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"));
            let key = format!("{}/{}-{mark:016x}", checkpoint.task, checkpoint.step);
            self.blobs.lock().insert(key.clone(), bytes);
            Ok(CheckpointRef::Blob { key, digest })
        })
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let CheckpointRef::Blob { key, digest } = at else {
            return Err(corrupt("a reference of another store"));
        };
        let blobs = self.blobs.lock();
        let bytes = blobs
            .get(key)
            .ok_or_else(|| Refusal::denied(Denial::NotFound, "no such checkpoint"))?;
        if digest_of(bytes) != *digest {
            return Err(corrupt("the bytes are not what was written"));
        }
        let checkpoint: Checkpoint =
            wire::decode(SCHEMA, bytes).map_err(|error| corrupt(&error.to_string()))?;
        if checkpoint.task == *task {
            Ok(checkpoint)
        } else {
            Err(corrupt("it belongs to another task"))
        }
    }

    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal> {
        self.faults.pass(|| {
            if let CheckpointRef::Blob { key, .. } = at
                && key.starts_with(&format!("{task}/"))
            {
                self.blobs.lock().remove(key);
            }
            Ok(())
        })
    }
}
