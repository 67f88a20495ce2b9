//! What happened, line by line, with virtual time. Two runs of one seed have the same text.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Counts what happens, and writes it down where that is wanted.
pub(crate) struct Trace {
    text: Option<Mutex<String>>,
    events: AtomicU64,
    /// The present second of virtual time, and what happened in it.
    second: Mutex<(u64, u64)>,
}

impl Trace {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self {
            text: is_kept.then(Mutex::default),
            events: AtomicU64::new(0),
            second: Mutex::default(),
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.text.is_some()
    }

    /// Returns how much has happened in this second of virtual time.
    pub(crate) fn note(&self, now: Duration, line: impl FnOnce() -> String) -> u64 {
        self.events.fetch_add(1, Ordering::Relaxed);
        let in_second = {
            let mut second = self.second.lock();
            if second.0 != now.as_secs() {
                *second = (now.as_secs(), 0);
            }
            second.1 += 1;
            second.1
        };
        if let Some(text) = &self.text {
            let line = format!("{:>9}.{:03} {}\n", now.as_secs(), now.subsec_millis(), line());
            text.lock().push_str(&line);
        }
        in_second
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self) -> String {
        self.text.as_ref().map(|text| std::mem::take(&mut *text.lock())).unwrap_or_default()
    }
}
