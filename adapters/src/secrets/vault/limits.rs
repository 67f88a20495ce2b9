//! Bounds of the Vault adapter, each with its reason.

use std::time::Duration;

/// Longest wait for a connection, TLS included. Vault stands in the same network; what takes
/// longer is not reachable, and nothing was sent yet.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// Longest wait for one whole call when the settings do not say. Vault answers in milliseconds;
/// a raft cluster that elects a leader takes some seconds. A question of the actors may last a
/// minute and is at most a handful of calls.
pub const CALL_WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest wait for one call that settings may ask for: the actors give up a question after a
/// minute, and would never hear of a longer one.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(60);

/// Calls that one store has open at once. Vault's own default limit of requests in flight is far
/// higher; this bounds sockets and buffers when it hangs. Beyond it callers wait in line.
pub const CALLS_OPEN_MAX: usize = 128;

/// Largest answer that is read, in bytes: a secret of 16 KiB in base64, JSON escapes of six bytes
/// a letter in the worst case, and what stands beside it. It is also the buffer that is allocated
/// when no length is announced, so that it never has to move and leave a copy.
pub const ANSWER_BYTES_MAX: usize = 128 * 1024;
const _: () = assert!(ANSWER_BYTES_MAX >= 6 * keybaton_ports::limits::SECRET_BYTES_MAX + 8 * 1024);

/// How long a pinned version that is missing is asked for again at a node that is not the active
/// one: a performance standby or a replica may lag behind.
pub const STALE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Pause between two such questions.
pub const STALE_ASK_EVERY: Duration = Duration::from_millis(250);

/// Versions that are kept from the first write on. Vault's default of 10 would push a version that
/// is in use out of the store after ten attempts.
pub const VERSIONS_MAX: u64 = 64;

/// Versions that may be kept at most. A version beyond [`VERSIONS_MAX`] is kept because an older
/// one was never destroyed; more than a thousand of them is not a rotation that is late.
pub const VERSIONS_CEILING: u64 = 1024;
const _: () = assert!(VERSIONS_MAX <= VERSIONS_CEILING);

/// Versions that are read at once for a list. There are two or three as a rule.
pub const READS_AT_ONCE: usize = 8;

/// How often a write that lost its check-and-set is tried again. Each loss means that another
/// write succeeded, and one pair has one writer.
pub const LOST_WRITES_MAX: u32 = 16;

/// Life that a token must have left before a key is issued: the answer of the provider must find
/// a store that takes it.
pub const TOKEN_LEFT_MIN: Duration = Duration::from_secs(300);

/// First pause before a renewal or a login that failed is tried again.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest such pause. A token of an hour is renewed 20 minutes before its end, which leaves room
/// for forty tries.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// Longest credential that is read from a file, in bytes. Vault's tokens are below 200 bytes,
/// batch tokens below 1 KiB, and a header of 8 KiB is refused by most servers.
pub const CREDENTIAL_BYTES_MAX: u64 = 4096;

/// Longest CA bundle that is read, in bytes: the bundle of all public authorities is 250 KiB.
pub const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Locks that keep the witness writes of one pair apart. Pairs that share one wait for each other
/// for the length of two calls.
pub const WITNESS_LOCKS: usize = 64;

/// Longest mount or prefix, in bytes. Vault's own bound of a path is some KiB; two names of 63
/// bytes follow.
pub const PLACE_BYTES_MAX: usize = 128;
