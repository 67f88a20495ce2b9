//! Whether the embedded store may still write, as a full disk decides it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes that are refused; the largest number stands for all of them.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Refuses the next write, or all of them.
pub(super) fn refuse(all: bool) {
    REFUSED.store(if all { u32::MAX } else { 1 }, Ordering::SeqCst);
}

/// Whether the disk takes a write.
///
/// # Errors
/// "No space left on device", when a crash point took the disk away.
pub fn check_disk() -> io::Result<()> {
    const NO_SPACE_LEFT: i32 = 28;
    let refuse = |left: u32| match left {
        0 => None,
        u32::MAX => Some(left),
        some => Some(some - 1),
    };
    match REFUSED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse) {
        Ok(_) => Err(io::Error::from_raw_os_error(NO_SPACE_LEFT)),
        Err(_none) => Ok(()),
    }
}
