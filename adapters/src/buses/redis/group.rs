//! A group of readers that share a tenant's events: each event goes to one member, and to another
//! one when that member does not finish it.
//!
//! **Invariant:** an event is finished only when its member says so; until then it may be given
//! out again. What a group has not finished and the server trims is lost, like every hint.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use keybaton_messages::{Event, TenantId, TraceParent};
use keybaton_ports::{Denial, Refusal};
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::time::Instant;

use super::entry::{RawEntry, parse, stream_key};
use super::link::{Link, ask_on, connect};
use super::reader::{Read, millis};
use crate::limits::{REDIS_ANSWER_MAX, REDIS_READ_BLOCK, REDIS_READ_EVENTS_MAX};

/// From here on, for a group that is made when its first member asks.
const FROM_NOW: &str = "$";

/// All that is kept, for a group that the server lost.
const FROM_START: &str = "0";

/// An event that a member of a group works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What happened.
    pub event: Event,
    /// The trace of its rotation, if the entry has one.
    pub trace: Option<TraceParent>,
    id: String,
}

/// Entries, or why there are none, and whether the connection is of no more use.
type Fetched = (Result<Vec<RawEntry>, Refusal>, bool);

/// A member of a group of readers of one tenant.
pub struct GroupMember {
    /// For short questions; a question for news holds its connection.
    link: Arc<Link>,
    tenant: TenantId,
    group: String,
    name: String,
    claim_after: Duration,
    connection: Option<MultiplexedConnection>,
    /// The question under way. It outlives a caller that stopped waiting: its answer is then the
    /// next caller's, and no event is given to nobody.
    fetching: Option<BoxFuture<'static, Fetched>>,
    /// From where the group begins if it has to be made.
    from: &'static str,
    claimed_at: Option<Instant>,
    ready: VecDeque<Delivery>,
}

impl GroupMember {
    pub(super) fn new(
        link: Arc<Link>,
        tenant: TenantId,
        group: String,
        name: String,
        claim_after: Duration,
    ) -> Self {
        Self {
            link,
            tenant,
            group,
            name,
            claim_after,
            connection: None,
            fetching: None,
            from: FROM_NOW,
            claimed_at: None,
            ready: VecDeque::new(),
        }
    }

    /// Waits for the next event that is this member's, be it new or left unfinished by a member.
    /// A member that is asked again after a refusal connects again. A caller may stop waiting at
    /// any time; nothing is lost by that.
    ///
    /// # Errors
    /// [`Refusal`] when Redis is away or does not permit it.
    pub async fn next(&mut self) -> Result<Delivery, Refusal> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Ok(delivery);
            }
            match self.fetch().await {
                Err(Refusal::Denied { denial: Denial::NotFound, .. }) => {
                    // The server lost the group, and whatever was in the stream: joins anew.
                    self.connection = None;
                }
                fetched => fetched?,
            }
        }
    }

    /// Says that this event is finished, so that no member gets it again.
    ///
    /// # Errors
    /// [`Refusal`]; the event may then be given out again.
    pub async fn finish(&self, delivery: &Delivery) -> Result<(), Refusal> {
        self.acknowledge(&delivery.id).await
    }

    async fn acknowledge(&self, id: &str) -> Result<(), Refusal> {
        let mut question = cmd("XACK");
        question.arg(stream_key(&self.tenant)).arg(&self.group).arg(id);
        self.link.ask(&question).await.map(|_: u64| ())
    }

    /// One turn: what others left, when it is time to look, else what is new.
    async fn fetch(&mut self) -> Result<(), Refusal> {
        if self.fetching.is_none() {
            let connection = self.connected().await?;
            let is_due = self.claimed_at.is_none_or(|at| at.elapsed() >= self.claim_after);
            if is_due {
                self.claimed_at = Some(Instant::now());
            }
            let fetching = if is_due { self.claim(connection) } else { self.read(connection) };
            self.fetching = Some(fetching);
        }
        let Some(fetching) = &mut self.fetching else { return Ok(()) };
        let (entries, is_broken) = fetching.await;
        self.fetching = None;
        if is_broken {
            self.connection = None;
        }
        self.take(entries?).await
    }

    /// Asks for what is new.
    fn read(&self, mut connection: MultiplexedConnection) -> BoxFuture<'static, Fetched> {
        let wait = REDIS_READ_BLOCK.min(self.claim_after);
        let mut question = cmd("XREADGROUP");
        question.arg("GROUP").arg(&self.group).arg(&self.name);
        question.arg("COUNT").arg(REDIS_READ_EVENTS_MAX).arg("BLOCK").arg(millis(wait).max(1));
        question.arg("STREAMS").arg(stream_key(&self.tenant)).arg(">");
        Box::pin(async move {
            let (read, is_broken) =
                ask_on::<Read>(&mut connection, &question, wait + REDIS_ANSWER_MAX).await;
            let entries =
                |read: Read| read.into_iter().flatten().flat_map(|(_, all)| all).collect();
            (read.map(entries), is_broken)
        })
    }

    /// Takes over what members have not finished in time, this one's earlier life included.
    fn claim(&self, mut connection: MultiplexedConnection) -> BoxFuture<'static, Fetched> {
        let mut question = cmd("XAUTOCLAIM");
        question.arg(stream_key(&self.tenant)).arg(&self.group).arg(&self.name);
        question.arg(millis(self.claim_after)).arg("0-0").arg("COUNT").arg(REDIS_READ_EVENTS_MAX);
        Box::pin(async move {
            let (parts, is_broken) =
                ask_on::<Vec<Value>>(&mut connection, &question, REDIS_ANSWER_MAX).await;
            (parts.and_then(claimed), is_broken)
        })
    }

    async fn take(&mut self, entries: Vec<RawEntry>) -> Result<(), Refusal> {
        for entry in entries {
            match parse(&self.tenant, &entry) {
                Some((event, trace)) => {
                    self.ready.push_back(Delivery { event, trace, id: entry.id });
                }
                None => {
                    // Unread for ever otherwise: every member would get it in turn.
                    tracing::warn!(tenant = %self.tenant, id = entry.id, "an entry that is no event");
                    self.acknowledge(&entry.id).await?;
                }
            }
        }
        Ok(())
    }

    /// The connection for reading; the group is there when it is new.
    async fn connected(&mut self) -> Result<MultiplexedConnection, Refusal> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let mut connection = connect(self.link.client()).await?;
        let mut question = cmd("XGROUP");
        question.arg("CREATE").arg(stream_key(&self.tenant)).arg(&self.group).arg(self.from);
        question.arg("MKSTREAM");
        match ask_on::<Value>(&mut connection, &question, REDIS_ANSWER_MAX).await.0 {
            // BUSYGROUP: it is there already, which is what was wanted.
            Ok(_) | Err(Refusal::Denied { denial: Denial::BadRequest, .. }) => {}
            Err(refusal) => return Err(refusal),
        }
        // A group that is missing from here on was lost with its stream.
        self.from = FROM_START;
        self.connection = Some(connection.clone());
        Ok(connection)
    }
}

/// The entries in an answer to XAUTOCLAIM. Redis 7 adds a third part, the entries that are gone;
/// 6.2 does not.
fn claimed(mut parts: Vec<Value>) -> Result<Vec<RawEntry>, Refusal> {
    let strange =
        || Refusal::denied(Denial::Corrupt, "redis answers XAUTOCLAIM with something else");
    if parts.len() < 2 {
        return Err(strange());
    }
    redis::from_redis_value(parts.swap_remove(1)).map_err(|_| strange())
}
