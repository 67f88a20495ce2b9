//! Opens, closes and returns this node's grants.
//!
//! For each pair it compares what the record says with what this node hands out, and mends the
//! difference: one errand per pair at a time.
//!
//! **Invariant:** a grant is returned after its slot is closed and empty, never before.
//! **Invariant:** one errand per pair at a time, over all lives of this actor.
//! **Invariant:** decides nothing about revoking; it only tells what this node holds.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use keybaton_messages::{GrantId, PairId, Rev, TaskId, TaskKey, Version, VersionStatus};
use keybaton_ports::{GrantError, GrantRow, Standing, crash_point};
use keybaton_rotation::{Gate, Health, Input, Pause};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::audit_shipper::AuditMessage;
use crate::broker::PairCell;
use crate::limits::{
    KEY_DEAD_PROBE_EVERY, KEY_DEAD_PROBES, QUESTION_MAX, STORE_RETRY_MAX, STORE_RETRY_MIN,
};
use crate::rotation_actor::RotationMessage;
use crate::shared::Shared;

/// What the BrokerActor is told.
pub enum BrokerMessage {
    /// Look at this pair: its record changed, somebody waits, or a version drained.
    Attend(PairId),
    /// The errand of a pair ended; `again`: the store was away, try again.
    Attended {
        /// Which pair.
        pair: PairId,
        /// Whether to try again, and when.
        again: Option<std::time::Duration>,
    },
    /// Ask the session holders of a version to hand over at their next boundary.
    Signal(PairId, Version),
    /// Cut the calls of a closed version.
    Cut(PairId, Version),
    /// A provider answered 401 to a call of this task.
    Refused {
        /// Which pair.
        pair: PairId,
        /// Under which version.
        version: Version,
        /// Whose call.
        task: TaskId,
    },
    /// The probes behind a report ended.
    Verdict {
        /// Which pair.
        pair: PairId,
        /// Which version.
        version: Version,
        /// Dead when every probe said so.
        health: Health,
    },
}

impl ractor::Message for BrokerMessage {}

/// Owns the errands; slots, secrets and fence belong to the node.
pub struct BrokerActor(pub Arc<Shared>);

/// Errands under way and reports gathered.
#[derive(Default)]
pub struct BrokerState {
    desks: HashMap<PairId, Desk>,
    reports: HashMap<(PairId, Version), Reports>,
}

#[derive(Default)]
struct Desk {
    busy: bool,
    asked_again: bool,
    failures: u32,
}

#[derive(Default)]
struct Reports {
    tasks: HashSet<TaskId>,
    probing: bool,
}

impl Actor for BrokerActor {
    type Msg = BrokerMessage;
    type State = BrokerState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<BrokerMessage>,
        (): (),
    ) -> Result<BrokerState, ActorProcessingErr> {
        self.0.broker_inbox.set(myself.clone());
        for cell in self.0.broker.cells() {
            myself.cast(BrokerMessage::Attend(cell.pair.clone()))?;
        }
        Ok(BrokerState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<BrokerMessage>,
        message: BrokerMessage,
        state: &mut BrokerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BrokerMessage::Attend(pair) => self.attend(&myself, state, pair),
            BrokerMessage::Attended { pair, again } => {
                self.attended(&myself, state, pair, again);
            }
            BrokerMessage::Signal(pair, version) => self.signal(&pair, version),
            BrokerMessage::Cut(pair, version) => self.cut(&pair, version),
            BrokerMessage::Refused { pair, version, task } => {
                self.refused(&myself, state, pair, version, task);
            }
            BrokerMessage::Verdict { pair, version, health } => {
                self.verdict(state, pair, version, health);
            }
        }
        Ok(())
    }
}

