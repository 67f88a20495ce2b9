//! Chance, drawn from the seed and from nothing else.

use std::time::Duration;

use keybaton_ports::Entropy;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// What a stream of chance is for. Streams are apart, so that drawing an id more moves no fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Shapes of the world: policies, pairs, tasks.
    Shape = 1,
    /// Faults, latencies, what people do.
    Faults = 2,
    /// What the actors draw: ids, jitter.
    Ids = 3,
}

/// One stream of chance.
pub(crate) struct Dice(Mutex<StdRng>);

impl Dice {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        // Neighbouring seeds must not be neighbouring streams.
        let stream = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((purpose as u64) << 56);
        Self(Mutex::new(StdRng::seed_from_u64(stream)))
    }

    /// A stream that no seed gives, for tests that must notice it.
    pub(crate) fn unseeded() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    pub(crate) fn chance(&self, per_mille: u32) -> bool {
        self.0.lock().random_ratio(per_mille, 1000)
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.0.lock().random_range(low..=high)
    }

    /// Whole milliseconds, as timers have them.
    pub(crate) fn wait(&self, low: Duration, high: Duration) -> Duration {
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).expect("a short wait");
        Duration::from_millis(self.between(millis(low), millis(high)))
    }

    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub(crate) fn seconds(&self, low: u64, high: u64) -> Duration {
        self.millis(low * 1000, high * 1000)
    }

    /// One of these, or nothing of nothing.
    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        let at = self.0.lock().random_range(0..from.len());
        from.get(at)
    }
}

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}
