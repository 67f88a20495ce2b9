//! What the library says when it cannot do what it was asked.

use std::path::PathBuf;
use std::time::Duration;

use keybaton_adapters::audit::AuditFileError;
use keybaton_adapters::buses::RedisSettingsError;
use keybaton_adapters::journals::RedisStoreError;
use keybaton_adapters::postgres::PostgresError;
use keybaton_adapters::providers::SettingsError;
use keybaton_adapters::secrets::vault::VaultError;
use keybaton_adapters::store::{KeyError, OpenError};
use keybaton_messages::{BadName, RotationId};
use keybaton_ports::{Refusal, TaskError};
use thiserror::Error;

/// The node did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The master key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A name does not fit its rule.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The policy of a provider contradicts itself.
    #[error("the policy of provider {0} does not hold together")]
    Policy(String, #[source] keybaton_rotation::BadPolicy),
    /// The journal in Postgres cannot be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The journal in Redis cannot be used.
    #[error(transparent)]
    RedisJournal(#[from] RedisStoreError),
    /// The settings of Vault cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The settings of Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisSettingsError),
    /// The directory's node began with other stores.
    #[error(
        "the {what} of {} is {kept}, not {chosen}; start it with the same stores, or choose an \
         empty directory",
        dir.display()
    )]
    OtherStores {
        /// The data directory.
        dir: PathBuf,
        /// Which of its stores.
        what: &'static str,
        /// Where it is.
        kept: String,
        /// What was chosen.
        chosen: String,
    },
    /// The journal is in use, and the secrets that it names are not in this directory.
    #[error(
        "{} is new, and the journal has pairs whose secrets are kept elsewhere; start with the \
         directory or the secret store that they are in, or with an empty database",
        dir.display()
    )]
    SecretsElsewhere {
        /// The data directory.
        dir: PathBuf,
    },
    /// What the directory remembers of its stores cannot be read or written.
    #[error("cannot use {}, which names the stores; check the disk and the permissions", path.display())]
    Kept {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store refused the node's first reads or writes.
    #[error(
        "the journal did not take the node's first question; see that it is there, start again"
    )]
    Store(#[source] Refusal),
    /// The actors did not start.
    #[error("the actors did not start: {0}")]
    Actors(String),
    /// The audit file cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditFileError),
    /// The status socket could not be opened.
    #[error("the status socket in the data directory could not be opened")]
    Status(#[source] std::io::Error),
}

/// A task was not spawned.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The node has as many tasks as it may.
    #[error("the node has as many tasks as it may; try again after {after:?}")]
    Busy {
        /// When to try again.
        after: Duration,
    },
    /// A name does not fit its rule.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The node was built without this program.
    #[error("this node does not know the kind {0:?}; add it with NodeBuilder::program")]
    UnknownKind(&'static str),
    /// The node was built without this provider.
    #[error("this node does not know the provider {0:?}; add it with NodeBuilder::provider")]
    UnknownProvider(String),
    /// The input cannot be encoded.
    #[error("the task's input cannot be kept")]
    Input(#[from] keybaton_messages::wire::WireError),
    /// The task journal refused.
    #[error(transparent)]
    Journal(#[from] TaskError),
    /// The node is stopping.
    #[error("the node is stopping and takes no more tasks")]
    Stopping,
}

/// A task has no result.
#[derive(Debug, Error)]
pub enum TaskFailure {
    /// It failed.
    #[error("the task failed: {0}")]
    Failed(String),
    /// It was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// It waits for a person.
    #[error("the task is parked: {0}")]
    Parked(String),
    /// Its result cannot be read as this program's state.
    #[error("the task's result cannot be read")]
    Result(#[from] keybaton_messages::wire::WireError),
    /// There is no such task, or the journal could not be read.
    #[error("{0}")]
    Unread(String),
    /// The node stopped; the task goes on when it starts again.
    #[error("the node stopped; the task goes on when it starts again")]
    NodeStopped,
}

/// A trigger or an order was not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// A name does not fit its rule.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The node was built without this provider.
    #[error("this node does not know the provider {0:?}; add it with NodeBuilder::provider")]
    UnknownProvider(String),
    /// The rules refuse it.
    #[error("refused: {0}")]
    Refused(String),
    /// The port refused.
    #[error(transparent)]
    Port(#[from] Refusal),
    /// The pair's actor ended before it answered; the same trigger may be sent again.
    #[error("no answer yet; ask again with the same trigger id")]
    NoAnswer,
    /// The rotation that was waited for ended without handing over.
    #[error("{id} failed: {cause}")]
    Failed {
        /// Which rotation.
        id: RotationId,
        /// Why.
        cause: String,
    },
}

/// A provider could not be built.
#[derive(Debug, Error)]
pub enum WiringError {
    /// A tenant's name does not fit its rule.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The admin key cannot be one.
    #[error(transparent)]
    Key(#[from] Refusal),
    /// The settings contradict each other, or the kind is unknown.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}
