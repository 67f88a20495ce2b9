//! Secrets, checkpoints, events and the audit's sink.
//!
//! **Invariant:** the trace shows places and key ids, never a secret.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{
    Checkpoint, Event, Label, PairId, SecretVersion, TaskId, TaskKey, TenantId, TraceParent,
};
use keybaton_ports::{
    AuditSink, CheckpointRef, CheckpointStore, EventBus, EventStream, Refusal, SealedAudit, Secret,
    SecretMeta, SecretStore, StoredSecret, Witness,
};

use super::{at_once, ordered, read, shown, write};
use crate::call::{Call, Kind, Port};
use crate::flaws::Flaw;
use crate::world::World;

pub(super) struct SimSecrets(pub(super) Arc<World>);
pub(super) struct SimCheckpoints(pub(super) Arc<World>);
pub(super) struct SimBus(pub(super) Arc<World>);
pub(super) struct SimSink(pub(super) Arc<World>);

fn meta(stored: &StoredSecret) -> String {
    format!("{:?}", stored.meta)
}

fn found(found: &Option<(SecretVersion, StoredSecret)>) -> String {
    let shown = found.as_ref().map(|(version, stored)| (version, &stored.meta));
    format!("{shown:?}")
}

#[async_trait]
impl SecretStore for SimSecrets {
    async fn preflight(&self, pair: &PairId) -> Result<(), Refusal> {
        let call = read(Port::Secrets, "secrets.preflight", self.0.words(|| pair.to_string()));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.secrets.preflight(&pair)), shown).await
    }

    async fn put(&self, meta: &SecretMeta, secret: &Secret) -> Result<SecretVersion, Refusal> {
        let call = ordered(Port::Secrets, "put", self.0.words(|| format!("{meta:?}")));
        let (meta, secret) = (meta.clone(), Secret::new(secret.expose().to_vec())?);
        self.0.ask(call, move |world| at_once(world.secrets.put(&meta, &secret)), shown).await
    }

    async fn read(&self, pair: &PairId, version: SecretVersion) -> Result<StoredSecret, Refusal> {
        let call = read(Port::Secrets, "read", self.0.words(|| format!("{pair} {version}")));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.secrets.read(&pair, version)), meta).await
    }

    async fn find(
        &self,
        pair: &PairId,
        label: &Label,
    ) -> Result<Option<(SecretVersion, StoredSecret)>, Refusal> {
        let call = read(Port::Secrets, "find", self.0.words(|| format!("{pair} {label}")));
        let (pair, label) = (pair.clone(), label.clone());
        self.0.ask(call, move |world| at_once(world.secrets.find(&pair, &label)), found).await
    }

    async fn destroy(&self, pair: &PairId, version: SecretVersion) -> Result<(), Refusal> {
        let call = ordered(Port::Secrets, "destroy", self.0.words(|| format!("{pair} {version}")));
        let pair = pair.clone();
        let destroy = move |world: &Arc<World>| {
            world.check_destroy(&pair, version);
            at_once(world.secrets.destroy(&pair, version))
        };
        self.0.ask(call, destroy, shown).await
    }

    async fn list(&self, pair: &PairId) -> Result<Vec<(SecretVersion, SecretMeta)>, Refusal> {
        let call = read(Port::Secrets, "secrets.list", self.0.words(|| pair.to_string()));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.secrets.list(&pair)), shown).await
    }

    async fn put_witness(&self, pair: &PairId, witness: Witness) -> Result<(), Refusal> {
        let call =
            ordered(Port::Secrets, "witness", self.0.words(|| format!("{pair} {witness:?}")));
        let pair = pair.clone();
        let put = move |world: &Arc<World>| at_once(world.secrets.put_witness(&pair, witness));
        self.0.ask(call, put, shown).await
    }

    async fn witness(&self, pair: &PairId) -> Result<Option<Witness>, Refusal> {
        let call = read(Port::Secrets, "read_witness", self.0.words(|| pair.to_string()));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.secrets.witness(&pair)), shown).await
    }
}

#[async_trait]
impl CheckpointStore for SimCheckpoints {
    async fn preflight(&self) -> Result<(), Refusal> {
        let call = read(Port::Checkpoints, "checkpoints.preflight", String::new());
        self.0.ask(call, |world| at_once(world.checkpoints.preflight()), shown).await
    }

    async fn put(&self, checkpoint: &Checkpoint) -> Result<CheckpointRef, Refusal> {
        let about = self.0.words(|| format!("{} step {}", checkpoint.task, checkpoint.step));
        let call = write(Port::Checkpoints, "checkpoint", about);
        let checkpoint = checkpoint.clone();
        self.0.ask(call, move |world| at_once(world.checkpoints.put(&checkpoint)), shown).await
    }

    async fn get(&self, task: &TaskKey, at: &CheckpointRef) -> Result<Checkpoint, Refusal> {
        let call = read(Port::Checkpoints, "resume", self.0.words(|| task.to_string()));
        let (task, at) = (task.clone(), at.clone());
        self.0.ask(call, move |world| at_once(world.checkpoints.get(&task, &at)), shown).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        task: Option<&TaskId>,
    ) -> Result<Vec<(TaskKey, CheckpointRef)>, Refusal> {
        let about = self.0.words(|| format!("{tenant} {task:?}"));
        let call = read(Port::Checkpoints, "checkpoints.list", about);
        let (tenant, task) = (tenant.clone(), task.cloned());
        let list =
            move |world: &Arc<World>| at_once(world.checkpoints.list(&tenant, task.as_ref()));
        self.0.ask(call, list, shown).await
    }

    async fn delete(&self, task: &TaskKey, at: &CheckpointRef) -> Result<(), Refusal> {
        let call = write(Port::Checkpoints, "checkpoint.delete", self.0.words(|| task.to_string()));
        let (task, at) = (task.clone(), at.clone());
        if self.0.flaw == Some(Flaw::CheckpointsStay) {
            return self.0.ask(call, |_| Ok(()), shown).await;
        }
        let delete = move |world: &Arc<World>| {
            let deleted = at_once(world.checkpoints.delete(&task, &at));
            deleted.inspect(|()| world.check_checkpoint(&task))
        };
        self.0.ask(call, delete, shown).await
    }
}

#[async_trait]
impl EventBus for SimBus {
    async fn publish(&self, event: &Event, _: TraceParent) -> Result<(), Refusal> {
        let about = self.0.words(|| format!("{event:?}"));
        let call = Call { port: Port::Bus, kind: Kind::Order, name: "publish", about };
        self.0.ask(call, |_| Ok(()), shown).await
    }

    /// Nobody listens in this world: losing every event costs time only.
    fn subscribe(&self, _: &TenantId) -> EventStream {
        Box::pin(futures::stream::empty())
    }
}

#[async_trait]
impl AuditSink for SimSink {
    async fn ship(&self, records: &[SealedAudit]) -> Result<(), Refusal> {
        let call = write(Port::Audit, "ship", self.0.words(|| records.len().to_string()));
        let records = records.to_vec();
        let ship = move |world: &Arc<World>| {
            world.shipped(&records);
            Ok(())
        };
        self.0.ask(call, ship, shown).await
    }
}
