//! What goes into a step: wants, orders, answers, reports and rings.
//!
//! **Invariant:** an answer echoes what its question was asked for, so that a late or doubled one
//! can be told from the present one.

use std::time::Duration;

use keybaton_messages::{
    Fingerprint, Incarnation, Label, NodeId, ProviderKeyId, SecretVersion, Timestamp, TriggerId,
    Version,
};
use serde::{Deserialize, Serialize};

use crate::record::Reason;

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
            Self::Issued { key_id, secret, fp, expires_at, .. }
            | Self::PersonSubmitted { key_id, secret, fp, expires_at, .. } => {
                Some(Found { key_id, secret, fp, expires_at })
            }
            _ => None,
        }
    }
}
