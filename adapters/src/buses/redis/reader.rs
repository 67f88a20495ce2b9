//! One reader of one tenant's stream, on a connection of its own: a question that waits for news
//! holds its connection, and a broken stream of one tenant must not silence another one's.
//!
//! **Invariant:** a reader that was cut off goes on after the last entry it gave out; what the
//! server has trimmed or lost meanwhile is lost, and nothing waits for it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use keybaton_messages::{Event, TenantId};
use keybaton_ports::Refusal;
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, FromRedisValue, cmd};
use tokio::sync::watch;

use super::entry::{RawEntry, parse, stream_key};
use super::link::{Link, ask_on, connect};
use crate::limits::{
    REDIS_ANSWER_MAX, REDIS_READ_BLOCK, REDIS_READ_EVENTS_MAX, REDIS_READ_RETRY_MAX,
    REDIS_READ_RETRY_MIN,
};

/// The place of an entry in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    millis: u64,
    number: u64,
}

impl Place {
    /// Before every entry.
    const START: Self = Self { millis: 0, number: 0 };

    fn parse(id: &str) -> Option<Self> {
        let (millis, number) = id.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }

    fn id(self) -> String {
        format!("{}-{}", self.millis, self.number)
    }
}

/// From where a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// The server is being asked for the newest entry.
    Asking,
    /// After this entry.
    After(Place),
    /// The server did not answer: from the newest entry when it does.
    Unknown,
}

/// The newest entry of a tenant's stream.
pub(super) fn newest_entry(tenant: &TenantId) -> Cmd {
    let mut question = cmd("XREVRANGE");
    question.arg(stream_key(tenant)).arg("+").arg("-").arg("COUNT").arg(1);
    question
}

fn place(entries: &[RawEntry]) -> Place {
    entries.first().and_then(|entry| Place::parse(&entry.id)).unwrap_or(Place::START)
}

/// Asks where a reader that subscribes now begins.
pub(super) async fn place_now(link: &Link, tenant: &TenantId) -> Begin {
    match link.ask::<Vec<RawEntry>>(&newest_entry(tenant)).await {
        Ok(entries) => Begin::After(place(&entries)),
        Err(refusal) => {
            tracing::warn!(%tenant, %refusal, "the reader begins when redis answers");
            Begin::Unknown
        }
    }
}

/// A stream's answer to XREAD: nothing, or the entries of the one stream that was asked for.
pub(super) type Read = Option<Vec<(String, Vec<RawEntry>)>>;

/// One reader.
pub(super) struct Reader {
    client: Client,
    tenant: TenantId,
    from: watch::Receiver<Begin>,
    closed: watch::Receiver<()>,
    last: Option<Place>,
    connection: Option<MultiplexedConnection>,
    ready: VecDeque<Event>,
    pause: Duration,
}

impl Reader {
    pub(super) fn new(
        client: Client,
        tenant: TenantId,
        from: watch::Receiver<Begin>,
        closed: watch::Receiver<()>,
    ) -> Self {
        let pause = REDIS_READ_RETRY_MIN;
        let (last, connection, ready) = (None, None, VecDeque::new());
        Self { client, tenant, from, closed, last, connection, ready, pause }
    }

    /// The next event; `None` when the bus is closed.
    pub(super) async fn next(mut self) -> Option<(Event, Self)> {
        let mut closed = self.closed.clone();
        tokio::select! {
            // The sender says nothing: it ends when the bus does.
            _ = closed.changed() => None,
            event = self.wait() => Some((event, self)),
        }
    }

