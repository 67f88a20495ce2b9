//! How opening a Postgres store fails, and what a failed statement means for the caller.

use std::path::PathBuf;

use thiserror::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::store::Down;

/// Why a Postgres store was not opened. Nothing was changed, except that a migration may have
/// been completed.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// The address cannot be used as it stands.
    #[error("the Postgres address cannot be used: {0}")]
    Address(String),
    /// The address holds a password.
    #[error(
        "the Postgres address holds a password; take it out and name a password file, or set \
         KEYBATON_POSTGRES_PASSWORD"
    )]
    PasswordInAddress,
    /// The connection would be readable on the way.
    #[error(
        "the connection to {host} would go without TLS, which is allowed only to this machine \
         (a socket or a loopback address); leave sslmode out or set it to require"
    )]
    Plain {
        /// Where to.
        host: String,
    },
    /// The password was not taken.
    #[error("cannot use the password file {}: {why}", path.display())]
    Password {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// The certificates to trust were not taken.
    #[error("cannot read certificates to trust: {0}; name a PEM file of the server's authority")]
    Certificates(String),
    /// The server is not shown to be the one that was meant.
    #[error(
        "the certificate of the Postgres server does not show that it is the one that was meant: \
         {0}; name its authority (a PEM file), and the server as its certificate does"
    )]
    Untrusted(String),
    /// The server refuses us.
    #[error("postgres refuses to let us in: {0}; check user, password file and pg_hba.conf")]
    Login(String),
    /// The server does not answer as it should.
    #[error("postgres is not available: {0}; check that it runs, and start again")]
    Unavailable(String),
    /// The server takes no writes.
    #[error("postgres takes no writes: {0}; name the primary")]
    ReadOnly(String),
    /// The server is too old.
    #[error("postgres {found} is too old; use 15 or newer")]
    Version {
        /// What the server says of itself.
        found: String,
    },
    /// The server acknowledges writes that a crash would lose.
    #[error(
        "postgres has {setting} = {value}, so that a crash loses what it acknowledged; set it to on"
    )]
    NotDurable {
        /// Which setting.
        setting: String,
        /// Its value.
        value: String,
    },
    /// Written by a newer program.
    #[error(
        "the schema keybaton in Postgres has number {found} and this keybaton knows up to {known}; \
         run the newer keybaton"
    )]
    NewerSchema {
        /// What the database says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// A migration failed; the database is as it was before.
    #[error(
        "migration {number} failed: {why}; grant CREATE on the database to this user, or ask for help"
    )]
    Migration {
        /// Which one.
        number: i64,
        /// What the server says.
        why: String,
    },
    /// There is no store, or an older one, and making one was not asked for.
    #[error("the Postgres database holds no journal of this keybaton yet; start the node once")]
    Missing,
    /// Another process works on it.
    #[error(
        "another keybaton process works on this Postgres journal ({by}); stop that one, or choose \
         another database. If its machine is gone, end its session with pg_terminate_backend"
    )]
    InUse {
        /// Which session, and from where.
        by: String,
    },
    /// The user may not make roles.
    #[error(
        "the Postgres user may not make roles, and each tenant's checkpoints belong to a role of \
         its own; as a superuser: alter role {user} createrole"
    )]
    NoRoles {
        /// Which user.
        user: String,
    },
    /// Sealed under another master key.
    #[error(
        "the master key is not the one that this Postgres store was sealed with; use the key it was \
         created with"
    )]
    WrongKey,
    /// The bytes are not what was written.
    #[error(
        "the Postgres store is damaged ({0}); keep a copy of it, then restore it from a backup"
    )]
    Corrupt(String),
}

impl PostgresError {
    /// What a statement that failed while opening says.
    pub(crate) fn from_statement(error: &tokio_postgres::Error) -> Self {
        if let Some(distrust) = distrust(error) {
            return Self::Untrusted(distrust.to_string());
        }
        let why = why(error);
        match error.code() {
            Some(code)
                if [
                    SqlState::INVALID_PASSWORD,
                    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    SqlState::INVALID_CATALOG_NAME,
                ]
                .contains(code) =>
            {
                Self::Login(why)
            }
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly(why),
            None if why.contains("does not allow writes") => Self::ReadOnly(why),
            None if why.contains("password missing") => Self::Login(why),
            _ => Self::Unavailable(why),
        }
    }
}

impl From<Down> for PostgresError {
    fn from(down: Down) -> Self {
        match down {
            Down::Unavailable(why) | Down::Unknown(why) => Self::Unavailable(why),
        }
    }
}

/// Why the server's certificate was not taken, if that is what failed.
fn distrust(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let source = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    source.get_ref()?.downcast_ref()
}

/// A failed statement in one line. Values of rows are not in it: the server keeps them in the
/// detail.
pub(crate) fn why(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether the server refused to write a row, whatever else it can do: a constraint, a lost
/// compare-and-set, or the loser of a deadlock. Nothing was written.
pub(crate) fn is_refused_write(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        return false;
    };
    let class = &code.code()[..2];
    ["23", "KB", "40"].contains(&class)
}

/// Whether the server did not write because of what the statement names, and would write other things:
/// a refused row, a value, a table or role that is not as it should be, a lock that somebody holds.
/// Nothing was written.
pub(crate) fn is_about_rows(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        return false;
    };
    let class = &code.code()[..2];
    is_refused_write(error)
        || ["22", "42"].contains(&class)
        || *code == SqlState::LOCK_NOT_AVAILABLE
}

/// Whether the server answered to this statement and goes on: the statement did nothing, and its
/// transaction cannot be committed any more. A server that ends its session may have gone either
/// way.
pub(crate) fn is_answer(error: &tokio_postgres::Error) -> bool {
    let said = error.as_db_error();
    said.is_some_and(|said| said.parsed_severity() == Some(Severity::Error))
}

/// What a failed write means, when nothing else is known.
pub(crate) fn written(error: &tokio_postgres::Error) -> Down {
    if is_answer(error) { Down::Unavailable(why(error)) } else { Down::Unknown(why(error)) }
}
