//! Bounds that every implementation of a port keeps, each with its reason.

/// Largest secret, in bytes. API keys are below 300 bytes; a PEM service-account file is below
/// 4 KiB; anything larger is not a key.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Largest checkpoint or step outcome, in bytes. A conversation of a long-running agent is some
/// hundred KiB; 1 MiB bounds what one task can make the store write at once.
pub const TASK_VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Most audit records that one read returns.
pub const AUDIT_PAGE_MAX: usize = 1000;
