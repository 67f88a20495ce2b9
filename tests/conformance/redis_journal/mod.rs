//! The journal in Redis against the contracts of its ports, on a real Redis and on a real Valkey.

mod faults;
mod nodes;
mod opening;
mod remembered;
mod reservation;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keybaton_adapters::buses::{RedisSettings, RedisUser};
use keybaton_adapters::journals::{
    AcceptedLoss, RedisJournalSettings, RedisStore, RedisStoreError,
};
use keybaton_adapters::store::MasterKey;
use keybaton_ports::{AuditKey, Clock, Journal, Secret, TaskJournal};
use keybaton_servers::redis::Flavour;
use keybaton_servers::{Redis, RedisConfig, unless_missing};
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::journal::JournalWorld;
use parking_lot::Mutex;

macro_rules! suites {
    ($name:ident, $flavour:expr) => {
        mod $name {
            async fn open() -> Option<super::World> {
                super::open($flavour).await
            }

            mod journal {
                keybaton_tests::journal_conformance!(super::open, if_there);
            }

            mod tasks {
                keybaton_tests::tasks_conformance!(super::open, if_there);
            }
        }
    };
}

suites!(on_redis, keybaton_servers::redis::Flavour::Redis);
suites!(on_valkey, keybaton_servers::redis::Flavour::Valkey);

const PASSWORD: &[u8] = b"word of a journal";

/// A server with the journal's user on it, and databases of its own for whoever asks.
struct Place {
    server: Redis,
    databases: AtomicU64,
}

impl Place {
    fn start(flavour: Flavour) -> anyhow::Result<Self> {
        Self::start_with(RedisConfig { flavour, ..RedisConfig::default() })
    }

    fn start_with(mut config: RedisConfig) -> anyhow::Result<Self> {
        let mut line = RedisUser::Journal.acl_line(Some(&password()));
        if config.flavour == Flavour::Valkey {
            line.push_str(" +waitaof");
        }
        config.users.push(line);
        config.settings.push("databases 512".to_owned());
        Ok(Self { server: Redis::start(config)?, databases: AtomicU64::new(0) })
    }

    /// A database that nobody else has.
    fn database(&self) -> u64 {
        self.databases.fetch_add(1, Ordering::Relaxed)
    }

    fn settings(&self, database: u64) -> RedisJournalSettings {
        self.settings_of(database, &RedisUser::Journal.name(), password())
    }

    fn settings_of(&self, database: u64, user: &str, password: Secret) -> RedisJournalSettings {
        let url = format!("redis://127.0.0.1:{}/{database}", self.server.port());
        let redis = RedisSettings::new(&url).expect("a URL").user(user, password);
        RedisJournalSettings {
            accepted_loss: AcceptedLoss::Failover,
            // A machine that is busy with other tests is slow, not away.
            answer_wait_max: Duration::from_secs(60),
            ..RedisJournalSettings::new(redis)
        }
    }

    /// The same with a wait that a test can afford to see the end of.
    fn impatient(&self, database: u64) -> RedisJournalSettings {
        let answer_wait_max = Duration::from_secs(5);
        RedisJournalSettings { answer_wait_max, ..self.settings(database) }
    }

    fn admin(&self, words: &[&str]) -> String {
        self.server.command_as_admin(words).expect("done")
    }

    /// How often the server has carried out this command.
    fn calls(&self, command: &str) -> u64 {
        let said = self.admin(&["INFO", "commandstats"]);
        let name = format!("cmdstat_{command}:calls=");
        let line = said.lines().find_map(|line| line.strip_prefix(&name));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    }
}

fn password() -> Secret {
    Secret::new(PASSWORD.to_vec()).expect("a password")
}

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// A store in a database of its own.
struct World(RedisStore);

async fn open(flavour: Flavour) -> Option<World> {
    let place = shared(flavour)?;
    Some(World(open_at(&place.settings(place.database())).await.expect("a new store")))
}

/// One server of each kind for every case that does it no harm. It dies with the test process.
fn shared(flavour: Flavour) -> Option<&'static Place> {
    static SHARED: Mutex<[Option<&'static Place>; 2]> = Mutex::new([None; 2]);
    let mut shared = SHARED.lock();
    let shared = &mut shared[usize::from(flavour == Flavour::Valkey)];
    if shared.is_none() {
        *shared = unless_missing(Place::start(flavour)).map(|place| &*Box::leak(Box::new(place)));
    }
    *shared
}

async fn open_at(settings: &RedisJournalSettings) -> Result<RedisStore, RedisStoreError> {
    RedisStore::open(settings, key()).await
}

macro_rules! has {
    ($port:ident, $field:ident) => {
        impl Has<dyn $port> for World {
            fn port(&self) -> Arc<dyn $port> {
                self.0.$field.clone()
            }
        }
    };
}
has!(Journal, journal);
has!(TaskJournal, tasks);
has!(Clock, clock);

impl JournalWorld for World {
    fn audit_key(&self) -> Arc<AuditKey> {
        self.0.audit_key.clone()
    }
}
