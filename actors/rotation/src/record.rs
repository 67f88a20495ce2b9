//! The pair record: all that is durably known of one tenant's key at one provider.
//!
//! **Invariant:** it names versions, key ids and fingerprints, never a secret.
//! **Invariant:** at most one version is ACTIVE, and `active` points to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keybaton_messages::{
    DeploymentId, Epoch, Fingerprint, Incarnation, Label, NodeId, PairId, PairTag, ProviderKeyId,
    Rev, RotationId, SecretVersion, Timestamp, TriggerId, Version, VersionStatus,
};
use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::policy::Policy;

/// Whether issuing leaves the older key alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Keys coexist: issue, verify, promote, drain, revoke.
    A,
    /// Issuing voids the older key: drain first, then issue.
    B,
}

/// May anyone acquire?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// The active version is handed out.
    Open,
    /// Acquiring waits.
    Paused(Pause),
}

/// Why acquiring waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pause {
    /// Class B: the old key is being emptied before a new one is issued.
    Emptying,
    /// There is no live key: none yet, or the old one is dead or was revoked without replacement.
    NoCredential,
}

/// Who may write the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The owning node.
    pub node: NodeId,
    /// In which of its lives.
    pub incarnation: Incarnation,
}

/// What is known of one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionEntry {
    /// Where it stands.
    pub status: VersionStatus,
    /// The name given to the provider; `None` for an imported key, which has none of ours.
    pub label: Option<Label>,
    /// The provider's name for the key, once known.
    pub key_id: Option<ProviderKeyId>,
    /// Where its secret lies in the secret store, once stored.
    pub secret: Option<SecretVersion>,
    /// Fingerprint of the secret, once known.
    pub fp: Option<Fingerprint>,
    /// When the provider's answer arrived.
    pub issued_at: Option<Timestamp>,
    /// When the provider lets it end by itself, if it said so.
    pub expires_at: Option<Timestamp>,
    /// When it became ACTIVE last.
    pub promoted_at: Option<Timestamp>,
    /// Brought in by a person, not issued by us: never revoked when it turns out bad.
    pub imported: bool,
}

/// A moment and the wait it came from; a clock that is set back cannot stretch the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Due {
    /// Store time.
    pub at: Timestamp,
    /// The wait from when it was set.
    pub wait: Duration,
}

/// Why the old key is wanted back after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reclaim {
    /// Holders stay too long; void once they have left.
    Stuck,
    /// An operator ordered the rollback.
    Ordered,
    /// The new key is dead.
    KeyDead,
}

/// How serious a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Nothing is interrupted.
    Normal,
    /// The key is compromised: it must be dead by the deadline.
    Emergency,
}

/// Why a rotation was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// There is no key yet.
    Provision,
    /// A key that exists already was brought in.
    Import,
    /// Its time had come.
    Scheduled,
    /// Somebody or something asked, with a short text for the audit (at most
    /// [`crate::limits::REASON_BYTES_MAX`] bytes).
    Requested(String),
    /// Providers' answers say that the active key is dead.
    KeyDead,
}

/// One rotation, from its trigger to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rotation {
    /// Which one.
    pub id: RotationId,
    /// Why.
    pub reason: Reason,
    /// How serious.
    pub severity: Severity,
    /// The version that must die, in an emergency.
    pub compromised: Option<Version>,
    /// In an emergency, when the compromised key must be dead at the latest.
    pub revoke_by: Option<Due>,
    /// Where it stands.
    pub phase: Phase,
    /// Labels burned by its attempts.
    pub burned: u32,
    /// It rolled back once already; a second time is refused.
    pub rolled_back: bool,
    /// A key-dead report about the version it promoted was confirmed.
    pub key_dead: bool,
    /// The old key is wanted back, and why; it is probed before it is handed out again.
    pub reclaim: Option<Reclaim>,
    /// Refusals in a row, for the back-off between attempts.
    pub refused: u32,
    /// When the trigger was accepted.
    pub started_at: Timestamp,
    /// When the drain must have ended, once it began.
    pub drain_max: Option<Due>,
    /// The policy as it was when the trigger was accepted.
    pub policy: Policy,
    /// The last refusal or error in one line, for people.
    pub error: Option<String>,
}

/// What is still owed after, or beside, a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Debt {
    /// Revoke this key at the provider.
    Revoke {
        /// The version it belongs to.
        version: Version,
        /// The key.
        key_id: ProviderKeyId,
    },
    /// Look for keys under this label, and revoke what nobody claims.
    Sweep {
        /// The burned version.
        version: Version,
        /// Its label.
        label: Label,
        /// When it was burned.
        burned_at: Timestamp,
        /// A key that somebody else claims stands under the label; a person was told.
        foreign: bool,
    },
    /// Destroy this version's secret, also one put late under its label.
    Destroy {
        /// Whose secret.
        version: Version,
    },
    /// Drain this version, then revoke it.
    Retire {
        /// The version.
        version: Version,
    },
}

