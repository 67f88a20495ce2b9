//! Opens a store in Redis: checks what the server keeps, founds the store if there is none, and
//! hands out the ports.
//!
//! **Invariant:** a server that may lose more than its operator accepts is refused before anything
//! is written.

use std::collections::HashMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use keybaton_messages::{DeploymentId, Timestamp};
use keybaton_ports::{AuditKey, Clock, FingerprintKey, Journal, Refusal, TaskJournal};
use redis::{Client, Cmd, FromRedisValue, cmd};

use super::change::{Change, load_script};
use super::names;
use super::reservation::{RedisReservation, reserve};
use super::server::{Confirm, Server, Step};
use super::tasks::RedisTaskJournal;
use super::{
    AcceptedLoss, Durability, RedisJournal, RedisJournalSettings, RedisStoreError, Shared,
};
use crate::SystemClock;
use crate::buses::redis::link::Link;
use crate::journals::memory::Memory;
use crate::journals::operations::Marks;
use crate::journals::redb::Unread;
use crate::journals::redb::pairs::Corrupt;
use crate::store::{Broken, Founding, MasterKey, Sealer, recognise};

/// Lies there for a moment when a store is opened.
const REHEARSAL: &str = "keybaton:rehearsal";

/// The adapters over one Redis database.
pub struct RedisStore {
    /// Pair records, grants, audit, outbox.
    pub journal: Arc<dyn Journal>,
    /// Tasks and the entries of their steps.
    pub tasks: Arc<dyn TaskJournal>,
    /// Store time, not before the last time that the store remembers.
    pub clock: Arc<dyn Clock>,
    /// The deployment's key for fingerprints and tags.
    pub fingerprint_key: Arc<FingerprintKey>,
    /// The key of the audit chains.
    pub audit_key: Arc<AuditKey>,
    /// The deployment part of every label.
    pub deployment: DeploymentId,
    /// How far it keeps what it has acknowledged.
    pub durability: Durability,
    /// What the operator should know.
    pub notices: Vec<String>,
    client: Client,
}

impl RedisStore {
    /// Opens the store, founding it if the database has none.
    ///
    /// # Errors
    /// [`RedisStoreError`]; each one says what to do next.
    pub async fn open(
        settings: &RedisJournalSettings,
        master: MasterKey,
    ) -> Result<Self, RedisStoreError> {
        if settings.accepted_loss == AcceptedLoss::Nothing {
            return Err(RedisStoreError::NotAccepted);
        }
        let client = settings.redis.client()?;
        let link = Link::new(client.clone());
        let checked = check_server(&link, settings).await?;
        let script: String = ask(&link, &load_script()).await?;
        let start = |store_id: String| {
            let (script, confirm) = (script.clone(), checked.confirm);
            Server::start(client.clone(), script, store_id, confirm, settings.answer_wait_max)
        };
        let identity = identify(&link, settings.create, &start, master).await?;
        let Identity { sealer, deployment, store_id, time_ms } = identity;
        let server = Arc::new(start(store_id));
        if settings.create {
            rehearse(&server).await?;
        }
        let sealer = Arc::new(sealer);
        let clock = Arc::new(SystemClock::start(Timestamp(time_ms)));
        let audit_key = Arc::new(sealer.keyring().audit_key());
        let tasks = RedisTaskJournal::new(Arc::clone(&server), Arc::clone(&sealer));
        let journal = RedisJournal::new(Shared {
            server,
            sealer: Arc::clone(&sealer),
            clock: Arc::clone(&clock),
            audit_key: Arc::clone(&audit_key),
            marks: Marks::new(time_ms),
            memory: Memory::default(),
        });
        let durability = checked.durability;
        Ok(Self {
            journal: Arc::new(journal),
            tasks: Arc::new(tasks),
            clock,
            fingerprint_key: Arc::new(sealer.keyring().fingerprint_key()),
            audit_key,
            deployment,
            durability,
            notices: vec![format!("the journal in Redis is {durability}; see docs/howto/redis.md")],
            client,
        })
    }

    /// Keeps every other process from working on this store, for as long as the answer lives.
    ///
    /// # Errors
    /// [`RedisStoreError::InUse`] when another one does.
    pub async fn reserve(&self) -> Result<RedisReservation, RedisStoreError> {
        reserve(self.client.clone()).await
    }
}