impl BrokerActor {
    fn attend(&self, myself: &ActorRef<BrokerMessage>, state: &mut BrokerState, pair: PairId) {
        let desk = state.desks.entry(pair.clone()).or_default();
        if desk.busy {
            desk.asked_again = true;
            return;
        }
        desk.busy = true;
        let errand = Errand {
            shared: self.0.clone(),
            cell: self.0.broker.cell(&pair),
            retry: backoff(desk.failures),
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(errand.run()).catch_unwind().await;
            let again = ended.unwrap_or(Some(STORE_RETRY_MAX));
            // A BrokerActor that died meanwhile attends every pair when it starts again.
            let _ = myself.cast(BrokerMessage::Attended { pair, again });
        });
    }

    fn attended(
        &self,
        myself: &ActorRef<BrokerMessage>,
        state: &mut BrokerState,
        pair: PairId,
        again: Option<std::time::Duration>,
    ) {
        let desk = state.desks.entry(pair.clone()).or_default();
        desk.busy = false;
        desk.failures = if again.is_some() { desk.failures.saturating_add(1) } else { 0 };
        if let Some(after) = again {
            let _timer = myself.send_after(after, move || BrokerMessage::Attend(pair));
        } else if std::mem::take(&mut desk.asked_again) {
            self.attend(myself, state, pair);
        }
    }

    /// A version that is not closed yet is left alone: its holders would find nothing to do. They
    /// are woken by its closing.
    fn signal(&self, pair: &PairId, version: Version) {
        let cell = self.0.broker.cell(pair);
        if !cell.is_open(version) {
            wake_holders(&self.0, &cell, version);
        }
    }

    fn cut(&self, pair: &PairId, version: Version) {
        let cell = self.0.broker.cell(pair);
        tracing::warn!(%pair, %version, holders = cell.holder_count(version), "cutting calls");
        cell.cut(version);
        wake_holders(&self.0, &cell, version);
    }

    fn refused(
        &self,
        myself: &ActorRef<BrokerMessage>,
        state: &mut BrokerState,
        pair: PairId,
        version: Version,
        task: TaskId,
    ) {
        let reports = state.reports.entry((pair.clone(), version)).or_default();
        reports.tasks.insert(task);
        if std::mem::replace(&mut reports.probing, true) {
            return;
        }
        let shared = self.0.clone();
        let myself = myself.clone();
        tokio::spawn(async move {
            let probes = AssertUnwindSafe(confirm_dead(&shared, &pair, version)).catch_unwind();
            // Without an answer the next report would find a probe that never ends.
            let health = match tokio::time::timeout(QUESTION_MAX, probes).await {
                Ok(Ok(health)) => health,
                Ok(Err(_)) | Err(_) => Health::Unknown,
            };
            let _ = myself.cast(BrokerMessage::Verdict { pair, version, health });
        });
    }

    fn verdict(&self, state: &mut BrokerState, pair: PairId, version: Version, health: Health) {
        let reports = state.reports.remove(&(pair.clone(), version)).unwrap_or_default();
        match health {
            Health::Dead => {}
            // Not known to be dead: whoever waits for a newer version need not wait any longer.
            Health::Alive | Health::Unknown | Health::MissingScopes => {
                return self.0.broker.cell(&pair).note_not_dead();
            }
        }
        let reports = u32::try_from(reports.tasks.len()).unwrap_or(u32::MAX);
        tracing::warn!(%pair, %version, reports, "the provider refuses the active key");
        let input = Input::KeyDead { version, reports };
        self.0.to_pair(&pair, RotationMessage::Happened(input));
    }
}

/// Wakes the holders of a version that rest, so that they hand over before their rest is over.
fn wake_holders(shared: &Shared, cell: &PairCell, version: Version) {
    for holder in cell.holders(version) {
        let tenant = cell.pair.tenant.clone();
        shared.tasks.wake(&TaskKey { tenant, task: holder.task });
    }
}

