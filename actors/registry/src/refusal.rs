//! Why the registry said no, and what to do next.

use crate::limits::{LEASES_PER_MEMBER_MAX, SLOTS_MAX};

/// Why no lease was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No slot of the pair is open. Wait with `pair.changed(turn)`, then acquire again; a slot
    /// published since the refusal ends that wait at once.
    #[error("no version is open, wait for a turn after {turn}")]
    NotOpen {
        /// The pair's turn before the attempt.
        turn: u64,
    },
    /// This member holds as many leases as it may. Drop one, or join the pair once more.
    #[error("member holds {LEASES_PER_MEMBER_MAX} leases, drop one or join once more")]
    TooMany,
}

/// Why no slot was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefusal {
    /// All places are taken by slots that are open or draining. Close those that are superseded
    /// and cut the holders of the oldest.
    #[error("{SLOTS_MAX} slots are open or draining, close and cut the oldest")]
    Crowded,
    /// The pair has used up its generations. Retire its entry and start another.
    #[error("generations of this pair are used up, retire its entry")]
    WornOut,
}
