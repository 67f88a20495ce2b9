//! Bounds of a simulated run, each with its reason.

use std::time::Duration;

/// How long faults go on, in virtual time: about ten rotations of each pair under the short
/// policies of the simulation.
pub const CHAOS: Duration = Duration::from_secs(6 * 60);

/// How long everything may take to finish once faults have ended. The longest way is a label that
/// is looked for until its horizon (ten minutes), after a task that waits at a gate (a quarter of
/// an hour), each twice.
pub const PEACE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often it is looked, in peace, whether everything has finished.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Longest way of a request or an answer. Below the call timeout, so that most calls get through.
pub const TRAVEL_MAX: Duration = Duration::from_secs(3);

/// Latest execution of an issue that was given up, where issuing voids the old key. The protocol
/// assumes that this is less than the policy's settle time.
pub const LATE_MAX_B: Duration = Duration::from_secs(20);

/// Latest execution of other requests that were given up.
pub const LATE_MAX: Duration = Duration::from_secs(4 * 60);

/// The settle time of the simulation's policies.
pub const SETTLE: Duration = Duration::from_secs(25);

/// Tasks in one run. More make a run slower and find nothing that fewer do not.
pub const TASKS_MAX: usize = 14;

/// Attempts of a client whose write to the task journal is not answered; as the node's own.
pub const CREATE_ATTEMPTS_MAX: u32 = 5;

/// Lines of a trace that a failure prints, from its end.
pub const TRACE_SHOWN: usize = 400;

/// Most that may happen in one second of virtual time. A start with every pair and task asks for
/// some hundred things; more is a loop without a pause, which virtual time would hide.
pub const EVENTS_PER_SECOND_MAX: u64 = 1500;
