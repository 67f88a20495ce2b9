//! The event bus on Redis Streams, and what Redis remembers of each pair for who only looks.
//!
//! ```text
//! kb.{tenant}         stream   the events, the newest thousands
//! kb.{tenant}.pairs   hash     provider -> its newest event as JSON: a shared read cache
//! kb.{tenant}.seen    hash     provider -> what was published last, so that nothing is twice
//! ```
//!
//! A script writes all three in one step. An event that is older than what was published of its
//! pair, or the same, is left out: the node publishes its outbox again after a crash.
//!
//! **Invariant:** whatever Redis loses, refuses or keeps waiting, a caller has its answer within
//! the bounds of `limits.rs`; the record decides, Redis only tells.
//! **Invariant:** nothing here can hold a key: an event has no field for one.

mod acl;
mod entry;
mod group;
pub(crate) mod link;
mod reader;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use keybaton_messages::{Event, PairId, ProviderName, TenantId, TraceParent};
use keybaton_ports::{EventBus, EventStream, Refusal};
use redis::cmd;
use tokio::sync::watch;

pub use acl::{REDIS_REPLAY_LINE, RedisUser};
pub use group::{Delivery, GroupMember};
pub use settings::{
    REDIS_JOURNAL_PASSWORD_VARIABLE, REDIS_PASSWORD_VARIABLE, RedisPlace, RedisSettings,
    RedisSettingsError, redis_password_file,
};

use self::entry::{fields, newest, pairs_key, parse_newest, seen_key, stream_key};
use self::link::Link;
use self::reader::{Begin, Beginners, Reader, place_now};
use crate::limits::REDIS_TENANT_KEPT;

/// Publishes one event, once. It is sent whole at every call: a server that restarted knows no
/// script by its hash, and 1 KiB costs less than a second round trip.
const PUBLISH: &str = include_str!("publish.lua");

/// Redis as bus and read cache. Connects when it is first asked, and again whenever it has to.
pub struct RedisBus {
    link: Arc<Link>,
    settings: RedisSettings,
    beginners: Beginners,
    /// Readers end when this is dropped.
    open: watch::Sender<()>,
}

impl RedisBus {
    /// Takes the settings; nothing is asked of the server yet, since a node starts without its bus
    /// too.
    ///
    /// # Errors
    /// [`RedisSettingsError`] when they cannot be used.
    pub fn new(settings: RedisSettings) -> Result<Self, RedisSettingsError> {
        let link = Arc::new(Link::new(settings.client()?));
        Ok(Self { link, settings, beginners: Beginners::default(), open: watch::channel(()).0 })
    }

    /// Asks whether Redis answers this user.
    ///
    /// # Errors
    /// [`Refusal`] when it does not.
    pub async fn ping(&self) -> Result<(), Refusal> {
        self.link.ask(&cmd("PING")).await.map(|_: String| ())
    }

    /// Joins a group of readers of a tenant, each event going to one of them. The group is made
    /// when its first member asks for an event, and begins there. Names are free; the members of
    /// one group have different ones.
    #[must_use]
    pub fn join(&self, tenant: &TenantId, group: &str, member: &str) -> GroupMember {
        GroupMember::new(
            self.link.clone(),
            tenant.clone(),
            group.to_owned(),
            member.to_owned(),
            self.settings.claim_after,
        )
    }

    /// The newest event of a pair that was published here. Good for a display; whoever decides
    /// asks the journal.
    ///
    /// # Errors
    /// [`Refusal`] when Redis is away or does not permit it.
    pub async fn newest(&self, pair: &PairId) -> Result<Option<Event>, Refusal> {
        let mut question = cmd("HGET");
        question.arg(pairs_key(&pair.tenant)).arg(pair.provider.as_str());
        let json: Option<String> = self.link.ask(&question).await?;
        Ok(json.and_then(|json| parse_newest(&pair.tenant, pair.provider.as_str(), &json)))
    }

    /// The newest event of every pair of a tenant, for the same use.
    ///
    /// # Errors
    /// [`Refusal`] when Redis is away or does not permit it.
    pub async fn newest_of(
        &self,
        tenant: &TenantId,
    ) -> Result<BTreeMap<ProviderName, Event>, Refusal> {
        let mut question = cmd("HGETALL");
        question.arg(pairs_key(tenant));
        let all: BTreeMap<String, String> = self.link.ask(&question).await?;
        let read = all.iter().filter_map(|(provider, json)| parse_newest(tenant, provider, json));
        Ok(read.map(|event| (event.pair.provider.clone(), event)).collect())
    }
}

#[async_trait]
impl EventBus for RedisBus {
    async fn publish(&self, event: &Event, trace: TraceParent) -> Result<(), Refusal> {
        let tenant = &event.pair.tenant;
        self.beginners.placed(tenant).await;
        let mut question = cmd("EVAL");
        question.arg(PUBLISH).arg(3);
        question.arg(stream_key(tenant)).arg(pairs_key(tenant)).arg(seen_key(tenant));
        question.arg(event.pair.provider.as_str()).arg(event.rev.0);
        question.arg(format!("{}#{}", event.kind.as_str(), event.rotation.n));
        question.arg(newest(event)).arg(self.settings.events_max);
        question.arg(REDIS_TENANT_KEPT.as_secs());
        for (name, value) in fields(event, trace) {
            question.arg(name).arg(value);
        }
        self.link.ask(&question).await.map(|_: u8| ())
    }

    fn subscribe(&self, tenant: &TenantId) -> EventStream {
        let (tell, begin) = watch::channel(Begin::Asking);
        self.beginners.add(tenant, begin.clone());
        let client = self.link.client().clone();
        let reader = Reader::new(client, tenant.clone(), begin, self.open.subscribe());
        let (link, tenant) = (self.link.clone(), tenant.clone());
        // Asked here and not when the reader first looks: what comes between would be missed.
        tokio::spawn(async move {
            let found = place_now(&link, &tenant).await;
            // Nobody may be left who wants to know.
            let _ = tell.send(found);
        });
        Box::pin(stream::unfold(reader, Reader::next))
    }
}
