//! What is published about a pair after its record was written.
//!
//! **Invariant:** an event is a hint. A reader that lost every one still learns the truth from the
//! record; a reader that gets one twice ignores it by its revision.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::BadName;
use crate::ids::{PairId, Rev, RotationId, Version};

/// What happened to a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// `rotation.initiated`
    Initiated,
    /// `rotation.new_key_ready`: the new version is the one to acquire.
    NewKeyReady,
    /// `rotation.checkpoint_requested`: whoever still holds the old version, please finish.
    CheckpointRequested,
    /// `rotation.drain_complete`: no grant of the old version is left.
    DrainComplete,
    /// `rotation.complete`
    Complete,
    /// `rotation.failed`
    Failed,
}

impl EventKind {
    /// Every kind, in the order of a rotation's life.
    pub const ALL: [Self; 6] = [
        Self::Initiated,
        Self::NewKeyReady,
        Self::CheckpointRequested,
        Self::DrainComplete,
        Self::Complete,
        Self::Failed,
    ];

    /// The topic-style name of this kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "rotation.initiated",
            Self::NewKeyReady => "rotation.new_key_ready",
            Self::CheckpointRequested => "rotation.checkpoint_requested",
            Self::DrainComplete => "rotation.drain_complete",
            Self::Complete => "rotation.complete",
            Self::Failed => "rotation.failed",
        }
    }
}

impl FromStr for EventKind {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| BadName::new("event kind", text, "use one of the names of EventKind"))
    }
}

/// One published fact about a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// About which pair.
    pub pair: PairId,
    /// About which rotation.
    pub rotation: RotationId,
    /// The record's revision that this event belongs to.
    pub rev: Rev,
    /// What happened.
    pub kind: EventKind,
    /// The version that is being left, if any.
    pub old: Option<Version>,
    /// The version that replaces it, if known.
    pub new: Option<Version>,
}
