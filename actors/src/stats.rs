//! What this node measured of its own boundaries, for the demo and the benches.
//!
//! Times are microseconds. A boundary runs from the end of one step to the start of the next one.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest boundary that is told from longer ones.
const HOUR_MICROS: u64 = 3_600_000_000;

/// Histograms of boundaries since they were last taken.
pub struct Stats {
    ordinary: Mutex<Histogram<u64>>,
    hand_over: Mutex<Histogram<u64>>,
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_max(HOUR_MICROS, 3).expect("three digits are a valid precision")
}

impl Default for Stats {
    fn default() -> Self {
        Self { ordinary: Mutex::new(empty()), hand_over: Mutex::new(empty()) }
    }
}

impl Stats {
    /// Notes a boundary without a hand-over.
    pub fn note_ordinary(&self, pause: Duration) {
        self.ordinary.lock().saturating_record(micros(pause));
    }

    /// Notes a hand-over: the pause between the last step under the old key and the first under
    /// the new.
    pub fn note_hand_over(&self, pause: Duration) {
        metrics::histogram!("keybaton_task_swap_duration_seconds").record(pause.as_secs_f64());
        self.hand_over.lock().saturating_record(micros(pause));
    }

    /// Takes both histograms (ordinary, hand-over) and starts new ones.
    #[must_use]
    pub fn take(&self) -> (Histogram<u64>, Histogram<u64>) {
        let ordinary = std::mem::replace(&mut *self.ordinary.lock(), empty());
        let hand_over = std::mem::replace(&mut *self.hand_over.lock(), empty());
        (ordinary, hand_over)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
