//! A running node: spawn tasks, trigger rotations, look, stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashSet;
use keybaton_actors::audit_shipper;
use keybaton_actors::broker::{DrainReport, HolderView};
use keybaton_actors::credential::CredentialHandle;
use keybaton_actors::gauges::keep_gauges;
use keybaton_actors::scheduler::SchedulerMessage;
use keybaton_actors::shared::Shared;
use keybaton_actors::supervisor::Supervisor;
use keybaton_actors::view::PairView;
use keybaton_messages::{
    PairId, ProviderName, RotationId, SecretVersion, TaskId, TenantId, TriggerId, Version,
};
use keybaton_ports::{Secret, SecretMeta};
use keybaton_rotation::{Order, PairRecord, Phase, Reason, Reply, Trigger, Want};
use ractor::Actor;
use tokio::sync::{oneshot, watch};

use crate::asking::ask;
use crate::builder::{AUDIT_FILE, NodeBuilder};
use crate::error::{OrderError, StartError};
use crate::keeper::{admit_unfinished, keep, stop_with_store};
use crate::limits::{LAST_DUTY_MAX, STOPPED_LOOK_EVERY};
use crate::status_server::StatusServer;
use crate::stores::{StoreNames, Stores, first_stop};

/// One keybaton node in this process. Dropped without [`Node::shutdown`] it stops at once, as after
/// a kill: the journal has everything.
pub struct Node {
    shared: Arc<Shared>,
    stores: Stores,
    dir: PathBuf,
    pub(crate) provisioned: DashSet<PairId>,
    keeper: tokio::task::JoinHandle<()>,
    failure: tokio::task::JoinHandle<()>,
    gauges: tokio::task::JoinHandle<()>,
    _status: Option<StatusServer>,
}

impl Node {
    /// Begins to put a node together on a data directory, which is made if it is not there.
    #[must_use]
    pub fn builder(dir: impl AsRef<Path>) -> NodeBuilder {
        NodeBuilder::new(dir.as_ref())
    }

    pub(crate) async fn start(
        shared: Arc<Shared>,
        stores: Stores,
        dir: &Path,
        status_socket: bool,
    ) -> Result<Self, StartError> {
        let pairs_at_work = admit_unfinished(&shared).await?;
        let actors = |error: ractor::SpawnErr| StartError::Actors(error.to_string());
        let (root, ended) =
            Actor::spawn(None, Supervisor(shared.clone()), ()).await.map_err(actors)?;
        let keeper = tokio::spawn(keep(shared.clone(), root, ended));
        let gauges = tokio::spawn(keep_gauges(shared.clone()));
        let failure = tokio::spawn(stop_with_store(shared.clone(), stores.stops()));
        let status = if status_socket {
            let server =
                StatusServer::open(dir, shared.clone(), &stores).map_err(StartError::Status)?;
            Some(server)
        } else {
            None
        };
        let node = Self {
            shared,
            stores,
            dir: dir.to_owned(),
            provisioned: DashSet::new(),
            keeper,
            failure,
            gauges,
            _status: status,
        };
        for pair in pairs_at_work {
            if node.shared.ports.providers.contains_key(&pair.provider) {
                node.ask_for_first_key(pair);
            }
        }
        Ok(node)
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file to which sealed audit records are shipped.
    #[must_use]
    pub fn audit_file(&self) -> PathBuf {
        self.dir.join(AUDIT_FILE)
    }

    /// What the node owns, for benches and tests that look inside.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks for the pair's first key and waits until it is active.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn provision(&self, tenant: &str, provider: &str) -> Result<(), OrderError> {
        let pair = self.pair(tenant, provider)?;
        self.provisioned.insert(pair.clone());
        self.trigger(&pair, "provision", Want::Provision).await?;
        self.wait_for(&pair, |view| {
            view.record.as_ref().is_some_and(|record| record.active.is_some())
        })
        .await
    }

