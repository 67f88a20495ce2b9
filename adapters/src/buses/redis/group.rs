//! A group of readers that share a tenant's events: each event goes to one member, and to another
//! one when that member does not finish it.
//!
//! **Invariant:** an event is finished only when its member says so; until then it may be given
//! out again. What a group has not finished and the server trims is lost, like every hint.

use std::collections::VecDeque;
use std::time::Duration;

use keybaton_messages::{Event, TenantId, TraceParent};
use keybaton_ports::{Denial, Refusal};
use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, FromRedisValue, Value, cmd};
use tokio::time::Instant;

use super::entry::{RawEntry, parse, stream_key};
use super::link::{ask_on, connect};
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

/// A member of a group of readers of one tenant.
pub struct GroupMember {
    client: Client,
    tenant: TenantId,
    group: String,
    name: String,
    claim_after: Duration,
    connection: Option<MultiplexedConnection>,
    /// From where the group begins if it has to be made.
    from: &'static str,
    claimed_at: Option<Instant>,
    ready: VecDeque<Delivery>,
}

impl GroupMember {
    pub(super) fn new(
        client: Client,
        tenant: TenantId,
        group: String,
        name: String,
        claim_after: Duration,
    ) -> Self {
        let (connection, claimed_at, ready) = (None, None, VecDeque::new());
        let from = FROM_NOW;
        Self { client, tenant, group, name, claim_after, connection, from, claimed_at, ready }
    }

    /// Waits for the next event that is this member's, be it new or left unfinished by a member.
    /// A member that is asked again after a refusal connects again.
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
                    // The server lost the group, and whatever was in the stream.
                    self.from = FROM_START;
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
    pub async fn finish(&mut self, delivery: &Delivery) -> Result<(), Refusal> {
        self.connected().await?;
        self.acknowledge(&delivery.id).await
    }

    async fn acknowledge(&mut self, id: &str) -> Result<(), Refusal> {
        let mut question = cmd("XACK");
        question.arg(stream_key(&self.tenant)).arg(&self.group).arg(id);
        self.ask(&question, REDIS_ANSWER_MAX).await.map(|_: u64| ())
    }

    /// One turn: what others left, else what is new.
    async fn fetch(&mut self) -> Result<(), Refusal> {
        self.connected().await?;
        let is_due = |at: Instant| at.elapsed() >= self.claim_after;
        if self.claimed_at.is_none_or(is_due) {
            let claimed = self.claim().await?;
            self.take(claimed).await?;
            if !self.ready.is_empty() {
                return Ok(());
            }
            self.claimed_at = Some(Instant::now());
        }
        let wait = REDIS_READ_BLOCK.min(self.claim_after);
        let mut question = cmd("XREADGROUP");
        question.arg("GROUP").arg(&self.group).arg(&self.name);
        question.arg("COUNT").arg(REDIS_READ_EVENTS_MAX).arg("BLOCK").arg(millis(wait).max(1));
        question.arg("STREAMS").arg(stream_key(&self.tenant)).arg(">");
        let read: Read = self.ask(&question, wait + REDIS_ANSWER_MAX).await?;
        self.take(read.into_iter().flatten().flat_map(|(_, entries)| entries).collect()).await
    }

    /// Takes over what members have not finished in time, this one's earlier life included.
    async fn claim(&mut self) -> Result<Vec<RawEntry>, Refusal> {
        let mut question = cmd("XAUTOCLAIM");
        question.arg(stream_key(&self.tenant)).arg(&self.group).arg(&self.name);
        question.arg(millis(self.claim_after)).arg("0-0").arg("COUNT").arg(REDIS_READ_EVENTS_MAX);
        // Redis 7 adds a third part, the entries that are gone; 6.2 does not.
        let mut parts: Vec<Value> = self.ask(&question, REDIS_ANSWER_MAX).await?;
        if parts.len() < 2 {
            return Err(Refusal::denied(Denial::Corrupt, "redis answers XAUTOCLAIM unexpectedly"));
        }
        redis::from_redis_value(parts.swap_remove(1)).map_err(|_| {
            Refusal::denied(Denial::Corrupt, "redis answers XAUTOCLAIM with something else")
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

    async fn connected(&mut self) -> Result<(), Refusal> {
        if self.connection.is_some() {
            return Ok(());
        }
        self.connection = Some(connect(&self.client).await?);
        let mut question = cmd("XGROUP");
        question.arg("CREATE").arg(stream_key(&self.tenant)).arg(&self.group).arg(self.from);
        question.arg("MKSTREAM");
        match self.ask::<Value>(&question, REDIS_ANSWER_MAX).await {
            // BUSYGROUP: it is there already, which is what was wanted.
            Ok(_) | Err(Refusal::Denied { denial: Denial::BadRequest, .. }) => Ok(()),
            Err(refusal) => {
                self.connection = None;
                Err(refusal)
            }
        }
    }

    async fn ask<T: FromRedisValue>(
        &mut self,
        question: &Cmd,
        wait: Duration,
    ) -> Result<T, Refusal> {
        let Some(connection) = &mut self.connection else {
            return Err(Refusal::busy("not connected to redis"));
        };
        let (answer, is_broken) = ask_on(connection, question, wait).await;
        if is_broken {
            self.connection = None;
        }
        answer
    }
}
