//! `--servers start`: real servers of the demo's own, gone with it.
//!
//! What is started is then used like any server: an address, a user with no more rights than it
//! needs, and files with passwords.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use keybaton::buses::{REDIS_REPLAY_LINE, RedisUser};
use keybaton::messages::TenantId;
use keybaton::vault::{Place, Role, policy_name};
use keybaton_servers::program::Kind;
use keybaton_servers::{Missing, Postgres, Redis, RedisConfig, Vault};
use serde_json::json;

use super::super::cli::StoreArgs;

/// The user and the database in Postgres.
const USER: &str = "keybaton_node";
const DATABASE: &str = "keybaton_demo";

/// Servers that run until this is dropped.
#[derive(Default)]
pub struct Servers {
    postgres: Option<Postgres>,
    vault: Option<Vault>,
    redis: Option<Redis>,
}

impl Servers {
    /// Starts those for which no other choice was made, and notes in the options where they are.
    /// `tenants`: whose secrets the node may keep in Vault.
    ///
    /// # Errors
    /// When one is not on this machine, with what to install, or does not start.
    pub fn start<T: AsRef<str>>(stores: &mut StoreArgs, tenants: &[T]) -> Result<Self> {
        let is_open =
            |choice: &Option<String>, name| choice.as_deref().is_none_or(|choice| choice == name);
        let postgres = is_open(&stores.journal, "postgres");
        let vault = is_open(&stores.secrets, "vault") && stores.vault_address.is_none();
        // It is chosen only by its name: it may lose what it has acknowledged.
        let is_journal = stores.journal.as_deref() == Some("redis");
        let is_bus = is_open(&stores.bus, "redis");
        let redis = is_bus || is_journal;
        demand_programs((postgres, vault, redis))?;
        let mut servers = Self::default();
        if postgres {
            servers.postgres = Some(start_postgres(stores)?);
        }
        if vault {
            servers.vault = Some(start_vault(stores, tenants)?);
        }
        if redis {
            servers.redis = Some(start_redis(stores, is_bus, is_journal)?);
        }
        if !(postgres || vault || redis) {
            bail!("--servers start has nothing to start: every store has been chosen already");
        }
        Ok(servers)
    }

    /// What runs, for people.
    pub fn names(&self) -> String {
        let postgres = self.postgres.as_ref().map(|it| format!("Postgres {}", it.version()));
        let vault = self.vault.as_ref().map(|it| format!("Vault {}", it.version()));
        let redis = self.redis.as_ref().map(|it| format!("{} {}", it.kind().name(), it.version()));
        let all: Vec<_> = [postgres, vault, redis].into_iter().flatten().collect();
        all.join(", ")
    }
}

/// Says all that is missing at once, before anything is started.
fn demand_programs((postgres, vault, redis): (bool, bool, bool)) -> Result<()> {
    let lacks = |is_wanted: bool, kinds: &[Kind]| {
        let is_there = kinds.iter().any(|kind| kind.find().is_some());
        (is_wanted && !is_there).then(|| kinds[0].missing())
    };
    let missing: Vec<Missing> = [
        lacks(postgres, &[Kind::Postgres]),
        lacks(vault, &[Kind::Vault]),
        lacks(redis, &[Kind::Redis, Kind::Valkey]),
    ]
    .into_iter()
    .flatten()
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let each: Vec<_> = missing.iter().map(ToString::to_string).collect();
    bail!(
        "{}, or install it; or leave it out with --journal redb, --secrets embedded, --bus local",
        each.join("; ")
    )
}

fn password() -> String {
    data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>())
}

fn start_postgres(stores: &mut StoreArgs) -> Result<Postgres> {
    let postgres = Postgres::start()?;
    let word = password();
    postgres.query_as_admin(&format!("create role {USER} login createrole password '{word}'"))?;
    postgres.query_as_admin(&format!("create database {DATABASE} owner {USER}"))?;
    let file = postgres.server().home().write("password-of-the-node", &word)?;
    stores.journal = Some(postgres.url(USER, DATABASE));
    stores.postgres_password_file = Some(file);
    Ok(postgres)
}

/// One server with a user for events, a user for the journal, or both; each reaches its own keys.
fn start_redis(stores: &mut StoreArgs, is_bus: bool, is_journal: bool) -> Result<Redis> {
    let redis = Redis::start(RedisConfig::default())?;
    let add = |line: &str| {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        redis.command_as_admin(&[&["ACL", "SETUSER"], &words[..]].concat()).map(drop)
    };
    // A user with a password of its own, and the file that has it.
    let add_user = |user: RedisUser<'_>, file: &str| -> Result<_> {
        let word = password();
        let secret = keybaton::Secret::new(word.clone().into_bytes())?;
        add(&user.acl_line(Some(&secret)))?;
        Ok((user.name(), redis.server().home().write(file, &word)?))
    };
    let url = format!("redis://127.0.0.1:{}/0", redis.port());
    if is_bus {
        let (user, file) = add_user(RedisUser::Node, "password-of-the-node")?;
        stores.bus = Some(url.clone());
        stores.redis_user = Some(user);
        stores.redis_password_file = Some(file);
    }
    if is_journal {
        let (user, file) = add_user(RedisUser::Journal, "password-of-the-journal")?;
        add(REDIS_REPLAY_LINE)?;
        if redis.has_waitaof() {
            add(&format!("user {user} +waitaof"))?;
        }
        stores.journal = Some(url);
        stores.redis_journal_user = Some(user);
        stores.redis_journal_password_file = Some(file);
    }
    redis.command_as_admin(&["ACL", "SAVE"])?;
    Ok(redis)
}

/// The node's token may do what the policies of its tenants allow, and nothing else.
fn start_vault<T: AsRef<str>>(stores: &mut StoreArgs, tenants: &[T]) -> Result<Vault> {
    let vault = Vault::start()?;
    vault.mount_kv(&stores.vault_mount)?;
    let place = Place::new(&stores.vault_mount, &stores.vault_prefix)?;
    let mut policies = Vec::new();
    for tenant in tenants {
        let tenant: TenantId = tenant.as_ref().parse()?;
        let name = policy_name(&tenant, Role::Rotator);
        let text = json!({ "policy": place.policy(&tenant, Role::Rotator) });
        vault.request_as_root("PUT", &format!("sys/policies/acl/{name}"), Some(&text))?;
        policies.push(name);
    }
    let wish = json!({ "policies": policies, "ttl": "1h", "no_parent": true });
    let made = vault.request_as_root("POST", "auth/token/create", Some(&wish))?;
    let token = made["auth"]["client_token"].as_str().context("Vault made no token")?;
    let file: PathBuf = vault.server().home().write("token-of-the-node", token)?;
    stores.secrets = Some("vault".into());
    stores.vault_address = Some(vault.address());
    stores.vault_token_file = Some(file);
    stores.vault_role_id = None;
    Ok(vault)
}
