//! Bounds of one pair's record, each with its reason.

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
