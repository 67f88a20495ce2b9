//! Bounds of the vocabulary, each with its reason.

/// Longest tenant, provider or task name, in bytes. It must fit a path component, a DNS label
/// and a metric label without escaping; 63 is the shortest of those limits.
pub const NAME_BYTES_MAX: usize = 63;

/// Longest trigger id, in bytes. Callers use UUIDs, delivery ids of webhooks and digests; the
/// longest of these in use is a hex SHA-512.
pub const TRIGGER_ID_BYTES_MAX: usize = 128;

/// Longest provider key id, in bytes. OpenAI's joined `project/account/key` is the longest known
/// and stays below 200.
pub const PROVIDER_KEY_ID_BYTES_MAX: usize = 512;

/// Largest value that the wire codec reads or writes, in bytes. A checkpoint of 1 MiB and its
/// envelope fit twice; anything larger is refused before it is decoded.
pub const WIRE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest label, in bytes. Google's `keyId` allows 63; display names allow more.
pub const LABEL_BYTES_MAX: usize = 40;
