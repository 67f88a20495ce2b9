//! Waits for a future on a thread of its own, so that blocking calls may be made from asynchronous
//! tests: a runtime refuses to be blocked within another.

use std::future::Future;

use anyhow::{Context, Result};

/// Waits for `future`.
pub fn wait_for<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("cannot make a runtime")?.block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
