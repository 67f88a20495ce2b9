//! Bounds of everything that waits, each with its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest wait for a server to be ready, and for what prepares its data to end. On two busy cores
/// the slowest, a Vault that recovers its raft log, needs some five seconds.
pub const READY_MAX: Duration = Duration::from_secs(90);

/// Pause between two looks at whether something is the case. Most servers are ready within fifty
/// milliseconds, so that a longer one would be most of the wait.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Longest wait for the answer to a probe. A server that is paused accepts connections and says
/// nothing; one that answers does so within a fraction of this even on a busy machine.
pub const PROBE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the answer to what a test asks as administrator.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a process to end after SIGKILL, to stop after SIGSTOP or to leave politely. The
/// first two are the kernel's business; the third includes a checkpoint on a busy disk.
pub const SIGNAL_MAX: Duration = Duration::from_secs(60);

/// Ports to choose from. Below the range from which Linux takes the local ports of outgoing
/// connections (32768 and up): otherwise a client that knocks at a killed server's port could be
/// given that very port, and would talk to itself.
pub const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// How often a server is started on another port because somebody else took the one it was given.
pub const STARTS_MAX: u32 = 5;

/// Lines from the end of a server's log that stand in the error when it does not start.
pub const LOG_LINES: usize = 30;
