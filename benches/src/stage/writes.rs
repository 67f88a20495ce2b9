//! Counts what the embedded store writes, by the counters that it offers to operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The count of operations that every embedded store of this process has committed.
#[derive(Clone, Default)]
pub struct Writes(Arc<AtomicU64>);

impl Writes {
    /// Counts from now on; once in a process.
    ///
    /// # Errors
    /// When something counts already.
    pub fn count() -> anyhow::Result<Self> {
        let writes = Self::default();
        metrics::set_global_recorder(Counting(writes.clone()))
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(writes)
    }

    /// Operations so far.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps one counter and lets everything else pass.
struct Counting(Writes);

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "keybaton_store_operations_total" {
            Counter::from_arc(Arc::clone(&self.0.0))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
