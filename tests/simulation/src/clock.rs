//! Virtual time: the runtime's while a node lives, and going on from where it stood when the next
//! one starts.

use std::time::Duration;

use keybaton_messages::Timestamp;
use keybaton_ports::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Store time at the world's beginning, milliseconds: any moment will do.
const BEGINNING: u64 = 1_700_000_000_000;

#[derive(Default)]
struct State {
    /// World time when the present runtime began, or as it stands without one.
    base: Duration,
    began: Option<Instant>,
    /// How far store time has been set forward between lives.
    ahead: Duration,
}

/// The clock of the world and of its nodes.
#[derive(Default)]
pub(crate) struct WorldClock(Mutex<State>);

impl WorldClock {
    /// Time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        let state = self.0.lock();
        state.base + state.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// From here on the runtime moves time. Call it inside of one.
    pub(crate) fn begin(&self) {
        self.0.lock().began = Some(Instant::now());
    }

    /// The runtime ends. Call it inside of one.
    pub(crate) fn end(&self) {
        let now = self.elapsed();
        let mut state = self.0.lock();
        (state.base, state.began) = (now, None);
    }

    /// Moves time where no runtime does; never back.
    pub(crate) fn move_to(&self, at: Duration) {
        let mut state = self.0.lock();
        state.base = state.base.max(at);
    }

    /// Sets store time forward, as a wall clock may be between two lives.
    pub(crate) fn set_forward(&self, by: Duration) {
        self.0.lock().ahead += by;
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed() + self.0.lock().ahead;
        Timestamp(BEGINNING + u64::try_from(elapsed.as_millis()).expect("no run lasts that long"))
    }

    fn boottime(&self) -> Duration {
        self.elapsed()
    }
}
