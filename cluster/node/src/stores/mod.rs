//! The stores of a node: chosen by its builder, opened at its start, remembered in its directory.
//!
//! ```text
//!   builder ── Choice ──► open ──► Stores ──► ports of the actors
//!                          │
//!                     stores.json       which stores, never a password; a start with others is
//!                                       refused, and a stopped node can be looked at
//! ```
//!
//! **Invariant:** one process at a time works on a journal: the lock on the directory says so, and
//! for a journal on a server a reservation there as well.
//! **Invariant:** a journal that may lose what it has acknowledged is opened only where somebody has
//! said that it may, and says so itself wherever the stores are named.

mod kept;
mod open;

use std::sync::Arc;

use keybaton_adapters::buses::RedisSettings;
use keybaton_adapters::journals::RedisJournalSettings;
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_adapters::secrets::vault::VaultSettings;
use keybaton_ports::{EventBus, SecretStore};
use serde::{Deserialize, Serialize};

pub(crate) use kept::holds_node;
pub(crate) use open::{Stores, first_stop, open, open_stopped};

/// What the builder was told.
pub(crate) struct Choice {
    pub(crate) journal: JournalChoice,
    pub(crate) secrets: SecretsChoice,
    pub(crate) bus: BusChoice,
}

pub(crate) enum JournalChoice {
    Embedded,
    Postgres(Box<PostgresSettings>),
    Redis(Box<RedisJournalSettings>),
}

pub(crate) enum SecretsChoice {
    Embedded,
    Vault(VaultSettings),
    Given(Arc<dyn SecretStore>),
}

pub(crate) enum BusChoice {
    Local,
    Redis(Box<RedisSettings>),
    Given(Arc<dyn EventBus>),
}

/// The stores of a node, in words for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreNames {
    /// Where records, tasks and checkpoints are.
    pub journal: String,
    /// What the journal may lose of what it has acknowledged; nothing when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_may_lose: Option<String>,
    /// Where the bytes of keys are.
    pub secrets: String,
    /// Where events are told.
    pub bus: String,
}

impl StoreNames {
    /// All of it in the directory and in the process.
    #[must_use]
    pub fn embedded() -> Self {
        kept::Kept::embedded().names()
    }
}
