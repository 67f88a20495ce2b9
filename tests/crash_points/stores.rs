//! The choices of stores that a run is made on, with real servers that all runs share.
//!
//! **Invariant:** no run shares a database, a prefix in Vault or a number of Redis with another one.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use keybaton_adapters::buses::RedisUser;
use keybaton_adapters::secrets::vault::MOUNT_DEFAULT;
use keybaton_ports::Secret;
use keybaton_servers::{Postgres, Redis, RedisConfig, Vault};

/// The node's user in Postgres, with the rights that `docs/howto/postgres.md` gives it.
const USER: &str = "keybaton_node";
const WORD: &str = "word-of-the-node";

/// Databases that Redis has: more than one run of the long form can want.
const REDIS_DATABASES: u32 = 8192;

/// Which journal, which secret store, which bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    journal: bool,
    secrets: bool,
    bus: bool,
}

impl Choice {
    /// Every choice.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8u8).map(|n| Self { journal: n & 1 > 0, secrets: n & 2 > 0, bus: n & 4 > 0 })
    }

    /// The choice with a server for everything.
    pub fn all_servers() -> Self {
        Self { journal: true, secrets: true, bus: true }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journal = if self.journal { "Postgres" } else { "redb" };
        let secrets = if self.secrets { "Vault" } else { "embedded" };
        let bus = if self.bus { "Redis" } else { "in-process" };
        write!(out, "{journal:<9} {secrets:<9} {bus:<10}")
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let named = Self::all().find(|choice| words(&choice.to_string()) == words(text));
        named.ok_or_else(|| format!("{text:?} names no journal, secret store and bus"))
    }
}

/// One server of each kind.
pub struct Servers {
    postgres: Postgres,
    postgres_word: String,
    vault: Vault,
    redis: Redis,
    redis_word: String,
    runs: AtomicU32,
}

impl Servers {
    /// Starts them.
    ///
    /// # Errors
    /// When one is not on this machine, or does not start.
    pub fn start() -> Result<Self> {
        let postgres = Postgres::start()?;
        let role = format!("create role {USER} login createrole password '{WORD}'");
        postgres.query_as_admin(&role)?;
        let vault = Vault::start()?;
        vault.mount_kv(MOUNT_DEFAULT)?;
        let word = Secret::new(WORD.as_bytes().to_vec())?;
        let users = vec![RedisUser::Node.acl_line(Some(&word))];
        let settings = vec![format!("databases {REDIS_DATABASES}")];
        let redis = Redis::start(RedisConfig { users, settings, ..RedisConfig::default() })?;
        let postgres_word = postgres.server().home().write("word", WORD)?.display().to_string();
        let redis_word = redis.server().home().write("word", WORD)?.display().to_string();
        let runs = AtomicU32::new(0);
        Ok(Self { postgres, postgres_word, vault, redis, redis_word, runs })
    }

    /// The options of the demo for one run.
    ///
    /// # Errors
    /// When its database cannot be made.
    pub fn options(&self, choice: Choice) -> Result<Vec<String>> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut options: Vec<String> = Vec::new();
        let mut add = |name: &str, value: String| options.extend([format!("--{name}"), value]);
        if choice.journal {
            let database = format!("run_{run}");
            let make = format!("create database {database} owner {USER}");
            self.postgres.query_as_admin(&make)?;
            add("journal", self.postgres.url(USER, &database));
            add("postgres-password-file", self.postgres_word.clone());
        }
        if choice.secrets {
            add("secrets", "vault".to_owned());
            add("vault-address", self.vault.address());
            add("vault-token-file", self.vault.root_token_file().display().to_string());
            add("vault-prefix", format!("run-{run}"));
        }
        if choice.bus {
            let database = run % REDIS_DATABASES;
            add("bus", format!("redis://127.0.0.1:{}/{database}", self.redis.port()));
            add("redis-user", RedisUser::Node.name());
            add("redis-password-file", self.redis_word.clone());
        }
        Ok(options)
    }
}
