//! Waiting for something that must come, with an end.

use std::future::Future;
use std::time::Duration;

/// Longest wait for anything that must come. The slowest machine in mind is two cores that build
/// something else at the same time; whatever takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often something is looked at that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// Looks at what nobody announces, until it is so.
///
/// # Panics
/// As [`soon`].
pub async fn soon_so(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !is_so() {
            look.tick().await;
        }
    };
    soon(what, looking).await;
}
