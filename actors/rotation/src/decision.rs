//! What goes into a step and what comes out of it.

use std::time::Duration;

use keybaton_messages::{
    EventKind, Fingerprint, Incarnation, Label, NodeId, ProviderKeyId, RotationId, SecretVersion,
    Timestamp, TriggerId, Version,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::Policy;
use crate::record::{Due, PairRecord, Reason};

/// Everything that a step may know besides the record and the input.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Store time.
    pub now: Timestamp,
    /// Random bits for jitter.
    pub jitter: u64,
    /// The policy in force for what starts now; a running rotation keeps its own.
    pub policy: &'a Policy,
}

/// What somebody wants. Level-triggered: "let the active version be newer than `target`".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The caller's name for this trigger.
    pub id: TriggerId,
    /// What is wanted.
    pub want: Want,
}

/// The kinds of trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// There shall be a key.
    Provision,
    /// This key, already in the secret store, shall be the active one.
    Import {
        /// The provider's name for it.
        key_id: ProviderKeyId,
        /// Where its secret lies.
        secret: SecretVersion,
        /// Its fingerprint.
        fp: Fingerprint,
    },
    /// A newer key than `target` shall be active.
    Rotate {
        /// The version to get away from; `None` means the one that is active when this is read.
        target: Option<Version>,
        /// Why.
        reason: Reason,
    },
    /// `compromised` shall be dead by the deadline.
    Emergency {
        /// The leaked version; `None` means the active one.
        compromised: Option<Version>,
        /// Dead at the latest this long after the trigger; `None` means what policy says.
        deadline: Option<Duration>,
        /// Why.
        reason: Reason,
    },
}

/// An operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the rotation before promote.
    Abort,
    /// Make the old key active again.
    RollBack,
    /// Cut the calls on the version that is being left.
    Cut,
    /// Move the hard deadline.
    Extend(Duration),
    /// Do not wait for the next retry.
    RetryNow,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The provider accepted the key.
    Alive,
    /// The provider refused the key.
    Dead,
    /// No telling: network, rate limit, server error, missing scope.
    Unknown,
    /// As `Unknown`, and the answer named missing scopes.
    MissingScopes,
}

/// Timers of a pair. One of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timer {
    /// The next attempt.
    Retry,
    /// Class B settle wait.
    Settle,
    /// The next probe.
    Probe,
    /// Ask the holders again.
    Soft,
    /// Decide about the holders that stay.
    Hard,
    /// The drain has lasted too long.
    DrainMax,
    /// The overlap has ended.
    Overlap,
    /// The compromised key must die now.
    RevokeBy,
    /// Count the grants again.
    Count,
    /// The next obligation is due.
    Owed,
    /// The person's time is up.
    Person,
    /// The next rotation by time.
    Rotate,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// This node, in this life, begins to own the pair.
    Started {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// Somebody wants something.
    Triggered(Trigger),
    /// An operator ordered something.
    Ordered(Order),
    /// An attempt can succeed. `person`: a person issues at this provider.
    PreflightOk {
        /// `next_version` when asked.
        attempt: Version,
        /// Whether a person must create the key.
        person: bool,
    },
    /// An attempt cannot succeed now.
    PreflightRefused {
        /// `next_version` when asked.
        attempt: Version,
        /// Not before.
        after: Option<Duration>,
        /// Whether a person must act.
        page: bool,
        /// One line for people.
        why: String,
    },
    /// The provider issued a key and the secret store has its secret.
    Issued {
        /// For this version.
        version: Version,
        /// The provider's name for it.
        key_id: ProviderKeyId,
        /// Where its secret lies.
        secret: SecretVersion,
        /// Its fingerprint.
        fp: Fingerprint,
        /// When it ends by itself.
        expires_at: Option<Timestamp>,
    },
    /// The provider definitely issued nothing.
    IssueRefused {
        /// For this version.
        version: Version,
        /// Not before.
        after: Option<Duration>,
        /// The admin credential itself was refused (401, 403, 404).
        admin: bool,
        /// One line for people.
        why: String,
    },
    /// It may or may not have issued.
    IssueUnknown {
        /// For this version.
        version: Version,
        /// One line for people.
        why: String,
    },
    /// The secret store was asked for the version's label.
    Located {
        /// For this version.
        version: Version,
        /// What it has.
        found: Option<Found>,
    },
    /// The commit's guard says that the key belongs to another version or pair.
    KeyClaimed {
        /// The version that got it.
        version: Version,
    },
    /// A probe answered.
    Probed {
        /// Of this version's key.
        version: Version,
        /// `next_version` when asked.
        attempt: Version,
        /// What it found.
        health: Health,
    },
    /// Grants of a version were counted, or a guard found some.
    GrantReturned {
        /// Of this version.
        version: Version,
        /// Still valid.
        left: u32,
    },
    /// A timer rang.
    Elapsed(Timer),
    /// The provider confirms that the key is gone.
    Revoked {
        /// Of this version.
        version: Version,
    },
    /// The provider definitely did not revoke.
    RevokeRefused {
        /// Of this version.
        version: Version,
        /// Not before.
        after: Option<Duration>,
        /// One line for people.
        why: String,
    },
    /// It may or may not have revoked.
    RevokeUnknown {
        /// Of this version.
        version: Version,
        /// One line for people.
        why: String,
    },
    /// The provider's list was searched for a label.
    Swept {
        /// The label.
        label: Label,
        /// When the listing began.
        asked: Timestamp,
        /// One key under it, or none.
        found: Option<ProviderKeyId>,
    },
    /// The listing did not succeed.
    SweepFailed {
        /// The label.
        label: Label,
        /// One line for people.
        why: String,
    },
    /// The secret is destroyed.
    Destroyed {
        /// Of this version.
        version: Version,
    },
    /// The secret could not be destroyed yet.
    DestroyFailed {
        /// Of this version.
        version: Version,
        /// One line for people.
        why: String,
    },
    /// A person submitted the key; its secret is stored.
    PersonSubmitted {
        /// For this version.
        version: Version,
        /// The provider's name for it.
        key_id: ProviderKeyId,
        /// Where its secret lies.
        secret: SecretVersion,
        /// Its fingerprint.
        fp: Fingerprint,
        /// When it ends by itself.
        expires_at: Option<Timestamp>,
    },
    /// The person's time is up, or the person declined.
    PersonExpired {
        /// For this version.
        version: Version,
    },
    /// Tasks report that the provider refuses a version, and two probes of it said the same.
    KeyDead {
        /// The version.
        version: Version,
        /// How many tasks say so.
        reports: u32,
    },
}

