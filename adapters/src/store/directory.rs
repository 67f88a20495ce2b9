//! The data directory: one node's, one process at a time.
//!
//! ```text
//!   keybaton.lock    locked for as long as the process lives; names the store once it exists
//!   keybaton.redb    everything durable
//!   audit.jsonl      the shipped audit
//! ```
//!
//! **Invariant:** nothing is written into a directory that holds somebody else's files.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use thiserror::Error;

use crate::store::OpenError;

const LOCK: &str = "keybaton.lock";
const DATABASE: &str = "keybaton.redb";

/// The first bytes of every redb file (its design document, "Database header").
const REDB_MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Something the operator should know about a store that was opened all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Notice {
    /// Others may list or enter the directory.
    #[error(
        "the data directory {} has mode {mode:o}; close it to others with `chmod 700`",
        path.display()
    )]
    DirectoryExposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A data directory that this process has to itself.
pub struct DataDir {
    path: PathBuf,
    lock: File,
    marked: bool,
    notices: Vec<Notice>,
}

impl DataDir {
    /// Takes the directory, creating it if `create` says so. It is given back on drop.
    ///
    /// # Errors
    /// [`OpenError`] when another process has it, or it is not keybaton's.
    pub fn take(path: &Path, create: bool) -> Result<Self, OpenError> {
        let found = inspect(path)?;
        if found == Found::Nothing {
            if !create {
                return Err(OpenError::Missing { dir: path.to_owned() });
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(OpenError::io("create", path))?;
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(OpenError::io("create the lock file in", path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { dir: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::io("lock", path)(error));
            }
        }
        let mut mark = String::new();
        lock.read_to_string(&mut mark).map_err(OpenError::io("read the lock file in", path))?;
        let marked = !mark.trim().is_empty();
        let mut dir = Self { path: path.to_owned(), lock, marked, notices: Vec::new() };
        dir.check_database(create)?;
        dir.notices = dir.look_around()?;
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Whether a store was created here once.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Writes down that the store exists, so that a lost database is never taken for a new start.
    pub(crate) fn mark(&mut self, store_id: [u8; 16]) -> Result<(), OpenError> {
        let write = |lock: &mut File| -> io::Result<()> {
            lock.rewind()?;
            writeln!(lock, "store {}", HEXLOWER.encode(&store_id))?;
            lock.sync_all()?;
            File::open(&self.path)?.sync_all()
        };
        write(&mut self.lock).map_err(OpenError::io("write the lock file in", &self.path))?;
        self.marked = true;
        Ok(())
    }

    fn check_database(&self, create: bool) -> Result<(), OpenError> {
        let path = self.database();
        match head_of(&path) {
            Ok(Head::Redb) => Ok(()),
            Ok(_) if self.marked => Err(OpenError::corrupt(&path, "its first bytes are wrong")),
            // Nothing was ever written to it; redb begins anew in an empty file.
            Ok(Head::CutOff) if create => {
                File::create(&path).map(drop).map_err(OpenError::io("empty", &path))
            }
            Ok(Head::CutOff) => Err(OpenError::Missing { dir: self.path.clone() }),
            Ok(Head::Foreign) => Err(foreign_database(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.marked {
                    Err(OpenError::corrupt(&path, "the file is missing"))
                } else if create {
                    Ok(())
                } else {
                    Err(OpenError::Missing { dir: self.path.clone() })
                }
            }
            Err(error) => Err(OpenError::io("read", &path)(error)),
        }
    }

    /// What the operator should know about it.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    fn look_around(&self) -> Result<Vec<Notice>, OpenError> {
        let mode =
            std::fs::metadata(&self.path).map_err(OpenError::io("inspect", &self.path))?.mode()
                & 0o777;
        Ok(if mode & 0o077 == 0 {
            Vec::new()
        } else {
            vec![Notice::DirectoryExposed { path: self.path.clone(), mode }]
        })
    }
}

/// Whether a store was founded in `dir`, or began to be. Only looks.
#[must_use]
pub fn holds_store(dir: &Path) -> bool {
    [LOCK, DATABASE].iter().any(|name| dir.join(name).exists())
}

#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
}

/// Looks before anything is created.
fn inspect(path: &Path) -> Result<Found, OpenError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(OpenError::Foreign { path: path.to_owned(), why: "it is a file".into() });
        }
        Err(error) => return Err(OpenError::io("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(OpenError::io("list", path))?.file_name());
    }
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(LOCK) {
        return Ok(Found::Ours);
    }
    if has(DATABASE) {
        let database = path.join(DATABASE);
        return match head_of(&database) {
            Ok(Head::Redb) => Ok(Found::Ours),
            Ok(Head::CutOff | Head::Foreign) => Err(foreign_database(&database)),
            Err(error) => Err(OpenError::io("read", &database)(error)),
        };
    }
    match names.first() {
        None => Ok(Found::Nothing),
        Some(name) => Err(OpenError::Foreign {
            path: path.to_owned(),
            why: format!("it holds {}", Path::new(name).display()),
        }),
    }
}

/// How a database file begins.
enum Head {
    Redb,
    /// A creation that was cut off: redb writes its first bytes when all others are on the disk.
    CutOff,
    Foreign,
}

fn head_of(path: &Path) -> io::Result<Head> {
    let mut head = Vec::new();
    File::open(path)?.take(REDB_MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(match head.as_slice() {
        head if head == REDB_MAGIC => Head::Redb,
        head if head.iter().all(|byte| *byte == 0) => Head::CutOff,
        _ => Head::Foreign,
    })
}

fn foreign_database(path: &Path) -> OpenError {
    OpenError::Foreign { path: path.to_owned(), why: "it is not a redb database".into() }
}
