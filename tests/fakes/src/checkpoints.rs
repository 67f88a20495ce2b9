//! A checkpoint store in memory, beside the journal and not inside its rows, as the large ones are.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use keybaton_messages::{Checkpoint, TaskId, TaskKey, TenantId, wire};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};
use parking_lot::Mutex;

use crate::faults::Faults;

const SCHEMA: u16 = 1;

#[derive(Default)]
struct Blobs {
    /// How many were ever put: no reference is given twice.
    put: u64,
    by_path: BTreeMap<String, (TaskKey, Vec<u8>)>,
}

/// The fake. Clones of its `Arc` are views of one store, as after a restart.
#[derive(Default)]
pub struct FakeCheckpointStore {
    blobs: Mutex<Blobs>,
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
            let mut blobs = self.blobs.lock();
            blobs.put += 1;
            let key = format!("{}/{}-{}", checkpoint.task, checkpoint.step, blobs.put);
            blobs.by_path.insert(key.clone(), (checkpoint.task.clone(), bytes));
            Ok(CheckpointRef::Blob { key, digest })
        })
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let CheckpointRef::Blob { key, digest } = at else {
            return Err(corrupt("a reference of another store"));
        };
        let blobs = self.blobs.lock();
        let (_, bytes) = blobs
            .by_path
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

    async fn list(
        &self,
        tenant: &TenantId,
        task: Option<&TaskId>,
    ) -> Result<Vec<(TaskKey, CheckpointRef)>, Refusal> {
        let is_asked = |of: &TaskKey| of.tenant == *tenant && task.is_none_or(|it| of.task == *it);
        let blobs = self.blobs.lock();
        let asked = blobs.by_path.iter().filter(|(_, (of, _))| is_asked(of));
        let named = asked.map(|(key, (of, bytes))| {
            (of.clone(), CheckpointRef::Blob { key: key.clone(), digest: digest_of(bytes) })
        });
        Ok(named.collect())
    }

    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal> {
        self.faults.pass(|| {
            if let CheckpointRef::Blob { key, .. } = at
                && key.starts_with(&format!("{task}/"))
            {
                self.blobs.lock().by_path.remove(key);
            }
            Ok(())
        })
    }
}
