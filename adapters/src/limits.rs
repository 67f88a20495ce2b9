//! Bounds of the adapters, each with its reason.

use std::time::Duration;

/// Most operations that one commit of the embedded store carries. With so many its two syncs cost
/// each of them less than its row does. A larger batch makes those who wait for it wait longer: ten
/// thousand tasks that hand over at the same instant are let go soonest by batches of two to four
/// thousand, each written while the next is prepared.
pub const BATCH_OPERATIONS_MAX: usize = 4096;

/// Most bytes that one commit carries: it is written while everybody behind it waits, and 16 MiB
/// take some tens of milliseconds on an ordinary disk.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most operations that wait for a commit. Beyond it a caller is told "unavailable" at once. Every
/// task has at most one write in flight, so this admits a hundred thousand of them at once.
pub const WRITE_QUEUE_MAX: usize = 131_072;

/// How much of the database's file is filled by the first write into it, in bytes. The commit that
/// does it writes so much more at once, which takes a disk some tenths of a millisecond; larger
/// stretches would be felt by those who wait for it, smaller ones make more commits pay.
pub const STRETCH_BYTES: usize = 128 * 1024;

/// How many stretches are looked at when the file is opened, from its end, to see which nobody has
/// written into: 256 MiB, read in up to some tenths of a second where they are a hole. What lies
/// before them is taken for written, which costs its first writers time and nothing else.
pub const STRETCHES_LOOKED_AT_MAX: usize = 2048;

/// How long a caller's commit may take for the next one to be made on the runtime's worker without
/// moving its other tasks to another thread. They wait that long; two milliseconds are less than
/// what they wait for a network, and a slower disk gets a thread.
pub const ON_WORKER_MAX: Duration = Duration::from_millis(2);

/// How often a batch is carried out again after a failed commit and a reopened database. A second
/// failure in a row is no hiccup: the store stops, and the node ends with a clear message.
pub const COMMIT_TRIES_MAX: usize = 2;

/// Memory that the embedded database may use for its pages, in bytes. The working set is the
/// newest rows of every task; 128 MiB hold some hundred thousand of them.
pub const PAGE_CACHE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Pairs whose decoded record stays in memory. One takes about 2 KiB; the load to carry is 40 000.
/// With more of them all are forgotten and read again, each once.
pub const PAIRS_IN_MEMORY_MAX: usize = 65_536;

/// How often the rest doubles that follows on a lost comparison with what is remembered of pairs:
/// where other nodes write to the same pairs all the time, one transaction in 31 finds out whether
/// they still do, and what it loses by that is not felt.
pub const MEMORY_REST_DOUBLINGS_MAX: u32 = 5;

/// Entries of a task that stay behind its newest checkpoint, for export and display. They are not
/// needed to go on; 256 explain the last hours of a task without letting a long one grow for ever.
pub const ENTRIES_BEHIND_CHECKPOINT_KEPT: u64 = 256;

/// Entries behind the checkpoint at which they are pruned down to
/// [`ENTRIES_BEHIND_CHECKPOINT_KEPT`]: twice as many, so that a task is walked once in 256 entries.
pub const ENTRIES_BEHIND_CHECKPOINT_MAX: u64 = 2 * ENTRIES_BEHIND_CHECKPOINT_KEPT;

/// Largest segment of entries, in bytes, unless it is one row. The larger this is, the cheaper a
/// commit of many rows: 16 KiB halve what a long row costs, 32 KiB save a third of the rest, 64 KiB
/// would save another fifth. But to read one row means to read its segment. The database rounds up
/// to a power of two what does not fit its own pages, and needs some bytes of it.
pub const SEGMENT_BYTES_MAX: usize = 32 * 1024 - 64;

/// Segments that one batch writes anew, or removes, besides its own work. One that is written anew
/// costs about as much as ten rows, so this adds a few milliseconds to a commit when much dies at
/// once.
pub const SEGMENTS_THINNED_PER_BATCH_MAX: usize = 256;

/// Most that is due to be removed while another lone row is added to it, in rows and segments: one
/// for each task that may write at once, a megabyte in all. A row beyond it is found again at the
/// next start.
pub const LONE_ROWS_DUE_MAX: usize = WRITE_QUEUE_MAX;

/// How far the stored high-water mark of the clock may lag behind, in milliseconds: store time goes
/// back by at most this when the wall clock is set back while the node is down.
pub const CLOCK_LAG_MAX_MS: u64 = 1000;

/// Largest encoded checkpoint that travels inside a journal row, in bytes: the port's bound for the
/// state, and a few hundred bytes for what stands beside it.
pub const INLINE_CHECKPOINT_BYTES_MAX: usize = keybaton_ports::limits::TASK_VALUE_BYTES_MAX + 1024;

/// Events that a reader of the local bus may lag behind before it loses the oldest. A rotation
/// publishes six; this covers a hundred rotations of one tenant at once, and events are hints.
pub const BUS_LAG_MAX: usize = 1024;

/// Largest master key file that is read, in bytes: 64 hexadecimal digits and white space.
pub const KEY_FILE_BYTES_MAX: u64 = 256;

/// Free bytes of the disk below which a preflight says "not now": room for some hundred rotations
/// and hand-overs that are already under way.
pub const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// Longest line of an audit file, in bytes. A record is some hundred bytes; its note names at most
/// some thousand grants.
pub const AUDIT_LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Connections to Postgres. Pairs, steps and checkpoints are each written by two at most, for
/// everybody; what is written alone shares the others with what is read. More would only wait for
/// each other in the server, which has a hundred for all of its users.
pub const POSTGRES_CONNECTIONS_MAX: usize = 8;

