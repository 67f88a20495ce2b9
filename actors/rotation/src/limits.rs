//! Bounds of one pair's record, each with its reason.

use std::time::Duration;

/// Ended versions that the record keeps: enough to explain the last rotations, while key claims
/// are kept for ever beside the record.
pub const ENDED_VERSIONS_KEPT: usize = 16;

/// Trigger ids that the record remembers, so that a repeated trigger answers with its rotation.
/// Deliveries are repeated within minutes; 64 covers a burst from every source at once.
pub const TRIGGERS_KEPT: usize = 64;

/// Labels that one rotation may burn before it fails while an active key exists. Each is a key
/// that may live at the provider until it is swept; eight bounds that number.
pub const LABELS_BURNED_MAX: u32 = 8;

/// Longest reason text of a trigger, in bytes: it stands in the record and in the audit.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest error line that the record keeps for people, in bytes. Longer ones are cut.
pub const ERROR_BYTES_MAX: usize = 256;

/// A cut can be lost, so it is repeated this often for as long as somebody holds on.
pub const CUT_EVERY: Duration = Duration::from_mins(1);

/// How far an operator may move a hard deadline at once: whoever wants more can ask again, and
/// a slip of the finger does not keep an old key alive for years.
pub const EXTEND_MAX: Duration = Duration::from_hours(24);

/// A rotation that fails while its active key has less than this to live pages about it.
pub const EXPIRY_WARNING: Duration = Duration::from_hours(24);

/// Attempts to revoke between two pages; with the usual pauses that is about ten minutes.
pub const TRIES_BEFORE_PAGE: u32 = 10;

/// Longest duration that a policy may name: ten years. Beyond it a number is a typing error, and
/// sums of store times stay far from their end.
pub const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);
