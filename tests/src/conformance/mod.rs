//! What each port promises, one case for one sentence of its doc comments.
//!
//! A case is an async function over a world that has an implementation of the port. A suite is a
//! macro that runs all cases of one port as tests of their own, each in a new world; it is called
//! once for every adapter and every fake.

pub mod audit;
pub mod bus;
pub mod checkpoints;
pub mod clock;
pub mod journal;
pub mod journal_audit;
pub mod journal_grants;
pub mod provider;
pub mod records;
pub mod secrets;
pub mod task_entries;
pub mod tasks;

use std::sync::Arc;

/// A world that has an implementation of the port `P`.
pub trait Has<P: ?Sized>: Send + Sync {
    /// The implementation; the same one at every call.
    fn port(&self) -> Arc<P>;
}

/// Runs the named cases as tests of their own. `$open` is an async function without arguments that
/// opens a new world; with `if_there` behind it, it may answer `None` where a server is not on the
/// machine, and says so itself.
#[macro_export]
macro_rules! conformance_cases {
    ($suite:ident, $open:path => $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $open().await;
                $crate::conformance::$suite::$case(&world).await;
            }
        )*
    };
    ($suite:ident, $open:path, if_there => $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(world) = $open().await else { return };
                $crate::conformance::$suite::$case(&world).await;
            }
        )*
    };
}
