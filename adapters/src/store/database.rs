//! The database itself: opened, read, written in one transaction, reopened after a failure.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use redb::{Builder, Durability, ReadableDatabase};

use crate::limits::PAGE_CACHE_BYTES_MAX;
use crate::store::backend::{BackendSource, Watched};
use crate::store::{Down, Fault, Tables};

pub(crate) use crate::store::rows::Reader;

/// How a write ended that did not succeed.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The commit itself had begun, so that nobody can tell.
    pub(crate) at_commit: bool,
}

/// The open database, or none after it could not be reopened.
pub(crate) struct Database {
    path: PathBuf,
    source: BackendSource,
    open: RwLock<Option<redb::Database>>,
    sync_failed: Arc<AtomicBool>,
}

impl Database {
    pub(crate) fn open(path: PathBuf, source: BackendSource) -> Result<Self, Fault> {
        let database = Self {
            path,
            source,
            open: RwLock::new(None),
            sync_failed: Arc::new(AtomicBool::new(false)),
        };
        *database.open.write() = Some(database.start()?);
        Ok(database)
    }

    fn start(&self) -> Result<redb::Database, Fault> {
        let backend = (self.source)(&self.path)
            .and_then(|inner| Watched::new(inner, Arc::clone(&self.sync_failed)))
            .map_err(redb::StorageError::Io)?;
        Ok(Builder::new().set_cache_size(PAGE_CACHE_BYTES_MAX).create_with_backend(backend)?)
    }

    /// Closes and opens again; afterwards the database shows what is really there. Waits for
    /// readers, who are short.
    pub(crate) fn reopen(&self) -> Result<(), Fault> {
        let mut open = self.open.write();
        *open = None;
        *open = Some(self.start()?);
        Ok(())
    }

    /// Whether a sync has ever failed.
    pub(crate) fn has_failed_to_sync(&self) -> bool {
        self.sync_failed.load(Ordering::SeqCst)
    }

    /// Reads what the last commit left.
    pub(crate) fn read<T>(
        &self,
        act: impl FnOnce(&mut Reader) -> Result<T, Fault>,
    ) -> Result<T, Down> {
        let open = self.open.read();
        let Some(database) = &*open else {
            return Err(Down::Unavailable("the store has stopped".into()));
        };
        let begun = database.begin_read().map_err(Fault::from);
        begun
            .map(Reader::new)
            .and_then(|mut reader| act(&mut reader))
            .map_err(|fault| Down::Unavailable(format!("cannot read the store: {fault}")))
    }

    /// Carries `act` out in one transaction, durable when this returns.
    pub(crate) fn write<T>(
        &self,
        act: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault>,
    ) -> Result<T, Failure> {
        let before = |fault| Failure { fault, at_commit: false };
        let open = self.open.read();
        let database =
            open.as_ref().ok_or_else(|| before(redb::StorageError::DatabaseClosed.into()))?;
        let mut transaction = database.begin_write().map_err(|e| before(e.into()))?;
        transaction.set_two_phase_commit(true);
        transaction.set_durability(Durability::Immediate).map_err(|e| before(e.into()))?;
        let mut tables = Tables::new(&transaction);
        let answer = act(&mut tables).map_err(before)?;
        // Whoever keeps books of segments has ended them already; a row is written in any case.
        tables.end_segments().map_err(before)?;
        let is_changed = tables.is_changed();
        drop(tables);
        if is_changed {
            transaction
                .commit()
                .map_err(|error| Failure { fault: error.into(), at_commit: true })?;
        } else {
            transaction.abort().map_err(|e| before(e.into()))?;
        }
        Ok(answer)
    }
}
