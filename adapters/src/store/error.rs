//! How opening the embedded store fails, and how an operation on it fails.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a master key was not taken.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot {doing} the master key file {}; check that it exists and is yours", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others could read the file.
    #[error(
        "the master key file {} has mode {mode:o}; make it unreadable for others with `chmod 400`",
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error(
        "the master key file {} belongs to user {owner}; give it to the user that runs keybaton",
        path.display()
    )]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Its user id.
        owner: u32,
    },
    /// The text is not a key.
    #[error("{place} does not hold a master key; it needs 32 bytes: raw, 64 hex digits, or base64")]
    Format {
        /// The file or variable.
        place: String,
    },
}

/// Why the embedded store was not opened. Nothing was written, except in an empty directory.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by another keybaton process; stop that one, or choose another data directory",
        dir.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is none, and creating one was not asked for.
    #[error("{} holds no keybaton data; name the directory of a node that has run", dir.display())]
    Missing {
        /// The data directory.
        dir: PathBuf,
    },
    /// Somebody else's files.
    #[error(
        "{} does not belong to keybaton ({why}); choose an empty directory",
        path.display()
    )]
    Foreign {
        /// What is foreign.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// Written by a newer program.
    #[error(
        "{} has schema {found} and this keybaton reads up to {readable}; run the newer keybaton",
        dir.display()
    )]
    NewerSchema {
        /// The data directory.
        dir: PathBuf,
        /// What it says.
        found: u32,
        /// What this program reads.
        readable: u32,
    },
    /// Sealed under another master key.
    #[error(
        "the master key is not the one that {} was sealed with; use the key it was created with",
        dir.display()
    )]
    WrongKey {
        /// The data directory.
        dir: PathBuf,
    },
    /// The bytes are not what was written.
    #[error(
        "{} is damaged ({why}); keep a copy of it, then restore the directory from a backup",
        path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// The master key was not taken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operating system refused.
    #[error("cannot {doing} {}; check the disk and the permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), why: why.into() }
    }
}

/// The database did not do what was asked.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Fault(redb::Error);

impl Fault {
    /// The outside did not work (full disk, read error).
    pub(crate) fn into_io(self) -> Result<io::Error, Self> {
        match self.0 {
            redb::Error::Io(error) => Ok(error),
            other => Err(Self(other)),
        }
    }

    pub(crate) fn is_lock(&self) -> bool {
        matches!(self.0, redb::Error::DatabaseAlreadyOpen)
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self(error.into())
            }
        }
    )*};
}
fault_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// An operation that was not carried out, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Down {
    /// Nothing was written.
    #[error("{0}")]
    Unavailable(String),
    /// It may or may not be written.
    #[error("unknown outcome: {0}")]
    Unknown(String),
}
