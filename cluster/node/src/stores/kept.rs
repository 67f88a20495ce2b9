//! `stores.json`: which stores a directory's node works on. It holds addresses and the names of
//! files, never a password or a token.
//!
//! **Invariant:** a node never goes on with another journal or other secrets than it began with:
//! keys that only the other one knows would be forgotten.

use std::io::Write;
use std::path::{Path, PathBuf};

use keybaton_adapters::buses::{REDIS_JOURNAL_PASSWORD_VARIABLE, RedisPlace};
use keybaton_adapters::journals::{AcceptedLoss, RedisJournalSettings};
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_adapters::store::holds_store;
use keybaton_messages::DeploymentId;
use serde::{Deserialize, Serialize};

use super::{BusChoice, Choice, JournalChoice, SecretsChoice, StoreNames};
use crate::error::StartError;

const FILE: &str = "stores.json";
const SCHEMA: u32 = 1;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    schema: u32,
    pub(super) journal: Journal,
    pub(super) secrets: Secrets,
    pub(super) bus: Bus,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Journal {
    Embedded,
    Postgres {
        url: String,
        password_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
        /// Which journal it is, wherever it has moved; absent until it was opened once.
        deployment: Option<DeploymentId>,
    },
    Redis {
        place: RedisPlace,
        /// What was accepted when it was opened.
        accepted_loss: AcceptedLoss,
        /// As in Postgres.
        deployment: Option<DeploymentId>,
    },
}

impl Journal {
    /// Which one it is, for one that can move; `None` for the one in the directory.
    fn deployment(&mut self) -> Option<&mut Option<DeploymentId>> {
        match self {
            Self::Embedded => None,
            Self::Postgres { deployment, .. } | Self::Redis { deployment, .. } => Some(deployment),
        }
    }

    /// Whether both may be the same one: of one kind, and not known to be two.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Embedded, Self::Embedded) => true,
            (Self::Postgres { deployment: a, .. }, Self::Postgres { deployment: b, .. })
            | (Self::Redis { deployment: a, .. }, Self::Redis { deployment: b, .. }) => {
                a.is_none() || b.is_none() || a == b
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Secrets {
    Embedded,
    Vault { address: String, namespace: Option<String>, mount: String, prefix: String },
    Given,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bus {
    Local,
    Redis { address: String },
    Given,
}

impl Kept {
    /// Everything in the directory: what a directory without this file has.
    pub(super) fn embedded() -> Self {
        let (journal, secrets, bus) = (Journal::Embedded, Secrets::Embedded, Bus::Local);
        Self { schema: SCHEMA, journal, secrets, bus }
    }

    /// What was chosen.
    pub(super) fn of(choice: &Choice) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let journal = match &choice.journal {
            JournalChoice::Embedded => Journal::Embedded,
            JournalChoice::Postgres(settings) => Journal::Postgres {
                url: settings.url.clone(),
                password_file: settings.password_file.as_ref().map(absolute),
                ca_file: settings.ca_file.as_ref().map(absolute),
                deployment: None,
            },
            JournalChoice::Redis(settings) => {
                let mut place = settings.redis.place().clone();
                place.password_file = place.password_file.as_ref().map(absolute);
                place.authority_file = place.authority_file.as_ref().map(absolute);
                let accepted_loss = settings.accepted_loss;
                Journal::Redis { place, accepted_loss, deployment: None }
            }
        };
        let secrets = match &choice.secrets {
            SecretsChoice::Embedded => Secrets::Embedded,
            SecretsChoice::Given(_) => Secrets::Given,
            SecretsChoice::Vault(settings) => Secrets::Vault {
                address: settings.address.clone(),
                namespace: settings.namespace.clone(),
                mount: settings.mount.clone(),
                prefix: settings.prefix.clone(),
            },
        };
        let bus = match &choice.bus {
            BusChoice::Local => Bus::Local,
            BusChoice::Given(_) => Bus::Given,
            BusChoice::Redis(settings) => Bus::Redis { address: settings.address() },
        };
        Self { schema: SCHEMA, journal, secrets, bus }
    }

    /// The journal was opened: it is this one.
    pub(super) fn found(&mut self, journal: &DeploymentId) {
        if let Some(deployment) = self.journal.deployment() {
            *deployment = Some(journal.clone());
        }
    }

    /// Reads what the directory remembers; nothing for one that is new, or older than this file.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StartError> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StartError::Kept { path, source }),
        };
        let unread = |why: String| StartError::Kept {
            path: path.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
        };
        let kept: Self = serde_json::from_slice(&text).map_err(|bad| unread(bad.to_string()))?;
        if kept.schema > SCHEMA {
            return Err(unread(format!("schema {} is of a newer keybaton", kept.schema)));
        }
        Ok(Some(kept))
    }