    /// Asks for a new key in place of the active one. Returns once the rotation is durable; it
    /// goes on by itself.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn rotate(
        &self,
        tenant: &str,
        provider: &str,
        reason: &str,
    ) -> Result<RotationId, OrderError> {
        let pair = self.pair(tenant, provider)?;
        let reason = Reason::Requested(reason.to_owned());
        let want = Want::Rotate { target: None, reason };
        self.rotation_of(&pair, &self.fresh_id("rotate"), want).await
    }

    /// The active key has leaked: replace it at once, and revoke it by the deadline.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn emergency(
        &self,
        tenant: &str,
        provider: &str,
        reason: &str,
        deadline: Option<Duration>,
    ) -> Result<RotationId, OrderError> {
        let pair = self.pair(tenant, provider)?;
        let reason = Reason::Requested(reason.to_owned());
        let want = Want::Emergency { compromised: None, deadline, reason };
        self.rotation_of(&pair, &self.fresh_id("emergency"), want).await
    }

    /// Brings in a key that exists already; it becomes the active one once it was tried out.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn import(
        &self,
        tenant: &str,
        provider: &str,
        key_id: &str,
        secret: Secret,
    ) -> Result<RotationId, OrderError> {
        let pair = self.pair(tenant, provider)?;
        let key_id = keybaton_messages::ProviderKeyId::new(key_id)?;
        let fp = self.shared.ports.fingerprints.fingerprint(&secret);
        let meta = SecretMeta {
            pair: pair.clone(),
            label: None,
            key_id: key_id.clone(),
            issued_at: self.shared.ports.clock.now(),
            expires_at: None,
        };
        let stored = self.shared.ports.secrets.put(&meta, &secret).await?;
        let want = Want::Import { key_id, secret: stored, fp };
        let imported = self.rotation_of(&pair, &self.fresh_id("import"), want).await;
        // Only a clear refusal: an import that was not answered may still be carried out.
        if matches!(imported, Err(OrderError::Refused(_))) {
            self.forget_refused(&pair, stored).await?;
        }
        imported
    }

    /// A secret that nothing names must not stay. One that was stored before, by an import of the
    /// same key that the record took, answers with its own number and must not go.
    async fn forget_refused(&self, pair: &PairId, secret: SecretVersion) -> Result<(), OrderError> {
        let stored = self.shared.ports.journal.load(pair).await?;
        let is_named = stored.is_some_and(|stored| {
            let mut versions = stored.record.versions.values();
            versions.any(|entry| entry.secret == Some(secret))
        });
        if !is_named {
            self.shared.ports.secrets.destroy(pair, secret).await?;
        }
        Ok(())
    }

    /// Gives an operator's order to a pair.
    ///
    /// # Errors
    /// [`OrderError::Refused`] with what to do instead.
    pub async fn order(
        &self,
        tenant: &str,
        provider: &str,
        order: Order,
    ) -> Result<(), OrderError> {
        let pair = self.pair(tenant, provider)?;
        let (port, answer) = oneshot::channel();
        self.shared.scheduler.cast(SchedulerMessage::Order(pair, order, port));
        match answer.await.map_err(|_| OrderError::NoAnswer)? {
            Reply::Refused(why) => Err(OrderError::Refused(why)),
            _ => Ok(()),
        }
    }

    /// Sends a trigger under the caller's id; the same id twice is the same trigger.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn trigger(&self, pair: &PairId, id: &str, want: Want) -> Result<Reply, OrderError> {
        let trigger = Trigger { id: TriggerId::new(id)?, want };
        match ask(&Arc::downgrade(&self.shared), pair, &trigger).await? {
            Reply::Refused(why) => Err(OrderError::Refused(why)),
            reply => Ok(reply),
        }
    }

    /// Waits until a rotation has ended. One that another rotation has replaced before anybody here
    /// saw its end has ended, too; its audit records tell how.
    ///
    /// # Errors
    /// [`OrderError::Failed`] when it ended without handing over.
    pub async fn finished(&self, id: &RotationId) -> Result<(), OrderError> {
        // A pair without work is not taken up at a start: nobody would ever show it.
        let is_shown = self.shared.views.watch(&id.pair).borrow().record.is_some();
        if !is_shown
            && let Some(stored) = self.shared.ports.journal.load(&id.pair).await?
            && let Some(end) = end_in_record(id, &stored.record)
        {
            return end;
        }
        let mut end = None;
        self.wait_for(&id.pair, |view| {
            end = end_seen(id, view);
            end.is_some()
        })
        .await?;
        end.unwrap_or(Ok(()))
    }

    /// Follows a pair.
    #[must_use]
    pub fn watch(&self, pair: &PairId) -> watch::Receiver<PairView> {
        self.shared.views.watch(pair)
    }

    /// Who holds a version of a pair on this node.
    #[must_use]
    pub fn holders(&self, pair: &PairId, version: Version) -> Vec<HolderView> {
        self.shared.broker.cell(pair).holders(version)
    }

    /// The last drains of a pair on this node.
    #[must_use]
    pub fn drains(&self, pair: &PairId) -> Vec<DrainReport> {
        self.shared.broker.cell(pair).drains()
    }

    /// A credential handle for code that is not a task.
    ///
    /// # Errors
    /// [`OrderError`] for a bad name or an unknown provider.
    pub fn credential(
        &self,
        tenant: &str,
        provider: &str,
        holder: &str,
    ) -> Result<CredentialHandle, OrderError> {
        let pair = self.pair(tenant, provider)?;
        let holder = TaskId::new(holder)?;
        let call_time_max = self.shared.ports.providers[&pair.provider].policy.call_time_max;
        Ok(CredentialHandle::new(self.shared.clone(), &pair, holder, call_time_max))
    }

    /// A checked pair of this node.
    ///
    /// # Errors
    /// [`OrderError::Name`] or [`OrderError::UnknownProvider`].
    pub fn pair(&self, tenant: &str, provider: &str) -> Result<PairId, OrderError> {
        let pair = PairId::new(TenantId::new(tenant)?, ProviderName::new(provider)?);
        if self.shared.ports.providers.contains_key(&pair.provider) {
            Ok(pair)
        } else {
            Err(OrderError::UnknownProvider(provider.to_owned()))
        }
    }

    /// Stops politely: no new tasks, each task stops at its next step boundary with a checkpoint,
    /// then the actors. `false` when `patience` ran out first; the journal has everything anyway.
    pub async fn shutdown(self, patience: Duration) -> bool {
        self.shared.tasks.stop_all();
        let all_stopped = async {
            while self.shared.tasks.at_work() > 0 {
                tokio::time::sleep(STOPPED_LOOK_EVERY).await;
            }
        };
        let polite = tokio::time::timeout(patience, all_stopped).await.is_ok();
        let shipped = audit_shipper::flush(&self.shared);
        let _ = tokio::time::timeout(LAST_DUTY_MAX, shipped).await;
        if let Some(root) = self.shared.supervisor.get() {
            let _ = root.stop_and_wait(None, Some(LAST_DUTY_MAX)).await;
        }
        polite
    }

    /// Resolves when a store has stopped for good, or another process has taken the journal, with
    /// what it said. The process should then end: nothing is written any more, and a new start
    /// recovers. A server that is only away never resolves it; the node goes on when it is back.
    pub async fn failed(&self) -> String {
        first_stop(self.stores.stops()).await
    }

    /// Which stores the node works on.
    #[must_use]
    pub fn stores(&self) -> &StoreNames {
        &self.stores.names
    }

    fn fresh_id(&self, what: &str) -> String {
        let bits = self.shared.ports.entropy.bits();
        format!("{what}-{bits:016x}")
    }

    async fn rotation_of(
        &self,
        pair: &PairId,
        id: &str,
        want: Want,
    ) -> Result<RotationId, OrderError> {
        match self.trigger(pair, id, want).await? {
            Reply::Rotation(rotation) => Ok(rotation),
            Reply::AlreadyDone | Reply::Done => {
                Err(OrderError::Refused("nothing to do: a newer key is active already".into()))
            }
            Reply::Refused(why) => Err(OrderError::Refused(why)),
        }
    }

    async fn wait_for(
        &self,
        pair: &PairId,
        mut is_so: impl FnMut(&PairView) -> bool,
    ) -> Result<(), OrderError> {
        let mut stopped = None;
        let mut views = self.shared.views.watch(pair);
        views
            .wait_for(|view| {
                stopped.clone_from(&view.stopped);
                stopped.is_some() || is_so(view)
            })
            .await
            .map_err(|_| OrderError::NoAnswer)?;
        match stopped {
            Some(why) => Err(OrderError::Refused(format!("the pair is stopped: {why}"))),
            None => Ok(()),
        }
    }
}