/// One debt and its next attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Obligation {
    /// What is owed.
    pub debt: Debt,
    /// Since when.
    pub since: Timestamp,
    /// Attempts so far.
    pub tries: u32,
    /// Next attempt.
    pub due: Due,
}

/// A trigger that waits for the present rotation to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueuedTrigger {
    /// The number that its rotation will have.
    pub n: u64,
    /// Why.
    pub reason: Reason,
    /// How serious, after merging.
    pub severity: Severity,
    /// The version to get away from.
    pub target: Option<Version>,
    /// Absolute deadline of an emergency, after merging.
    pub revoke_by: Option<Due>,
    /// The policy when it was accepted.
    pub policy: Policy,
}

/// All that is durably known of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PairRecord {
    /// Which pair.
    pub pair: PairId,
    /// One more at every write.
    pub rev: Rev,
    /// One more at every start.
    pub epoch: Epoch,
    /// Who may write it.
    pub owner: Owner,
    /// The deployment part of its labels.
    pub deployment: DeploymentId,
    /// The pair part of its labels.
    pub tag: PairTag,
    /// How its provider behaves on issue.
    pub class: Class,
    /// May anyone acquire?
    pub gate: Gate,
    /// The version that is handed out.
    pub active: Option<Version>,
    /// The number that the next version gets.
    pub next_version: Version,
    /// The number that the next rotation gets.
    pub next_rotation: u64,
    /// Live versions and the last [`crate::limits::ENDED_VERSIONS_KEPT`] ended ones.
    pub versions: BTreeMap<Version, VersionEntry>,
    /// Failed rotations in a row, for back-off.
    pub failures: u32,
    /// The present or the last rotation.
    pub rotation: Option<Rotation>,
    /// The trigger that starts when the present rotation ends.
    pub queued: Option<QueuedTrigger>,
    /// What is owed.
    pub obligations: Vec<Obligation>,
    /// The last [`crate::limits::TRIGGERS_KEPT`] trigger ids and the rotation each one got.
    pub triggers: VecDeque<(TriggerId, u64)>,
    /// When the next rotation is due by time.
    pub next_rotate_at: Option<Due>,
}

impl Due {
    /// The moment `wait` after `now`.
    #[must_use]
    pub fn after(now: Timestamp, wait: Duration) -> Self {
        Self { at: now + wait, wait }
    }

    /// How long to wait from `now`: a clock that was set back cannot make it longer than the wait
    /// it came from, and one that was set forward only makes it shorter.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Duration {
        now.until(self.at).min(self.wait)
    }
}

impl PairRecord {
    /// Whether somebody other than `me` owns the pair by this record, which was read after a write
    /// on top of `before` had been refused. An actor of the same life that was killed is nobody
    /// else: its last write may be carried out after its successor has read the record.
    #[must_use]
    pub fn is_taken_from(&self, me: &Owner, before: &Self) -> bool {
        self.owner != *me || self.epoch == before.epoch
    }

    /// Whether this record is an older copy, when somebody has seen the pair at `rev` with `active`.
    /// Every try to find that out makes a revision, so that a copy comes to any number in time. It
    /// comes to no new version: those are made by rotations only.
    #[must_use]
    pub fn is_behind(&self, rev: Rev, active: Option<Version>) -> bool {
        self.rev < rev || active.is_some_and(|active| active >= self.next_version)
    }

    /// The record of a pair that has no key yet. Revision and epoch 0: it was never written.
    #[must_use]
    pub fn new(
        pair: PairId,
        deployment: DeploymentId,
        tag: PairTag,
        class: Class,
        owner: Owner,
    ) -> Self {
        Self {
            pair,
            rev: Rev(0),
            epoch: Epoch(0),
            owner,
            deployment,
            tag,
            class,
            gate: Gate::Paused(Pause::NoCredential),
            active: None,
            next_version: Version(1),
            next_rotation: 1,
            versions: BTreeMap::new(),
            failures: 0,
            rotation: None,
            queued: None,
            obligations: Vec::new(),
            triggers: VecDeque::new(),
            next_rotate_at: None,
        }
    }

    /// Status of a version, if the record still knows it.
    #[must_use]
    pub fn status(&self, version: Version) -> Option<VersionStatus> {
        self.versions.get(&version).map(|entry| entry.status)
    }
}