/// Dead if every probe says so.
async fn confirm_dead(shared: &Shared, pair: &PairId, version: Version) -> Health {
    let Some(open) = shared.broker.cell(pair).opened(version) else {
        return Health::Unknown;
    };
    let Some(entry) = shared.ports.providers.get(&pair.provider) else {
        return Health::Unknown;
    };
    for probe in 0..KEY_DEAD_PROBES {
        if probe > 0 {
            tokio::time::sleep(KEY_DEAD_PROBE_EVERY).await;
        }
        let health = entry.provider.probe(&pair.tenant, &open.secret).await;
        if health != Health::Dead {
            return health;
        }
    }
    Health::Dead
}

fn backoff(failures: u32) -> std::time::Duration {
    STORE_RETRY_MIN.saturating_mul(1 << failures.min(16)).min(STORE_RETRY_MAX)
}

/// One look at a pair, and the mending of what differs.
struct Errand {
    shared: Arc<Shared>,
    cell: Arc<PairCell>,
    retry: std::time::Duration,
}

impl Errand {
    /// `Some`: the store was away, try again after this.
    async fn run(self) -> Option<std::time::Duration> {
        // An errand of a BrokerActor that died goes on, with what it read before its end; the next
        // one must not overtake it.
        let cell = self.cell.clone();
        let mut highest = cell.errand.lock().await;
        match self.mend(&mut highest).await {
            Ok(()) => None,
            Err(GrantError::NoPair) => {
                self.cell.set_why("no key was ever asked for; provision the pair");
                None
            }
            Err(GrantError::Fenced) => {
                self.shared.fence.raise();
                self.cell.set_why("this node was fenced");
                None
            }
            Err(GrantError::Corrupt(why)) => {
                tracing::error!(pair = %self.cell.pair, why, "corrupt record");
                self.cell.set_why(format!("the record is corrupt: {why}"));
                None
            }
            Err(error) => {
                tracing::warn!(pair = %self.cell.pair, %error, "grants could not be mended yet");
                self.cell.set_why(error.to_string());
                Some(self.retry)
            }
        }
    }

    async fn mend(&self, rev: &mut Option<Rev>) -> Result<(), GrantError> {
        let mut standing =
            self.ask(self.shared.ports.journal.standing(&self.cell.pair, &self.shared.life).await)?;
        if rev.is_some_and(|seen| standing.rev < seen) {
            return Ok(());
        }
        *rev = Some(standing.rev);
        self.close_stale(&standing);
        if let Some(granted) = self.grant_wanted(&standing).await? {
            standing = granted;
            *rev = (*rev).max(Some(standing.rev));
        }
        self.open_granted(&standing).await?;
        self.close_stale(&standing);
        self.return_emptied(&standing).await?;
        self.cell.forget_drained();
        Ok(())
    }

    /// A refused operation still tells how the pair stands.
    fn ask(&self, answer: Result<Standing, GrantError>) -> Result<Standing, GrantError> {
        match answer {
            Err(GrantError::Refused(standing)) => Ok(*standing),
            other => other,
        }
    }

    /// Closes what is not active any more. The next version is opened first where it can be, so
    /// that holders find it at once.
    fn close_stale(&self, standing: &Standing) {
        let active = standing.active.as_ref().map(|(version, ..)| *version);
        let next_is_ready = active.is_none_or(|version| self.cell.is_open(version));
        let granted = active.is_some_and(|version| holds(standing, version));
        if next_is_ready || !granted {
            let shared = self.shared.clone();
            let pair = self.cell.pair.clone();
            let closed = self.cell.close_except(active, move |_| {
                shared.broker_inbox.cast(BrokerMessage::Attend(pair.clone()));
            });
            for version in closed {
                crash_point::reach("slot.closed", &self.cell.pair.tenant);
                wake_holders(&self.shared, &self.cell, version);
            }
        }
        self.cell.set_why(why(standing));
    }

