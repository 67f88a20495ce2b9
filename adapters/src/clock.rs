//! Store time of a single node: it never goes back, whatever the wall clock does.
//!
//! Read once at start: the wall clock or the stored high-water mark, whichever is later. From then
//! on it is that base and the time since boot, which also runs while the machine is suspended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use keybaton_messages::Timestamp;
use keybaton_ports::Clock;
use rustix::time::{ClockId, clock_gettime};

/// The system's clock, steadied.
#[derive(Debug)]
pub struct SystemClock {
    base: Duration,
    last_ms: AtomicU64,
}

impl SystemClock {
    /// Starts no earlier than `not_before`, the last time that the store remembers.
    #[must_use]
    pub fn start(not_before: Timestamp) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::start_at(wall, not_before)
    }

    fn start_at(wall: Duration, not_before: Timestamp) -> Self {
        let wall = wall.max(Duration::from_millis(not_before.0));
        Self { base: wall.saturating_sub(boottime()), last_ms: AtomicU64::new(not_before.0) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = (self.base + boottime()).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let before = self.last_ms.fetch_max(millis, Ordering::Relaxed);
        Timestamp(before.max(millis))
    }

    fn boottime(&self) -> Duration {
        boottime()
    }
}

fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_wall_clock_that_was_set_back_does_not_take_store_time_back() {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let remembered = Timestamp(u64::try_from(wall.as_millis()).unwrap());
        let clock = SystemClock::start_at(wall - DAY, remembered);
        assert!(clock.now() >= remembered);
        assert!(remembered.until(clock.now()) < DAY, "it goes on from there and does not jump");
    }

    #[test]
    fn a_wall_clock_that_is_ahead_is_believed() {
        let clock = SystemClock::start_at(DAY * 40_000, Timestamp(1));
        assert!(clock.now() >= Timestamp(0) + DAY * 40_000);
    }
}