/// What the secret store has under a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The provider's name for the key.
    pub key_id: ProviderKeyId,
    /// Where the secret lies.
    pub secret: SecretVersion,
    /// Its fingerprint.
    pub fp: Fingerprint,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A condition that the commit checks in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// No valid grant of this version; refused: comes back as [`Input::GrantReturned`].
    NoGrants(Version),
    /// No other version or pair claims this key; refused: comes back as [`Input::KeyClaimed`].
    KeyUnclaimed {
        /// The version that wants it.
        version: Version,
        /// The key.
        key_id: ProviderKeyId,
        /// Its fingerprint; `None` for a key that was found by its label, whose secret nobody has.
        fp: Option<Fingerprint>,
    },
}

/// Grants of `to` are written for every node that holds one of `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyGrants {
    /// The version that is left.
    pub from: Version,
    /// The version that is taken.
    pub to: Version,
}

/// Kinds of audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "each name is the word that stands in the audit"
)]
pub enum AuditKind {
    Triggered,
    IssueIntent,
    IssueRejected,
    Issued,
    ForeignKey,
    VerifyFailed,
    Imported,
    Promoted,
    RolledBack,
    Reopened,
    RevokeIntent,
    ForcedRevoke,
    Revoked,
    Reconciled,
    Burned,
    RotationComplete,
    RotationFailed,
    Ordered,
    AccessRefused,
    Granted,
    GrantReturned,
}

/// One audit record before it is sealed into the pair's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// What kind.
    pub kind: AuditKind,
    /// Unique within (pair, kind): the same fact is never recorded twice.
    pub dedupe: String,
    /// The rotation it belongs to, if any.
    pub rotation: Option<RotationId>,
    /// The version it is about, if any.
    pub version: Option<Version>,
    /// The key it is about, if any.
    pub key_id: Option<ProviderKeyId>,
    /// Short free text: reason, cause, names of outstanding grants.
    pub note: String,
}

