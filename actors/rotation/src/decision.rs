//! What comes out of a step, and what it may know.

use std::time::Duration;

use keybaton_messages::{
    EventKind, Fingerprint, Label, PairId, ProviderKeyId, RotationId, SecretVersion, Timestamp,
    Version,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::input::Timer;
use crate::policy::Policy;
use crate::record::{Due, PairRecord};

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

/// A condition that the commit checks in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// No valid grant of this version; refused: comes back as [`crate::Input::GrantReturned`].
    NoGrants(Version),
    /// No other version or pair claims this key; refused: comes back as
    /// [`crate::Input::KeyClaimed`].
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
#[expect(missing_docs, reason = "each name is the word that stands in the audit")]
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
    pub pair: PairId,
    /// What does not fit.
    pub why: String,
}

impl Decision {
    /// Whether the input was a repeat: nothing to write, nothing to do.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.record.is_none() && self.effects.is_empty()
    }
}
