//! What will happen, and when: data, so that it outlives the node that asked for it.
//!
//! **Invariant:** what is due at the same moment happens in the order in which it was written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::world::World;

/// What becomes of an entry when the node crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// It was on its way inside of the process: it happened just before the crash, or never.
    Process,
    /// It is on its way to somebody else: it arrives, or is lost.
    Wire,
    /// It has nothing to do with the node.
    World,
}

type What = Box<dyn FnOnce(&Arc<World>) + Send>;

/// One entry.
pub(crate) struct Entry {
    pub(crate) bound: Bound,
    pub(crate) what: What,
}

/// Everything that will happen.
#[derive(Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<(Duration, u64), Entry>,
    written: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Duration, bound: Bound, what: What) {
        self.written += 1;
        self.entries.insert((at, self.written), Entry { bound, what });
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Entry> {
        let first = self.entries.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Everything of the dead node; what was on the wire stays where `stays` says so. Returns what
    /// was inside of the process.
    pub(crate) fn crash(&mut self, mut stays: impl FnMut() -> bool) -> Vec<Entry> {
        let mut inside = Vec::new();
        for (place, entry) in std::mem::take(&mut self.entries) {
            match entry.bound {
                Bound::Process => inside.push(entry),
                Bound::Wire if !stays() => {}
                Bound::Wire | Bound::World => {
                    self.entries.insert(place, entry);
                }
            }
        }
        inside
    }
}
