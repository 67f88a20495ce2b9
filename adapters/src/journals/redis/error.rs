//! How opening a store in Redis fails.

use thiserror::Error;

use crate::buses::RedisSettingsError;

/// Why a store in Redis was not opened. Nothing was changed, except that a new store may have been
/// founded.
#[derive(Debug, Error)]
pub enum RedisStoreError {
    /// Nobody has said that Redis may lose anything.
    #[error(
        "a journal in Redis is best effort: a failover may lose what was acknowledged, and a key \
         could be revoked while somebody holds it; set accepted_loss = \"failover\" to accept \
         that, or keep the journal in Postgres or in the embedded store"
    )]
    NotAccepted,
    /// The settings cannot be used as they stand.
    #[error(transparent)]
    Settings(#[from] RedisSettingsError),
    /// The server does not answer as it should.
    #[error(
        "redis is not available as a journal: {0}; check that it runs, the user and its rights, \
         and start again"
    )]
    Unavailable(String),
    /// The server is too old.
    #[error("redis {found} is too old for a journal; use Redis 7.0 or newer, or Valkey")]
    Version {
        /// What the server says of itself.
        found: String,
    },
    /// The server shares its keys with others, which no script can change together.
    #[error("redis runs as a cluster, which cannot hold a journal; name a server of its own")]
    Cluster,
    /// The server would lose or drop what it has acknowledged.
    #[error(
        "redis has {setting} = {value}, so that it loses what it acknowledged; set it to {remedy}, \
         or set accepted_loss = \"crash\" for a trial"
    )]
    NotDurable {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// A value that is good enough.
        remedy: &'static str,
    },
    /// The server would leave out transactions when it starts again.
    #[error(
        "redis would forget what it acknowledged when it starts again: while it reads its file it \
         acts as the user default, who may not {command}; give that user `~keybaton:* +hset +hdel \
         +hincrby +unlink` (it may stay off), or set accepted_loss = \"crash\" for a trial"
    )]
    NotReplayed {
        /// What it may not do.
        command: String,
    },
    /// The server does not say how durable it is.
    #[error(
        "redis does not say whether it keeps what it acknowledges ({0}); permit +config|get and \
         +acl|dryrun to this user, or set accepted_loss = \"crash\" for a trial"
    )]
    Unknown(String),
    /// Replicas were asked for, and nobody can tell whether they have a write.
    #[error(
        "redis {found} cannot tell whether {wanted} replicas have a write on disk (WAITAOF); use \
         Redis 7.2 or newer, or Valkey, or set replicas_min = 0"
    )]
    NoReplicas {
        /// What the server says of itself.
        found: String,
        /// Replicas that were asked for.
        wanted: u8,
    },
    /// There is no store, and none was to be made.
    #[error("there is no keybaton store in this Redis database; check the address")]
    Missing,
    /// Another process works on the store.
    #[error(
        "another keybaton process works on this Redis store ({by}); stop it first, or choose \
         another database"
    )]
    InUse {
        /// Which one.
        by: String,
    },
    /// Written by a newer program.
    #[error(
        "the store in Redis has schema {found} and this keybaton knows {known}; run the keybaton \
         that wrote it"
    )]
    OtherSchema {
        /// What the store says.
        found: String,
        /// What this program knows.
        known: &'static str,
    },
    /// Sealed under another master key.
    #[error(
        "the master key is not the one that this Redis store was sealed with; use the key it was \
         created with"
    )]
    WrongKey,
    /// The bytes are not what was written.
    #[error("the Redis store is damaged ({0}); keep a copy of it, then restore it from a backup")]
    Corrupt(String),
}
