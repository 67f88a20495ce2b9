//! Bounds of the provider adapters, each with its reason.

use std::time::Duration;

/// Longest wait for a connection, TLS included. A vendor's edge answers in tens of milliseconds;
/// what takes longer is not reachable, and nothing was sent yet.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest wait for one whole call when the settings do not say. Creating a key takes about a
/// second at the vendors; the rotation allows 30 s for an issue.
pub const CALL_WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// Longest wait for one call that settings may ask for. The settle wait of a rotation is built
/// on it: ten minutes without an answer is an outage, not patience.
pub const CALL_WAIT_MAX: Duration = Duration::from_secs(600);

/// Longest wait for a whole listing. Listings guard revocations and sweeps; one that takes
/// longer is begun again.
pub const LIST_WAIT_MAX: Duration = Duration::from_secs(120);

/// Calls that one adapter has open at once. Each holds a socket and at most
/// [`ANSWER_BYTES_MAX`]. Beyond it a call is turned away before its first byte: a queue here
/// would stand between the lease check of an issue and its request.
pub const CALLS_OPEN_MAX: usize = 256;

/// Largest answer that is read, in bytes. A page of 100 keys is below 100 KiB at both vendors,
/// a list of models below 200 KiB.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Largest answer to an issue, in bytes: an object of a dozen fields, the key among them.
/// It is also the buffer that is allocated for it, so that it never has to move and leave a copy.
pub const ISSUE_ANSWER_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(ISSUE_ANSWER_BYTES_MAX <= ANSWER_BYTES_MAX);

/// Shortest key that is believed, in bytes. The shortest in use are LiteLLM's, which refuses
/// fewer than 16; anything shorter could be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// Longest key that is believed, in bytes. Vendors' keys are below 300 bytes, signed tokens
/// below 4 KiB, and a header of 8 KiB is refused by most servers.
pub const KEY_BYTES_MAX: usize = 4096;

/// Longest id of a project, account or key, in bytes. UUIDs and hex digests are the longest in
/// use; three of them joined fit a provider key id.
pub const ID_BYTES_MAX: usize = 128;
const _: () =
    assert!(3 * (ID_BYTES_MAX + 1) + 4 <= keybaton_messages::limits::PROVIDER_KEY_ID_BYTES_MAX);

/// Keys per page that are asked for: the most that OpenAI gives.
pub const PAGE_KEYS: usize = 100;

/// Most pages of one listing: 20 000 keys of one tenant. A tenant has one key per agent at most;
/// a listing that does not end is broken, and a part of it must not pass for the whole.
pub const LIST_PAGES_MAX: usize = 200;

/// By how many keys two pages that are counted by offset overlap. As many keys may be deleted
/// between two pages without one of the others being skipped.
pub const PAGE_OVERLAP_KEYS: usize = 10;
const _: () = assert!(PAGE_OVERLAP_KEYS < PAGE_KEYS);

/// Longest wait that a vendor may impose by `Retry-After`. Longer ones are asked again after an
/// hour, so that one wrong header does not stop a pair for ever.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Longest life that may be asked for a key, in seconds: OpenAI takes 1 to 31536000 (its
/// reference of `expires_in_seconds`, 2026-11).
pub const LIFETIME_SECONDS_MAX: u64 = 31_536_000;

/// Longest code of a vendor's error that is repeated in our own, in letters.
pub const ERROR_CODE_LETTERS_MAX: usize = 48;

/// Longest first life of a lease that nobody renews, when nobody says otherwise: as long as a
/// burned label is looked for by default. Until so much time has passed a lease whose answer was
/// lost may be alive.
pub const LEASE_LIFE_MAX_DEFAULT: Duration = Duration::from_hours(24);

/// Shortest pause between two renewals of one lease. Close to its longest life Vault grants less
/// and less, and halving would never end.
pub const LEASE_RENEW_EVERY_MIN: Duration = Duration::from_secs(1);
