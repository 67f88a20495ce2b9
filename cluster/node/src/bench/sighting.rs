//! What was seen of one rotation and of the tasks that it moved: moments, nothing computed.
//!
//! Moments are microseconds after the beginning of the run, on the monotonic clock.

use serde::Serialize;

/// One rotation, as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Its place in the schedule, from 0.
    pub number: u32,
    /// It is measured, but not counted.
    pub is_warm_up: bool,
    /// Whose key.
    pub tenant: String,
    /// Its name; empty when it was not accepted.
    pub rotation: String,
    /// When the schedule wanted it.
    pub planned: u64,
    /// When it was asked for: later than planned only when the pair's last rotation still ran.
    pub asked: u64,
    /// The commit that takes the old version out of use: the one that makes the new version ACTIVE
    /// in class A, the one that shuts the gate in class B.
    pub committed: Option<u64>,
    /// The old version was closed: nobody could take it any more.
    pub closed: Option<u64>,
    /// The last holder of the old version had left.
    pub emptied: Option<u64>,
    /// The provider had acknowledged the revocation and the record said so. Class A only.
    pub acknowledged: Option<u64>,
    /// Issuing had already ended the old key: class B.
    pub is_without_revocation: bool,
    /// The last look: at the end of all this, at the deadline, or at an interruption.
    pub looked: u64,
    /// Leases of the old version when it was closed.
    pub holders_at_close: u64,
    /// How it ended: `rotated`, `failed: …`, `refused: …`, or `not ended`.
    pub ended: String,
    /// The tasks that were on the old version.
    pub tasks: Vec<TaskSighting>,
    /// Holders of the old and of the new version over time.
    pub curve: Vec<Count>,
}

/// A task that was on the old version, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSighting {
    /// Which.
    pub task: u32,
    /// It keeps its key over many steps.
    pub keeps_key: bool,
    /// Its last step under the old version began.
    pub began: u64,
    /// Its last step under the old version ended.
    pub ended: Option<u64>,
    /// Its first step under a newer version began.
    pub resumed: Option<u64>,
    /// That step was its last one: it ended, and needs no key any more.
    pub is_gone: bool,
}

/// Holders at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// When.
    pub at: u64,
    /// Leases of the version that is left.
    pub old: u64,
    /// Leases of the version that is taken.
    pub new: u64,
}