    /// Writes it down, whole or not at all.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StartError> {
        let (path, partial) = (dir.join(FILE), dir.join("stores.json.partial"));
        let text = serde_json::to_vec_pretty(self).expect("words and paths are JSON");
        let write = || {
            let mut file = std::fs::File::create(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&partial, &path)?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().map_err(|source| StartError::Kept { path: path.clone(), source })
    }

    /// Whether what was chosen is what the directory has. Addresses may change: servers move.
    pub(super) fn demand_same(&self, chosen: &Self, dir: &Path) -> Result<(), StartError> {
        let other = |what, kept: String, chosen: String| {
            Err(StartError::OtherStores { dir: dir.to_owned(), what, kept, chosen })
        };
        let (kept, now) = (self.names(), chosen.names());
        if !self.journal.may_be(&chosen.journal) {
            let is_of_one_kind =
                std::mem::discriminant(&self.journal) == std::mem::discriminant(&chosen.journal);
            let chosen = match is_of_one_kind {
                true => format!("another one, at {}", now.journal),
                false => now.journal,
            };
            return other("journal", kept.journal, chosen);
        }
        match (&self.secrets, &chosen.secrets) {
            (
                Secrets::Vault { namespace: n, mount: m, prefix: p, .. },
                Secrets::Vault { namespace, mount, prefix, .. },
            ) if (n, m, p) == (namespace, mount, prefix) => Ok(()),
            (kept, now) if kept == now => Ok(()),
            _ => other("secret store", kept.secrets, now.secrets),
        }
    }

    /// The choice with which a stopped node's journal is read, where it is on a server.
    pub(super) fn journal_to_read(&self) -> Result<JournalChoice, StartError> {
        Ok(match &self.journal {
            Journal::Embedded => JournalChoice::Embedded,
            Journal::Postgres { url, password_file, ca_file, .. } => {
                let mut settings = PostgresSettings::new(url);
                settings.password_file.clone_from(password_file);
                settings.ca_file.clone_from(ca_file);
                settings.create = false;
                JournalChoice::Postgres(Box::new(settings))
            }
            Journal::Redis { place, accepted_loss, .. } => {
                let redis = place.settings(REDIS_JOURNAL_PASSWORD_VARIABLE)?;
                let mut settings = RedisJournalSettings::new(redis);
                settings.accepted_loss = *accepted_loss;
                settings.create = false;
                JournalChoice::Redis(Box::new(settings))
            }
        })
    }

    /// The same in words.
    pub(super) fn names(&self) -> StoreNames {
        let journal = match &self.journal {
            Journal::Embedded => "embedded, in the data directory".to_owned(),
            Journal::Postgres { url, .. } => format!("Postgres, {url}"),
            Journal::Redis { place, .. } => format!("Redis, {}", place.url),
        };
        let secrets = match &self.secrets {
            Secrets::Embedded => "embedded, in the data directory".to_owned(),
            Secrets::Given => "the program's own".to_owned(),
            Secrets::Vault { address, mount, prefix, .. } => {
                format!("Vault, {address}, in {mount}/{prefix}")
            }
        };
        let bus = match &self.bus {
            Bus::Local => "local, in the process".to_owned(),
            Bus::Given => "the program's own".to_owned(),
            Bus::Redis { address } => format!("Redis, {address}"),
        };
        // Only the journal knows, once it was opened.
        let journal_may_lose = None;
        StoreNames { journal, journal_may_lose, secrets, bus }
    }
}

/// Whether a node has begun to work in the directory. Only looks.
pub(crate) fn holds_node(dir: &Path) -> bool {
    dir.join(FILE).exists() || holds_store(dir)
}
