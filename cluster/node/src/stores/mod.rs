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
//! for a journal in Postgres a reservation there as well.

mod kept;
mod open;

use std::sync::Arc;

use keybaton_adapters::buses::RedisSettings;
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_adapters::secrets::vault::VaultSettings;
use keybaton_ports::{EventBus, SecretStore};
use serde::{Deserialize, Serialize};

pub(crate) use kept::holds_node;
pub(crate) use open::{Stores, first_stop, open, open_stopped};

/// What the builder was told.
pub(crate) struct Choice {
    /// The journal's database; the directory's embedded store when there is none.
    pub(crate) postgres: Option<PostgresSettings>,
    pub(crate) secrets: SecretsChoice,
    pub(crate) bus: BusChoice,
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
