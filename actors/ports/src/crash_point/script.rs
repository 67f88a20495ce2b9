//! What is to happen where: `<place>[@<tenant>]:<n>[+<millis>]=<way>`, several with commas.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What happens to a process at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// SIGKILL.
    Kill,
    /// SIGSTOP; somebody else sends SIGCONT.
    Stop,
    /// The disk refuses every write from here on.
    Refuse,
    /// The disk refuses one write.
    Stumble,
    /// What is done there is done twice, from here on.
    Twice,
    /// Nothing: it is only said, each time from here on.
    Tell,
}

/// One thing to happen at one place.
pub(super) struct Script {
    /// The place's name, or its beginning with a star behind it.
    place: String,
    tenant: Option<String>,
    /// At the n-th time that the place is reached.
    nth: u32,
    /// So long after it was reached; meanwhile the process goes on.
    pub(super) delay: Option<Duration>,
    pub(super) way: Way,
    seen: AtomicU32,
}

impl Script {
    /// Counts one arrival and says whether it is the one.
    pub(super) fn strikes(&self, place: &str, tenant: &str) -> bool {
        let is_it = |n: u32| n == self.nth || (n > self.nth && self.way == Way::Tell);
        self.way != Way::Twice && self.count(place, tenant).is_some_and(is_it)
    }

    /// Counts one arrival and says whether what is done there is done twice.
    pub(super) fn doubles(&self, place: &str, tenant: &str) -> bool {
        self.way == Way::Twice && self.count(place, tenant).is_some_and(|n| n >= self.nth)
    }

    fn count(&self, place: &str, tenant: &str) -> Option<u32> {
        let is_here = match self.place.strip_suffix('*') {
            Some(beginning) => place.starts_with(beginning),
            None => place == self.place,
        };
        let is_other = self.tenant.as_ref().is_some_and(|named| named != tenant);
        (is_here && !is_other).then(|| self.seen.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl FromStr for Script {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (at, way) = text.split_once('=').ok_or("a script reads <place>:<n>=<way>")?;
        let (place, count) = at.rsplit_once(':').unwrap_or((at, "1"));
        let (nth, delay) = count.split_once('+').map_or((count, None), |(n, ms)| (n, Some(ms)));
        let (place, tenant) = match place.split_once('@') {
            Some((place, tenant)) => (place, Some(tenant.to_owned())),
            None => (place, None),
        };
        let delay = delay.map(|ms| ms.parse().map(Duration::from_millis)).transpose();
        Ok(Self {
            place: place.to_owned(),
            tenant,
            nth: nth.parse().map_err(|_| "how often is a number")?,
            delay: delay.map_err(|_| "a delay is a number of milliseconds")?,
            way: match way {
                "kill" => Way::Kill,
                "stop" => Way::Stop,
                "refuse" => Way::Refuse,
                "stumble" => Way::Stumble,
                "twice" => Way::Twice,
                "tell" => Way::Tell,
                _ => return Err("a way is kill, stop, refuse, stumble, twice or tell"),
            },
            seen: AtomicU32::new(0),
        })
    }
}
