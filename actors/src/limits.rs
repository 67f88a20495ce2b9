//! Bounds of the actors: every queue, wait, retry and batch, each with its reason.

use std::time::Duration;

use backon::ExponentialBuilder;

/// Live tasks on one node, unless the configuration says less. At about 12 KiB a task this is
/// 1.2 GiB, which a node of 4 GiB carries beside its store's cache.
pub const TASKS_MAX: usize = 100_000;

/// What a caller is told to wait when the node is full: the median step of an agent.
pub const SPAWN_BUSY_AFTER: Duration = Duration::from_secs(2);

/// Acquirers of one pair that may wait at a paused gate. Each is a parked future of some hundred
/// bytes; more than every task of a full node twice over is a loop in somebody's code.
pub const WAITERS_MAX: usize = 2 * TASKS_MAX;

/// Longest wait at a paused gate. Class B empties, issues and settles within minutes; after a
/// quarter of an hour the caller should hear about it.
pub const ACQUIRE_WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// A call that was refused with 401 is repeated under newer versions this often: one rotation and
/// one rollback can both land on one call; more means the key is not the problem.
pub const REFUSED_REPEATS_MAX: u32 = 3;

/// How long a refused call under the active version waits for a verdict about the key before it is
/// handed to the caller: two probes and a rotation of some seconds.
pub const KEY_DEAD_WAIT: Duration = Duration::from_secs(120);

/// Probes that must say Dead before a key is reported dead; one answer proves nothing, servers of
/// one provider disagree for minutes after a change.
pub const KEY_DEAD_PROBES: u32 = 2;

/// Pause between the probes behind a key-dead report: long enough that they do not meet the same
/// hiccup of one server, short beside the seconds that the rotation after them takes.
pub const KEY_DEAD_PROBE_EVERY: Duration = Duration::from_millis(500);

/// First pause before a broken actor is started again.
pub const RESTART_AFTER_MIN: Duration = Duration::from_millis(50);

/// Longest pause before a broken actor is started again.
pub const RESTART_AFTER_MAX: Duration = Duration::from_secs(10);

/// An actor that lived this long is forgiven its earlier crashes.
pub const RESTART_FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// First pause before a store is asked again.
pub const STORE_RETRY_MIN: Duration = Duration::from_millis(20);

/// Longest pause before a store is asked again.
pub const STORE_RETRY_MAX: Duration = Duration::from_secs(5);

/// Pauses between questions to a store: doubling, and without end, since nothing else can be done
/// until it answers. Whoever asks shows meanwhile what it waits for.
pub const STORE_RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(STORE_RETRY_MIN)
    .with_max_delay(STORE_RETRY_MAX)
    .without_max_times();

/// How long a secret that the store would not take is kept in memory while it is offered again.
/// After that it is forgotten, and the sweep of the key's label ends the key at the provider.
pub const SECRET_PUT_PATIENCE: Duration = Duration::from_secs(600);

/// A question to the world (preflight, probe, revoke, list, destroy) is answered Unknown after
/// this, over and above the adapter's own time-outs.
pub const QUESTION_MAX: Duration = Duration::from_secs(60);

/// Questions whether a revoked key is dead, before the answer to its revocation counts as unknown
/// and the rules decide when to ask again. With the pauses of [`STORE_RETRY`] they span five
/// seconds; what takes longer (Google documents minutes) belongs to the record, which survives a
/// restart.
pub const DEAD_QUESTIONS_MAX: usize = 8;

/// Guards of one decision are refused and answered at most this often in a row; each refusal
/// changes the input, and no chain in the rules is longer than two.
pub const GUARD_ROUNDS_MAX: u32 = 4;

/// Turns that a task takes within one message, at most: with as many, what a message costs is a
/// hundredth of them.
pub const TURNS_PER_MESSAGE_MAX: u32 = 64;

/// No turn begins within a message that has lasted this long, so that a task whose steps are long
/// listens between all of them.
pub const MESSAGE_MAX: Duration = Duration::from_secs(1);

/// Attempts of one step before its task fails, unless its restart policy says otherwise.
pub const STEP_ATTEMPTS_MAX: u32 = 8;

/// First pause before a step is tried again.
pub const STEP_RETRY_MIN: Duration = Duration::from_millis(50);

/// Longest pause before a step is tried again.
pub const STEP_RETRY_MAX: Duration = Duration::from_secs(30);

/// Listings that one provider is asked for per second by the sweeper: administration APIs allow
/// some requests a second, and rotations come first.
pub const SWEEPS_PER_SECOND: u32 = 2;

/// Drain reports that a pair keeps for display.
pub const DRAINS_KEPT: usize = 16;

/// Steps of a rotation's timeline that are kept for display: every phase once, with retries.
pub const TIMELINE_KEPT: usize = 256;

/// Results that a task lets pile up behind its checkpoint before it writes one unasked, so that a
/// resume never folds more than this.
pub const RESULTS_PER_CHECKPOINT: u64 = 512;

/// How often gauges are computed: more often than Prometheus usually scrapes (15 s).
pub const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// Tenants that get gauges of their own; the same bound as `OpenBao`'s
/// `maximum_gauge_cardinality`.
pub const GAUGE_TENANTS_MAX: usize = 500;

/// Longest rest that a task's wheel takes at once; its range is two years. A longer rest is looked
/// at again then.
pub const REST_WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest rest at all: more is a mistake, and would overflow the clock.
pub const REST_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Checkpoints that wait for their deletion at most. Each task of a full node can have one superseded
/// and one left by an ended life; what is more is found by a sweep.
pub const NEEDLESS_CHECKPOINTS_MAX: usize = 2 * TASKS_MAX;

/// How often it is looked for checkpoints of tasks that have ended. What lies there then was missed
/// because the store or the node went away at that moment; it costs room and nothing else.
pub const CHECKPOINT_SWEEP_EVERY: Duration = Duration::from_secs(15 * 60);

/// Pause before a sweep that a store refused is tried again: a failover takes half of that.
pub const CHECKPOINT_SWEEP_AGAIN: Duration = Duration::from_secs(60);

/// Pairs whose audit records travel in one shipment. A shipment is one sync of the sink however
/// many records it has, and the next ones wait for it.
pub const PAIRS_PER_SHIPMENT: usize = 512;