/// What to do once the record is written. Every effect may be carried out twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask whether an attempt can succeed; answered by PreflightOk or PreflightRefused.
    Preflight {
        /// Echoed in the answer.
        attempt: Version,
    },
    /// Ask the provider for a key and store its secret; answered by Issued, IssueRefused or
    /// IssueUnknown. Never sent twice for one label.
    Issue {
        /// For this version.
        version: Version,
        /// Under this label.
        label: Label,
        /// Ask for this lifetime where the provider can.
        lifetime: Option<Duration>,
        /// Give up after this; an answer after that is too late.
        timeout: Duration,
    },
    /// Ask the secret store for a label; waits for this process's own issue job for it first.
    /// Answered by Located.
    Locate {
        /// For this version.
        version: Version,
        /// Its label.
        label: Label,
    },
    /// Try a key; answered by Probed.
    Probe {
        /// Of this version.
        version: Version,
        /// Where its secret lies.
        secret: SecretVersion,
        /// Echoed in the answer.
        attempt: Version,
    },
    /// Ask a person for a key under a label.
    Ask {
        /// For this version.
        version: Version,
        /// Its label.
        label: Label,
        /// When the request lapses.
        until: Timestamp,
    },
    /// Tell the provider to revoke; answered by Revoked, RevokeRefused or RevokeUnknown.
    Revoke {
        /// Of this version.
        version: Version,
        /// The key.
        key_id: ProviderKeyId,
        /// Confirm by probing the old key until it is refused, besides the list.
        confirm_dead: Option<SecretVersion>,
    },
    /// Search the provider's list for a label; answered by Swept or SweepFailed.
    Sweep {
        /// The label.
        label: Label,
    },
    /// Destroy a version's secret and whatever lies under its label; answered by Destroyed or
    /// DestroyFailed.
    Destroy {
        /// The version.
        version: Version,
        /// Where its secret lies, if known.
        secret: Option<SecretVersion>,
        /// Its label, if it has one.
        label: Option<Label>,
    },
    /// Count the valid grants of a version; answered by GrantReturned.
    Count {
        /// The version.
        version: Version,
    },
    /// Tell the brokers that this version is not handed out any more.
    Close {
        /// The version.
        version: Version,
    },
    /// Ask the holders of a version to finish.
    Signal {
        /// The version.
        version: Version,
        /// By when.
        deadline: Timestamp,
    },
    /// Cut the calls of a closed version.
    Cut {
        /// The version.
        version: Version,
    },
    /// Ring after [`Due::left`]; replaces the same timer, and a replaced timer never rings.
    Arm(Timer, Due),
    /// Ring after this long on the monotonic clock, not before; replaces the same timer, and a
    /// replaced timer never rings.
    ArmFor(Timer, Duration),
    /// Write the witness {rev, epoch, active} beside the secrets.
    Witness,
    /// Publish the outbox.
    Publish,
    /// A person should look.
    Page(Page),
    /// Answer the caller of a trigger or an order.
    Reply(Reply),
}

/// Why a person should look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// One line: what happened and what to do next.
    pub why: String,
}

/// What the caller of a trigger or an order is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This rotation does what was asked (a new one, the running one, or the next one).
    Rotation(RotationId),
    /// Already so; nothing to do.
    AlreadyDone,
    /// The order is carried out.
    Done,
    /// Refused, with what to do instead.
    Refused(String),
}

/// What a step decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The record to write, revision already raised; `None`: nothing to commit, effects alone.
    pub record: Option<PairRecord>,
    /// Conditions of the commit.
    pub guards: Vec<Guard>,
    /// Grants to copy in the commit.
    pub grants: Option<CopyGrants>,
    /// Audit records of the commit. The journal adds the names of the version's outstanding
    /// grants to the note of a [`AuditKind::ForcedRevoke`], in the same transaction; an entry whose
    /// (kind, dedupe) stands in the chain already is left out.
    pub audit: Vec<AuditEntry>,
    /// Events of the commit (kind, old, new); the journal stamps pair, rotation and revision.
    pub outbox: Vec<(EventKind, Option<Version>, Option<Version>)>,
    /// What to do afterwards.
    pub effects: Vec<Effect>,
}

/// An input that cannot happen: the pair stops and a person is paged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("impossible input for {pair}: {why}; the pair is stopped, inspect its record")]
pub struct Impossible {
    /// Which pair.
    pub pair: keybaton_messages::PairId,
    /// What does not fit.
    pub why: String,
}

impl Input {
    /// The version that an answer or a report is about.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::Issued { version, .. }
            | Self::IssueRefused { version, .. }
            | Self::IssueUnknown { version, .. }
            | Self::Located { version, .. }
            | Self::KeyClaimed { version }
            | Self::Probed { version, .. }
            | Self::GrantReturned { version, .. }
            | Self::Revoked { version }
            | Self::RevokeRefused { version, .. }
            | Self::RevokeUnknown { version, .. }
            | Self::Destroyed { version }
            | Self::DestroyFailed { version, .. }
            | Self::PersonSubmitted { version, .. }
            | Self::PersonExpired { version }
            | Self::KeyDead { version, .. } => Some(*version),
            Self::Started { .. }
            | Self::Triggered(_)
            | Self::Ordered(_)
            | Self::PreflightOk { .. }
            | Self::PreflightRefused { .. }
            | Self::Elapsed(_)
            | Self::Swept { .. }
            | Self::SweepFailed { .. } => None,
        }
    }

    /// The key that an answer brings, if it brings one.
    pub(crate) fn into_key(self) -> Option<Found> {
        match self {
            Self::Located { found, .. } => found,
            Self::Issued {
                key_id,
                secret,
                fp,
                expires_at,
                ..
            }
            | Self::PersonSubmitted {
                key_id,
                secret,
                fp,
                expires_at,
                ..
            } => Some(Found {
                key_id,
                secret,
                fp,
                expires_at,
            }),
            _ => None,
        }
    }
}

impl Decision {
    /// Whether the input was a repeat: nothing to write, nothing to do.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.record.is_none() && self.effects.is_empty()
    }
}
