//! Bounds of the benchmark, each with its reason.

use std::time::Duration;

/// Tasks at once: as many as a node takes when nothing else is said.
pub const TASKS_MAX: u32 = 100_000;

/// Tasks that the node of a run takes: a crowd that comes and goes is larger at times.
pub const TASKS_ROOM: usize = 2 * TASKS_MAX as usize;

/// Calls at once: each has a connection to the simulator, which serves 16 Ki of them.
pub const CALLS_MAX: u32 = 12_000;

/// Bytes that an agent knows: the journal takes a value of 1 MiB, the rest of the checkpoint
/// included.
pub const PAYLOAD_MAX: u32 = 1_000_000;

/// Open files for each call: both ends of its connection are in this process.
pub const FILES_PER_CALL: u64 = 2;

/// Where agents also work without a call, the calls that are open at once are as many as the shares
/// say on average, and this many times that at worst: calls that end keep their connection for a
/// while.
pub const CALLS_SPREAD: f64 = 3.0;

/// Open files for all else: stores, admin connections, listeners, results.
pub const FILES_MORE: u64 = 500;

/// Longest step: the simulator keeps no answer back for longer. Draws beyond are cut to it.
pub const STEP_MAX: Duration = Duration::from_secs(600);

/// Shortest step: the simulator counts in milliseconds.
pub const STEP_MIN: Duration = Duration::from_millis(1);

/// A drain's deadline when none is given: this many times the step's p99, and not less than
/// [`DEADLINE_MIN`]. Whoever has not reached a boundary by then is counted as censored.
pub const DEADLINE_STEPS: u32 = 4;

/// See [`DEADLINE_STEPS`]: the machinery itself takes up to seconds when a store is far away.
pub const DEADLINE_MIN: Duration = Duration::from_secs(60);

/// Between two rotations when nothing is said: the step's p99 and this, so that most drains have
/// ended when the next one begins.
pub const EVERY_MORE: Duration = Duration::from_secs(1);

/// How often holders are counted while a version drains, at most: a hundred points in a second draw
/// a curve.
pub const COUNT_EVERY: Duration = Duration::from_millis(10);

/// A count reads each holder's line, and so takes milliseconds of a core with 100 000 of them. The
/// next one of any rotation begins after this many times as long: all counting together takes a
/// hundredth of a core.
pub const COUNT_REST: u32 = 100;

/// Holders are counted this often at least: a count that was itself held up must not blind the curve.
pub const COUNT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// A holder count that did not change is written down again after this.
pub const COUNT_AGAIN_AFTER_US: u64 = 200_000;

/// Tasks and pairs that are spawned or provisioned at the same time before the run begins.
pub const SPAWNS_AT_ONCE: usize = 64;

/// How long the agents may take to begin their first step.
pub const FLIGHT_WAIT_MAX: Duration = Duration::from_secs(300);

/// How often something is looked at that rings no bell.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long debts may stay open at the end; what is owed then stands in the verdict.
pub const DEBTS_WAIT_MAX: Duration = Duration::from_secs(30);

/// Rotations from which a confidence interval is worth its name.
pub const ROTATIONS_FOR_CONFIDENCE: usize = 30;

/// Share of the cores that others may want when a run begins. An idle machine shows a tenth at most;
/// with half of them taken, agents and node already wait for each other.
pub const LOAD_SHARE_MAX: f64 = 0.4;

/// Resamples of the bootstrap: the bounds of a 95 % interval then stand on 50 of them each.
pub const RESAMPLES: usize = 2000;

/// Commits whose median is the price of one in the journal's database: it takes some milliseconds.
pub const DATABASE_COMMITS: u32 = 64;

/// Writes whose median is the price of one fsync.
pub const FSYNCS: usize = 64;

/// Longest value that a histogram tells from longer ones, in microseconds: an hour.
pub const HISTOGRAM_MAX_US: u64 = 3_600_000_000;

/// Pieces of a streamed answer: one each hundred milliseconds, and not more than this.
pub const CHUNKS_MAX: u64 = 200;

/// How long a comparator goes on after its revocation: as many times the step's p99 as give every
/// agent a boundary and a next call.
pub const AFTERMATH_STEPS: u32 = 2;

/// Waits between the new key and the revocation that the clock is tried with, in seconds: from
/// none to ten minutes.
pub const CLOCK_WAITS_S: [u64; 11] = [0, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];

/// How often agents look for a new key when they poll, in seconds; the old one is revoked that
/// long after the new one was put there.
pub const POLL_EVERY_S: [u64; 5] = [1, 5, 15, 60, 300];

/// Tries of a step by an agent of a comparator: clients of providers repeat a call whose connection
/// broke, so a call that is cut costs an agent its work only when the second one is refused.
pub const TRIES: u32 = 2;