/// How a rotation ended, as it was seen here; `None` while it goes on. The record alone would not
/// do: it forgets a failed rotation as soon as the next one begins.
fn end_seen(id: &RotationId, view: &PairView) -> Option<Result<(), OrderError>> {
    let mut seen = view.timeline.iter().rev().filter(|at| at.rotation == *id);
    seen.find_map(|at| end_of(id, &at.phase)).or_else(|| end_in_record(id, view.record.as_ref()?))
}

/// How a rotation ended, as far as its pair's record tells.
fn end_in_record(id: &RotationId, record: &PairRecord) -> Option<Result<(), OrderError>> {
    let rotation = record.rotation.as_ref()?;
    if rotation.id.n > id.n {
        return Some(Ok(()));
    }
    (rotation.id == *id).then(|| end_of(id, &rotation.phase))?
}

/// What a phase says about the end of its rotation.
fn end_of(id: &RotationId, phase: &Phase) -> Option<Result<(), OrderError>> {
    match phase {
        Phase::Failed { cause } => {
            Some(Err(OrderError::Failed { id: id.clone(), cause: format!("{cause:?}") }))
        }
        phase => phase.is_final().then_some(Ok(())),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
        self.failure.abort();
        self.gauges.abort();
        if let Some(root) = self.shared.supervisor.get() {
            root.stop(None);
        }
        self.shared.tasks.leave_all();
    }
}

#[cfg(test)]
mod tests {
    use keybaton_actors::view::PhaseAt;
    use keybaton_messages::Timestamp;
    use keybaton_rotation::{Cause, End};

    use super::*;

    #[test]
    fn a_failed_rotation_has_failed_also_after_the_next_one_has_begun() {
        let pair = PairId::new("acme".parse().expect("a name"), "fake".parse().expect("a name"));
        let rotation = |n| RotationId { pair: pair.clone(), n };
        let seen = tokio::time::Instant::now();
        let at = |n, phase| PhaseAt { rotation: rotation(n), phase, at: Timestamp(n), seen };
        let view = PairView {
            timeline: vec![
                at(1, Phase::Failed { cause: Cause::VerifyFailed }),
                at(2, Phase::Complete { end: End::Rotated }),
                at(3, Phase::Issuing { new: Version(4) }),
            ],
            ..PairView::default()
        };
        assert!(matches!(end_seen(&rotation(1), &view), Some(Err(OrderError::Failed { .. }))));
        assert!(matches!(end_seen(&rotation(2), &view), Some(Ok(()))));
        assert!(end_seen(&rotation(3), &view).is_none(), "it goes on");
    }
}
