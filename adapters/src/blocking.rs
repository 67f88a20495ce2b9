//! Work that blocks a thread for about as long as a disk takes.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `act` here and now. On a runtime with several threads its other tasks move to another
/// thread meanwhile; on one with a single thread they wait.
pub(crate) fn blocking<T>(act: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(act)
    } else {
        act()
    }
}