    async fn grant_wanted(&self, standing: &Standing) -> Result<Option<Standing>, GrantError> {
        let Some((version, ..)) = standing.active else {
            return Ok(None);
        };
        let is_wanted = self.cell.waiting() > 0;
        if standing.gate != Gate::Open || holds(standing, version) || !is_wanted {
            return Ok(None);
        }
        let id = GrantId(self.shared.ports.entropy.bytes16());
        let (pair, journal) = (&self.cell.pair, &self.shared.ports.journal);
        crash_point::reach("grant.asking", &pair.tenant);
        if crash_point::doubles("grant", &pair.tenant) {
            drop(journal.grant(pair, version, &self.shared.life, id).await);
        }
        let asked = journal.grant(pair, version, &self.shared.life, id).await;
        crash_point::reach("grant.given", &pair.tenant);
        self.ship_audit();
        self.ask(asked).map(Some)
    }

    /// Grants leave audit records without a commit of the pair.
    fn ship_audit(&self) {
        self.shared.shipper.cast(AuditMessage::Ship(self.cell.pair.clone()));
    }

    async fn open_granted(&self, standing: &Standing) -> Result<(), GrantError> {
        let Some((version, secret, fp)) = standing.active else {
            return Ok(());
        };
        if !holds(standing, version) || standing.gate != Gate::Open || self.cell.is_open(version) {
            return Ok(());
        }
        let ports = &self.shared.ports;
        let Some(entry) = ports.providers.get(&self.cell.pair.provider) else {
            self.cell.set_why("the provider is not configured on this node");
            return Ok(());
        };
        let stored = ports
            .secrets
            .read(&self.cell.pair, secret)
            .await
            .map_err(|refusal| GrantError::Unavailable(format!("secret store: {refusal}")))?;
        if ports.fingerprints.fingerprint(&stored.secret) != fp {
            return Err(GrantError::Corrupt(format!(
                "the secret of {version} is not the one that was issued"
            )));
        }
        self.cell
            .open(version, stored.secret, entry.provider.auth_header())
            .map_err(|refusal| GrantError::Unavailable(refusal.to_string()))
    }

    async fn return_emptied(&self, standing: &Standing) -> Result<(), GrantError> {
        let leaving = standing.grants.iter().filter(|grant| grant.status != VersionStatus::Active);
        for grant in leaving {
            let is_open = self.cell.is_open(grant.version);
            if is_open || !self.cell.is_drained(grant.version) {
                continue;
            }
            self.return_one(grant).await?;
        }
        Ok(())
    }

    async fn return_one(&self, grant: &GrantRow) -> Result<(), GrantError> {
        let pair = &self.cell.pair;
        let (journal, life) = (&self.shared.ports.journal, &self.shared.life);
        crash_point::reach("grant.returning", &pair.tenant);
        if crash_point::doubles("grant.return", &pair.tenant) {
            drop(journal.return_grant(pair, grant.version, life, grant.id).await);
        }
        let asked = journal.return_grant(pair, grant.version, life, grant.id).await;
        self.ship_audit();
        self.ask(asked)?;
        crash_point::reach("grant.returned", &pair.tenant);
        let left = journal
            .count_grants(pair, grant.version)
            .await
            .map_err(|refusal| GrantError::Unavailable(refusal.to_string()))?;
        let input = Input::GrantReturned { version: grant.version, left };
        self.shared.to_pair(pair, RotationMessage::Happened(input));
        Ok(())
    }
}

fn holds(standing: &Standing, version: Version) -> bool {
    standing.grants.iter().any(|grant| grant.version == version)
}

fn why(standing: &Standing) -> String {
    match standing.gate {
        Gate::Paused(Pause::Emptying) => {
            "the gate is paused: the old key is being emptied before a new one is issued".into()
        }
        Gate::Paused(Pause::NoCredential) => {
            "the gate is paused: there is no live key; see the pair's rotation".into()
        }
        Gate::Open => format!("r{}: the version is being opened on this node", standing.rev.0),
    }
}
