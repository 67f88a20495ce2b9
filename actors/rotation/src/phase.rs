//! Where one rotation stands. A phase owns its data.
//!
//! **Invariant:** no `Option` that is set only in some phases, and no flag beside the phase.

use keybaton_messages::{Shown, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::record::Due;

/// Where one rotation stands. Life-cycle order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Waiting for its (next) attempt.
    Queued {
        /// Not before.
        retry: Due,
    },
    /// Asking whether an attempt can succeed at all.
    Preflight,
    /// A person was asked to create the key under `new`'s label.
    AwaitingPerson {
        /// The version that waits for a key.
        new: Version,
        /// Names the request; a late answer to another one is refused.
        request: u64,
        /// When the request lapses.
        until: Due,
    },
    /// The provider was, or is about to be, asked for a key under `new`'s label.
    Issuing {
        /// The version that waits for a key.
        new: Version,
    },
    /// The secret store is asked whether it has a secret under `new`'s label.
    Locating {
        /// The version whose secret is looked for.
        new: Version,
    },
    /// Class B: an abandoned issue call may still execute; wait it out.
    Settling {
        /// The burned version.
        new: Version,
        /// For display only; the wait runs on the owner's monotonic clock.
        until: Due,
    },
    /// Class B: is the old key alive after an ambiguous issue?
    ProbingOld {
        /// The burned version.
        new: Version,
    },
    /// The new key is tried out.
    Verifying {
        /// The staged version.
        new: Version,
        /// Probes that answered Dead.
        tries: u32,
        /// When verifying began.
        since: Timestamp,
    },
    /// Class B: holders of `old` are leaving before the issue.
    Emptying {
        /// The version that is left.
        old: Version,
        /// When policy decides about those who stay.
        hard: Due,
    },
    /// `new` is active; holders of `old` are leaving.
    Draining {
        /// The version that is left.
        old: Version,
        /// When they are asked again.
        soft: Due,
        /// When policy decides about those who stay.
        hard: Due,
    },
    /// Holders of `old` were asked again, with a deadline.
    Checkpointing {
        /// The version that is left.
        old: Version,
        /// When policy decides about those who stay.
        hard: Due,
    },
    /// Nobody holds `old`; it stays alive until `until`, so that a rollback is still possible.
    Overlap {
        /// The version that is kept in reserve.
        old: Version,
        /// Not revoked before.
        until: Due,
    },
    /// The provider is being told to revoke `old`. No way back.
    Revoking {
        /// The version that dies.
        old: Version,
        /// Revoked although grants were left.
        forced: bool,
    },
    /// Done.
    Complete {
        /// How it ended.
        end: End,
    },
    /// Ended without handing over.
    Failed {
        /// Why.
        cause: Cause,
    },
}

/// How a completed rotation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// The new key replaced the old one (or is the first).
    Rotated,
    /// Another rotation took its place; what it owed became obligations.
    Superseded,
}

/// Why a rotation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Eight labels were burned without a usable key.
    LabelsExhausted,
    /// The provider refuses our admin credential.
    AdminRefused,
    /// The new key never worked.
    VerifyFailed,
    /// An operator ended it before promote.
    Aborted,
    /// The person who was asked did not answer in time.
    HumanTimeout,
    /// The new key turned out bad after promote; the old one is active again.
    RolledBack,
    /// Class B: holders did not leave in time; the old key was handed out again.
    DrainTimeout,
}

impl Phase {
    /// The word shown to people for this phase.
    #[must_use]
    pub fn shown(&self) -> Shown {
        match self {
            Self::Queued { .. } | Self::Preflight | Self::AwaitingPerson { .. } => Shown::Pending,
            Self::Issuing { .. }
            | Self::Locating { .. }
            | Self::Settling { .. }
            | Self::ProbingOld { .. }
            | Self::Verifying { .. } => Shown::Issuing,
            Self::Emptying { .. } | Self::Draining { .. } | Self::Overlap { .. } => Shown::Draining,
            Self::Checkpointing { .. } => Shown::Checkpointing,
            Self::Revoking { .. } => Shown::Revoking,
            Self::Complete { .. } => Shown::Complete,
            Self::Failed { .. } => Shown::Failed,
        }
    }

    /// The version that this phase's questions are about, if it asks about one.
    #[must_use]
    pub fn subject(&self) -> Option<Version> {
        match self {
            Self::AwaitingPerson { new, .. }
            | Self::Issuing { new }
            | Self::Locating { new }
            | Self::Settling { new, .. }
            | Self::ProbingOld { new }
            | Self::Verifying { new, .. } => Some(*new),
            _ => self.leaving(),
        }
    }

    /// The version whose holders are leaving or have left, if there is one.
    #[must_use]
    pub fn leaving(&self) -> Option<Version> {
        match self {
            Self::Emptying { old, .. }
            | Self::Draining { old, .. }
            | Self::Checkpointing { old, .. }
            | Self::Overlap { old, .. }
            | Self::Revoking { old, .. } => Some(*old),
            _ => None,
        }
    }

    /// Whether grants of [`Self::leaving`] are awaited, counted every few seconds.
    #[must_use]
    pub fn awaits_grants(&self) -> bool {
        matches!(self, Self::Emptying { .. } | Self::Draining { .. } | Self::Checkpointing { .. })
    }

    /// Whether the new key has been promoted: from here the way back is a rollback, not an abort.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        matches!(
            self,
            Self::Draining { .. }
                | Self::Checkpointing { .. }
                | Self::Overlap { .. }
                | Self::Revoking { .. }
        )
    }

    /// Whether the rotation has ended.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Complete { .. } | Self::Failed { .. })
    }
}
