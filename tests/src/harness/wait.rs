//! Waiting for something that must come, with an end.

use std::future::Future;
use std::time::Duration;

/// Longest wait for anything that must come. The slowest machine in mind is two cores that build
/// something else at the same time; whatever takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for `future`.
///
/// # Panics
/// After [`PATIENCE`], naming what did not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}
