//! The file under the database: where it is written for the first time it is filled, and a sync that
//! failed is remembered.
//!
//! After a failed sync the operating system may have dropped what it could not write and still
//! show it to readers, so that neither a second sync nor a second look tells the truth.
//! **Invariant:** nothing is committed after a failed sync.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keybaton_ports::crash_point;
use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::store::stretches::Stretches;

/// Opens the storage under the database; called again when the database is reopened. Tests put
/// disks here that fail on command.
pub type BackendSource =
    Arc<dyn Fn(&Path) -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static>;

/// The ordinary source: the file itself, readable for this user only.
pub(crate) fn file_source() -> BackendSource {
    Arc::new(|path| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    })
}

/// A backend that fills what it is the first to write into, and remembers a failed sync.
pub(crate) struct Watched {
    inner: Box<dyn StorageBackend>,
    stretches: Mutex<Stretches>,
    sync_failed: Arc<AtomicBool>,
}

impl Watched {
    pub(crate) fn new(
        inner: Box<dyn StorageBackend>,
        sync_failed: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let stretches = Mutex::new(Stretches::of(&*inner)?);
        Ok(Self { inner, stretches, sync_failed })
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        crash_point::check_disk()?;
        let mut stretches = self.stretches.lock();
        self.inner.set_len(len)?;
        stretches.resize(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        crash_point::check_disk()?;
        // Until it is filled, nobody else may write into the same stretch.
        self.stretches.lock().touch(&*self.inner, offset, data.len())?;
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