/// Longest wait for an answer of Postgres. A commit takes milliseconds, with a synchronous standby
/// on another continent some hundred; after ten seconds the server is taken to be away, and a
/// failover takes about that long anyway.
pub const POSTGRES_ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Longest wait for a connection to one host: several are tried within the wait for an answer.
pub const POSTGRES_CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long a start waits for the session of a process that has just ended. The server notices a
/// closed connection within a statement's time; a second is generous, five are a busy machine.
pub const POSTGRES_RESERVE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Pause between two tries to reserve a store.
pub const POSTGRES_RESERVE_ASK_EVERY: Duration = Duration::from_millis(100);

/// How often a process looks whether its reservation still stands: one empty statement.
pub const POSTGRES_RESERVE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// From so many operations on, a batch for a database is sent as two, of which one is prepared while
/// the other is written. Below, a second round trip costs more than it hides.
pub const BATCH_WORTH_SPLITTING: usize = 32;

/// The part of a crowd by which the queue of a database believes at each batch that it has become
/// smaller, unless it sees otherwise: an eighth, so that one short batch does not count as a smaller
/// crowd, and half of it is forgotten within six.
pub const CROWD_FORGOTTEN_IN: usize = 8;

/// Longest wait of operations for others to go with them while a batch is under way. A batch takes a
/// few milliseconds; one that takes so long waits for something, and nobody should wait with it.
pub const COMPANY_WAIT_MAX: Duration = Duration::from_millis(50);

/// Most operations that one transaction in Postgres carries. Its cost is a round trip and a sync;
/// with 500 in it, both have fallen below the cost of the rows.
pub const POSTGRES_BATCH_MAX: usize = 512;

/// Largest password file, in bytes: tokens of managed databases are some kilobytes long.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Tasks whose life is remembered, so that an append needs no look first. One takes about 200
/// bytes; ten thousand tasks run at once.
pub const TASK_LIVES_KEPT: usize = 65_536;

/// Longest wait for a connection to Redis and for signing in. Both take a millisecond in one data
/// centre; a stopped server accepts and never answers.
pub const REDIS_CONNECT_MAX: Duration = Duration::from_secs(2);

/// Longest wait for an answer of Redis. It answers within a millisecond, or within a disk's second
/// when every write is synced; nobody should wait longer for a hint.
pub const REDIS_ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long everybody is told "away" after a failed connection before one tries again: less than
/// the heartbeat by which readers learn the same from the record.
pub const REDIS_RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// How long a reader's question stays with the server when there is nothing to read. Each return
/// costs one more question, which notices a stream that began anew.
pub const REDIS_READ_BLOCK: Duration = Duration::from_secs(5);

/// First pause of a reader whose connection broke; doubled up to [`REDIS_READ_RETRY_MAX`].
pub const REDIS_READ_RETRY_MIN: Duration = Duration::from_millis(50);

/// Longest pause of a reader: a server that comes back is heard again this soon.
pub const REDIS_READ_RETRY_MAX: Duration = Duration::from_secs(2);

/// Events that one answer brings. Six make a rotation; more would only wait in our memory.
pub const REDIS_READ_EVENTS_MAX: usize = 64;

/// Events of a tenant that Redis keeps, about 200 bytes each: a day of a rotation every hour of
/// each of twenty pairs, and less than a MiB. A reader that falls further behind loses the oldest.
pub const REDIS_STREAM_EVENTS_MAX: usize = 4096;

/// How long Redis keeps what is published about a tenant after its last event, so that tenants
/// that have left do not stay for ever. Longer than any weekend.
pub const REDIS_TENANT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a member of a group may work on an event before another member gets it.
pub const REDIS_CLAIM_AFTER: Duration = Duration::from_secs(30);

/// Longest password for Redis, in bytes: twice a SHA-512 in hexadecimal form.
pub const REDIS_PASSWORD_BYTES_MAX: usize = 256;

/// Most changes that one pipeline to Redis carries, and most operations of one change. Redis does
/// nothing else while it carries one out; a hundred take a few milliseconds, and the sync that they
/// share has become cheap by then.
pub const REDIS_BATCH_MAX: usize = 128;

/// Most bytes of changes that one run of the script in Redis carries out; a larger change goes by
/// itself. Redis holds all of a run, and copies it, before it begins. A hundred steps of tasks with
/// small results are a tenth of it.
pub const REDIS_RUN_BYTES_MAX: usize = 1024 * 1024;

/// Most pipelines that are on their way to Redis at once: one that it works on, and one that it finds
/// when it has answered that.
pub const REDIS_PIPELINES_MAX: usize = 2;

/// Longest wait for Redis as a journal. A write takes a sync, with replicas theirs too; after ten
/// seconds the server is taken to be away, as long as for Postgres.
pub const REDIS_JOURNAL_ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a process has a store in Redis to itself without saying so again. A start after a kill
/// waits so long; a process that is silent for longer has slept, or cannot reach the server.
pub const REDIS_RESERVE_FOR: Duration = Duration::from_secs(6);

/// How often it says so again: two answers may be lost before the time is over.
pub const REDIS_RESERVE_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Pause between two tries to reserve a store.
pub const REDIS_RESERVE_ASK_EVERY: Duration = Duration::from_millis(100);

/// Tries before one gives up: as many as fit into the time of a note that is not written again, and
/// as many again for a busy machine.
pub const REDIS_RESERVE_TRIES_MAX: u32 = 120;

const _: () = assert!(
    REDIS_RESERVE_ASK_EVERY.as_millis() * REDIS_RESERVE_TRIES_MAX as u128
        >= 2 * REDIS_RESERVE_FOR.as_millis()
);

/// Tasks that one question about a list of them names, so that Redis and the answer stay small.
pub const REDIS_TASKS_PER_QUESTION: usize = 256;
