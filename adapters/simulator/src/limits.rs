//! Every bound of the simulator, with its reason.

use std::time::Duration;

/// Longest request body. A chat request of a test agent is a few KiB; a vendor allows more,
/// but a test that sends more has lost its way.
pub const REQUEST_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Longest request head (request line and headers). A test for oversized headers sends 64 KiB
/// and must be refused; anything real is below 4 KiB.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 * 1024;

/// Longest wait for a request head, idle connections included. Longer than the 90 s for which
/// usual clients keep an idle connection: the client closes first, so that no request meets a
/// connection that is just being closed.
pub const REQUEST_HEAD_WAIT_MAX: Duration = Duration::from_secs(120);

/// Longest wait for a request body, so that a slow sender cannot hold a connection.
pub const REQUEST_BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Connections served at the same time. The load test holds 2000 streams, a benchmark a few
/// times that; each costs one task and one descriptor.
pub const CONNECTIONS_MAX: usize = 16 * 1024;

/// Connections the kernel may hold before they are accepted: 2000 agents start at once.
pub const ACCEPT_BACKLOG: u32 = 4096;

/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a stopping simulator lets open requests end before it closes their connections.
pub const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest label, tenant, task, tool, project or account text that is written to the ledger.
/// Longer ones are refused, never shortened: a shortened label would be another label.
pub const TEXT_BYTES_MAX: usize = 512;

/// Longest ledger line that a restart reads. A line holds at most eight texts.
pub const LEDGER_LINE_BYTES_MAX: usize = 64 * 1024;
// A text may grow six-fold when it is escaped.
const _: () = assert!(LEDGER_LINE_BYTES_MAX >= 8 * 6 * TEXT_BYTES_MAX);

/// Buffered request lines are written when they exceed this, whatever the clock says.
pub const LEDGER_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// How often buffered request lines are written and due deadlines are carried out. A reader of
/// the ledger of a running simulator is at most this late; 200 wake-ups a second cost nothing.
pub const HOUSEKEEPING_PERIOD: Duration = Duration::from_millis(5);

/// Deadlines (expiries, late executions, slow revokes) outstanding at once: one per key of a
/// large test, twice.
pub const DEADLINES_MAX: usize = 200_000;

/// Keys of one project that are alive at once; the next issue is refused like at a vendor that
/// reached its own limit.
pub const LIVE_KEYS_PER_PROJECT_MAX: usize = 10_000;

/// Keys remembered, dead ones included, so that a dead key is told from an unknown one. At
/// roughly 1 KiB each this is 1 GiB: no test comes near.
pub const KEYS_MAX: usize = 1_000_000;

/// Idempotency keys of tools whose executions are counted; the oldest is forgotten first.
pub const TOOL_RUNS_MAX: usize = 1_000_000;

/// Scripts armed at once; a fault matrix arms a handful.
pub const SCRIPTS_MAX: usize = 1024;

/// Keys named in one answer of the state endpoint.
pub const STATE_KEYS_MAX: usize = 10_000;

/// Largest page of a key listing at OpenAI (`limit` is 1 to 100).
pub const PAGE_KEYS_MAX: usize = 100;

/// Page of a key listing when `limit` is not given, as at OpenAI.
pub const PAGE_KEYS_DEFAULT: usize = 20;
const _: () = assert!(PAGE_KEYS_DEFAULT <= PAGE_KEYS_MAX);

/// Longest life that may be asked for a key, as at OpenAI: 365 days.
pub const EXPIRES_IN_SECONDS_MAX: u64 = 31_536_000;

/// Longest simulated latency of one answer.
pub const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Longest simulated pause between two chunks.
pub const CHUNK_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Most chunks of one stream.
pub const CHUNKS_MAX: u32 = 100_000;

/// Longest delay a fault may ask for: the acceptance list goes to two minutes.
pub const FAULT_DELAY_MAX: Duration = Duration::from_secs(3600);

/// Size of the body of the `huge-body` fault.
pub const HUGE_BODY_BYTES: usize = 10 * 1024 * 1024;
