//! What is shown of a rotation and of a version: the words of the mission.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The seven words shown to people; a projection of the phases that the rotation core keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Shown {
    /// Accepted, nothing asked of the provider yet.
    Pending,
    /// A key is being asked for, stored and verified.
    Issuing,
    /// Holders of the old version are leaving, or have left and the overlap runs.
    Draining,
    /// Holders that are still there were asked again, with a deadline.
    Checkpointing,
    /// The provider was told to revoke the old key.
    Revoking,
    /// Done.
    Complete,
    /// Ended without a new key; what is still owed is on the obligations list.
    Failed,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Issuing => "ISSUING",
            Self::Draining => "DRAINING",
            Self::Checkpointing => "CHECKPOINTING",
            Self::Revoking => "REVOKING",
            Self::Complete => "COMPLETE",
            Self::Failed => "FAILED",
        })
    }
}

/// Life of one version, in life-cycle order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VersionStatus {
    /// The label is written down; the provider may or may not have been asked.
    Intent,
    /// The key exists, its secret is stored, nobody uses it yet.
    Staged,
    /// The version that is handed out.
    Active,
    /// Closed; its holders are leaving.
    Draining,
    /// The provider is being told to revoke it. No way back.
    RevokePending,
    /// Dead at the provider, confirmed.
    Revoked,
    /// Burned: it may have a key at the provider that nobody can use.
    Unresolved,
    /// Ended without a key of ours at the provider.
    Gone,
}

impl fmt::Display for VersionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intent => "INTENT",
            Self::Staged => "STAGED",
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::RevokePending => "REVOKE_PENDING",
            Self::Revoked => "REVOKED",
            Self::Unresolved => "UNRESOLVED",
            Self::Gone => "GONE",
        })
    }
}
