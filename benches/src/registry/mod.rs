//! The holder registry beside what one would take otherwise.
//!
//! | baseline | what it is |
//! |---|---|
//! | `own_line` | two `fetch_add` on a line of the thread's own: the limit |
//! | `shared_line` | the same on one line for all threads |
//! | `dashmap_tuned` | the pair's own map from lease to task, handle resolved, cheap hash, closed flag |
//! | `dashmap_lavish` | the same with 512 shards, 64 KiB for each pair |
//! | `dashmap_by_task` | a map from task to count, so that a thread stays in one shard |
//! | `dashmap_naive` | one map from (pair, version) to a set of leases |
//!
//! All count leases, not tasks, because a task may hold two.

pub mod baselines;
mod crowd;
mod flow;
mod hot;
pub mod memory;
mod zipf;

use crate::figure::Report;

/// Measures all figures of the registry.
///
/// # Errors
/// When the program cannot start itself to weigh memory, or a runtime cannot be built.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    hot::hot_cycle(report);
    zipf::zipf_oneshot(report);
    crowd::resident_churn(report);
    flow::cross_thread_release(report);
    crowd::holders_scan(report);
    crowd::drain(report);
    flow::after_rotation(report);
    flow::tokio_cycle(report)?;
    flow::latency(report);
    memory::bytes(report)
}