    async fn wait(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            match self.read().await {
                Ok(()) => self.pause = REDIS_READ_RETRY_MIN,
                Err(refusal) => {
                    tracing::warn!(tenant = %self.tenant, %refusal, "events are not heard; trying again");
                    self.connection = None;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(REDIS_READ_RETRY_MAX);
                }
            }
        }
    }

    /// One question for news, which waits a while with the server.
    async fn read(&mut self) -> Result<(), Refusal> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.client).await?);
            self.check_place().await?;
        }
        let last = self.last.unwrap_or(Place::START);
        let mut question = cmd("XREAD");
        question.arg("COUNT").arg(REDIS_READ_EVENTS_MAX);
        question.arg("BLOCK").arg(millis(REDIS_READ_BLOCK));
        question.arg("STREAMS").arg(stream_key(&self.tenant)).arg(last.id());
        let read: Read = self.ask(&question, REDIS_READ_BLOCK + REDIS_ANSWER_MAX).await?;
        let entries: Vec<_> = read.into_iter().flatten().flat_map(|(_, entries)| entries).collect();
        if entries.is_empty() {
            return self.check_place().await;
        }
        for entry in entries {
            self.last = Place::parse(&entry.id).or(self.last);
            match parse(&self.tenant, &entry) {
                Some((event, _)) => self.ready.push_back(event),
                None => {
                    tracing::warn!(tenant = %self.tenant, id = entry.id, "an entry that is no event");
                }
            }
        }
        Ok(())
    }

    /// Finds the place to read from. A stream whose newest entry lies before ours began anew (the
    /// server lost it, or was restored): it is read from its start, which repeats at most what it
    /// had kept.
    async fn check_place(&mut self) -> Result<(), Refusal> {
        let newest: Vec<RawEntry> = self.ask(&newest_entry(&self.tenant), REDIS_ANSWER_MAX).await?;
        let newest = place(&newest);
        match self.last {
            None => {
                // The asker ends with an answer, and if it died there is none.
                let known = self.from.wait_for(|from| *from != Begin::Asking).await;
                self.last = match known.map(|from| *from) {
                    Ok(Begin::After(place)) if place <= newest => Some(place),
                    Ok(Begin::After(_)) => Some(Place::START),
                    _ => Some(newest),
                };
            }
            Some(last) if newest < last => self.last = Some(Place::START),
            Some(_) => {}
        }
        Ok(())
    }

    async fn ask<T: FromRedisValue>(
        &mut self,
        question: &Cmd,
        wait: Duration,
    ) -> Result<T, Refusal> {
        let Some(connection) = &mut self.connection else {
            return Err(Refusal::busy("not connected to redis"));
        };
        ask_on(connection, question, wait).await.0
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Readers whose place is being asked for, by tenant: who publishes waits for those who subscribed
/// before, so that "from the moment of subscribing" holds within this process.
#[derive(Default)]
pub(super) struct Beginners(parking_lot::Mutex<HashMap<TenantId, Vec<watch::Receiver<Begin>>>>);

impl Beginners {
    pub(super) fn add(&self, tenant: &TenantId, from: watch::Receiver<Begin>) {
        self.0.lock().entry(tenant.clone()).or_default().push(from);
    }

    /// Waits until the readers of a tenant that subscribed before know their place, or the asking
    /// ended otherwise; each asking has its deadline.
    pub(super) async fn placed(&self, tenant: &TenantId) {
        let waiting = self.still_asking(tenant);
        for mut from in waiting {
            // An asker that is gone asks no more.
            let _ = from.wait_for(|from| *from != Begin::Asking).await;
        }
    }

    fn still_asking(&self, tenant: &TenantId) -> Vec<watch::Receiver<Begin>> {
        let mut all = self.0.lock();
        let Some(of_tenant) = all.get_mut(tenant) else {
            return Vec::new();
        };
        of_tenant.retain(|from| *from.borrow() == Begin::Asking && from.has_changed().is_ok());
        let waiting = of_tenant.clone();
        if waiting.is_empty() {
            all.remove(tenant);
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_as_the_server_orders_them() {
        let place = |id| Place::parse(id).expect(id);
        assert!(place("9-5") < place("10-0"));
        assert!(place("10-9") < place("10-10"));
        assert!(Place::START < place("0-1"));
        assert_eq!(place("1732180000000-3").id(), "1732180000000-3");
        for bad in ["", "1", "1-", "-1", "a-b", "1-2-3"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