/// What the server was found to be.
struct Checked {
    durability: Durability,
    confirm: Option<Confirm>,
}

async fn ask<T: FromRedisValue>(link: &Link, question: &Cmd) -> Result<T, RedisStoreError> {
    link.ask(question).await.map_err(|why| RedisStoreError::Unavailable(why.to_string()))
}

async fn check_server(
    link: &Link,
    settings: &RedisJournalSettings,
) -> Result<Checked, RedisStoreError> {
    let info: String = ask(link, cmd("INFO").arg("server")).await?;
    let said = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    // Valkey says here which Redis it can stand in for.
    let found = said("redis_version").unwrap_or("of no known version").to_owned();
    let version = version(&found);
    if version < (7, 0) {
        return Err(RedisStoreError::Version { found });
    }
    if said("redis_mode") == Some("cluster") {
        return Err(RedisStoreError::Cluster);
    }
    let is_kept = check_durability(link).await;
    let durability = match (&is_kept, settings.accepted_loss) {
        (Ok(()), _) => Durability::BestEffort,
        (Err(_), AcceptedLoss::Crash) => Durability::Volatile,
        (Err(_), _) => return is_kept.map(|()| unreachable!("it is an error")),
    };
    let own = u8::from(durability == Durability::BestEffort);
    let replicas = settings.replicas_min;
    if version < (7, 2) {
        let no_replicas = RedisStoreError::NoReplicas { found, wanted: replicas };
        let without = Checked { durability, confirm: None };
        return if replicas > 0 { Err(no_replicas) } else { Ok(without) };
    }
    // Asks for nothing, which shows whether it may be asked.
    let _: (u64, u64) = ask(link, cmd("WAITAOF").arg(0).arg(0).arg(1)).await?;
    let confirm = (own > 0 || replicas > 0).then_some(Confirm { own, replicas });
    Ok(Checked { durability, confirm })
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the server has every write on disk before it answers, and drops none for want of memory.
async fn check_durability(link: &Link) -> Result<(), RedisStoreError> {
    let mut asked = cmd("CONFIG");
    asked.arg("GET").arg("appendonly").arg("appendfsync").arg("maxmemory").arg("maxmemory-policy");
    let said: HashMap<String, String> = match link.ask(&asked).await {
        Ok(said) => said,
        Err(Refusal::Denied { why, .. }) => return Err(RedisStoreError::Unknown(why)),
        Err(why) => return Err(RedisStoreError::Unavailable(why.to_string())),
    };
    let value = |setting: &str| said.get(setting).cloned().unwrap_or_default();
    for (setting, remedy) in [("appendonly", "yes"), ("appendfsync", "always")] {
        let value = value(setting);
        if value != remedy {
            return Err(RedisStoreError::NotDurable { setting, value, remedy });
        }
    }
    let policy = value("maxmemory-policy");
    // Nothing of a journal has an end, so that the policies for what has one leave it alone.
    if value("maxmemory") != "0" && policy.starts_with("allkeys") {
        let (setting, remedy) = ("maxmemory-policy", "noeviction");
        return Err(RedisStoreError::NotDurable { setting, value: policy, remedy });
    }
    check_replay(link).await
}

/// Whether the server keeps its transactions when it starts again. While it reads its file it acts
/// as the user `default`, also when that one is off, and most releases check the rights of that
/// user for every command of a transaction: one that is not permitted is left out, silently
/// (redis/redis#14541, valkey-io/valkey#3983). Which releases do not is not worth knowing: an off
/// user may have rights.
async fn check_replay(link: &Link) -> Result<(), RedisStoreError> {
    let tried: [&[&str]; 4] = [
        &["HSET", names::STORE, "field", "value"],
        &["HDEL", names::STORE, "field"],
        &["HINCRBY", names::STORE, "field", "1"],
        &["UNLINK", names::STORE],
    ];
    for command in tried {
        let asked = cmd("ACL").arg("DRYRUN").arg("default").arg(command).clone();
        match link.ask::<String>(&asked).await {
            Ok(answer) if answer == "OK" => {}
            Ok(_) => return Err(RedisStoreError::NotReplayed { command: command[0].to_owned() }),
            Err(Refusal::Denied { why, .. }) => return Err(RedisStoreError::Unknown(why)),
            Err(why) => return Err(RedisStoreError::Unavailable(why.to_string())),
        }
    }
    Ok(())
}

struct Identity {
    sealer: Sealer,
    deployment: DeploymentId,
    store_id: String,
    time_ms: u64,
}

/// Reads who the store is, or makes it somebody.
async fn identify(
    link: &Link,
    create: bool,
    start: &impl Fn(String) -> Server,
    master: MasterKey,
) -> Result<Identity, RedisStoreError> {
    if let Some(found) = Found::read(link).await? {
        return found.open(master);
    }
    if !create {
        return Err(RedisStoreError::Missing);
    }
    let Founding { store_id, sealer, deployment, sealed } = Founding::new(master);
    let store_id = HEXLOWER.encode(&store_id);
    let mut change = Change::default();
    change.check_absent(names::STORE, "id");
    change.set(names::STORE, "schema", names::SCHEMA);
    change.set(names::STORE, "id", store_id.as_str());
    change.set(names::STORE, "identity", sealed);
    // Written to a store that has no id yet.
    match start(String::new()).write(change).await {
        Ok(Step::Done) => Ok(Identity { sealer, deployment, store_id, time_ms: 0 }),
        // Another node was faster, or may have been: its store is the one.
        Ok(Step::Changed) | Err(Unread::Corrupt(_)) => {
            let gone = || RedisStoreError::Corrupt("somebody else's values lie here".into());
            Found::read(link).await?.ok_or_else(gone)?.open(sealer.into_master())
        }
        Err(why) => Err(why.into()),
    }
}

/// What a store says about itself.
struct Found {
    schema: Option<String>,
    store_id: String,
    identity: Option<Vec<u8>>,
    time: Option<String>,
}

impl Found {
    async fn read(link: &Link) -> Result<Option<Self>, RedisStoreError> {
        let mut asked = cmd("HMGET");
        asked.arg(names::STORE).arg("schema").arg("id").arg("identity").arg("time");
        let (schema, store_id, identity, time) =
            ask::<(_, Option<String>, _, _)>(link, &asked).await?;
        Ok(store_id.map(|store_id| Self { schema, store_id, identity, time }))
    }

    fn open(self, master: MasterKey) -> Result<Identity, RedisStoreError> {
        let known = names::SCHEMA;
        let found = self.schema.unwrap_or_default();
        if found != known {
            return Err(RedisStoreError::OtherSchema { found, known });
        }
        let bytes = HEXLOWER.decode(self.store_id.as_bytes()).ok();
        let id = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let id = id.ok_or_else(|| RedisStoreError::Corrupt("its id is unreadable".into()))?;
        let opened = recognise(master, id, &self.identity.unwrap_or_default());
        let (sealer, deployment) = opened.map_err(|broken| match broken {
            Broken::Key => RedisStoreError::WrongKey,
            other => RedisStoreError::Corrupt(other.to_string()),
        })?;
        let time_ms = self.time.and_then(|time| time.parse().ok()).unwrap_or_default();
        Ok(Identity { sealer, deployment, store_id: self.store_id, time_ms })
    }
}

/// Reads and writes as all later ones do. A right that is missing would otherwise show in the
/// middle of a change.
async fn rehearse(server: &Server) -> Result<(), RedisStoreError> {
    let mut change = Change::default();
    change.set(REHEARSAL, "field", "value");
    change.remove(REHEARSAL, "field");
    change.set(REHEARSAL, "field", "value");
    change.drop_hash(REHEARSAL);
    server.write(change).await?;
    server
        .read(vec![
            cmd("HGETALL").arg(REHEARSAL).clone(),
            cmd("HKEYS").arg(REHEARSAL).clone(),
            cmd("HEXISTS").arg(REHEARSAL).arg("field").clone(),
        ])
        .await?;
    Ok(())
}

impl From<Unread> for RedisStoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Down(down) => Self::Unavailable(down.to_string()),
            Unread::Corrupt(Corrupt(why)) => Self::Corrupt(why),
        }
    }
}
