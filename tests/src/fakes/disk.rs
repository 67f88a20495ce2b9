//! A disk that fails on command, under the database of an embedded store.
//!
//! It keeps what was written since the last sync apart, so that a power cut can take it back: each
//! stretch of bytes as it was at the last sync or as it was written, by chance.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use keybaton_adapters::store::BackendSource;
use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Well,
    /// So many more writes work, then it is full until somebody makes room.
    FullAfter(u32),
    /// The next write fails, later ones work.
    OneBadWrite,
    /// Writes work, and syncs fail.
    NoSync,
    /// Writes work, and so many more syncs do.
    NoSyncAfter(u32),
    /// Writes work, and the next sync waits until it is well.
    Held,
    /// Nothing works any more.
    Gone,
}

struct State {
    health: Health,
    syncs: u64,
    /// A sync waits.
    is_waiting: bool,
    /// What stood at an offset at the last sync, by offset.
    unsynced: BTreeMap<u64, Vec<u8>>,
}

/// The switch of one disk.
pub struct Disk(Mutex<State>, Condvar);

impl Disk {
    /// A disk that works.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state =
            State { health: Health::Well, syncs: 0, is_waiting: false, unsynced: BTreeMap::new() };
        Arc::new(Self(Mutex::new(state), Condvar::new()))
    }

    /// Makes it ill, or well again.
    pub fn set(&self, health: Health) {
        self.0.lock().health = health;
        self.1.notify_all();
    }

    /// Returns when a sync waits on a disk that is held. Blocks.
    pub fn wait_for_a_sync(&self) {
        let mut state = self.0.lock();
        self.1.wait_while(&mut state, |state| !state.is_waiting);
    }

    /// How often it has synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Cuts the power: every stretch that was not synced stays or is taken back, as `stays` says,
    /// and nothing works until [`Health::Well`] is set.
    pub fn cut_power(&self, path: &Path, mut stays: impl FnMut() -> bool) {
        let mut state = self.0.lock();
        state.health = Health::Gone;
        let file = OpenOptions::new().write(true).open(path);
        let file = file.expect("the database file");
        for (offset, before) in std::mem::take(&mut state.unsynced) {
            if !stays() {
                file.write_all_at(&before, offset).expect("taken back");
            }
        }
    }

    /// Opens files on this disk.
    #[must_use]
    pub fn source(self: &Arc<Self>) -> BackendSource {
        let disk = self.clone();
        Arc::new(move |path| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            let inner = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
            Ok(Box::new(DiskFile { disk: disk.clone(), inner, file }))
        })
    }

    fn check(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        match state.health {
            Health::Well | Health::NoSync | Health::NoSyncAfter(_) | Health::Held => Ok(()),
            Health::FullAfter(0) => Err(io::ErrorKind::StorageFull.into()),
            Health::FullAfter(left) => {
                state.health = Health::FullAfter(left - 1);
                Ok(())
            }
            Health::OneBadWrite => {
                state.health = Health::Well;
                Err(io::Error::other("a bad sector"))
            }
            Health::Gone => Err(io::Error::other("no such device")),
        }
    }
}

struct DiskFile {
    disk: Arc<Disk>,
    inner: FileBackend,
    file: File,
}

impl std::fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskFile").finish_non_exhaustive()
    }
}

impl DiskFile {
    /// Remembers what stands there as of the last sync.
    fn remember(&self, offset: u64, length: usize) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.unsynced.get(&offset).is_some_and(|old| old.len() >= length) {
            return Ok(());
        }
        let mut before = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let at = offset + filled as u64;
            let read = self.file.read_at(&mut before[filled..], at)?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        if let Some(older) = state.unsynced.get(&offset) {
            before[..older.len()].copy_from_slice(older);
        }
        state.unsynced.insert(offset, before);
        Ok(())
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.disk.0.lock().health == Health::Gone {
            return Err(io::Error::other("no such device"));
        }
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.health == Health::Held {
            state.is_waiting = true;
            self.disk.1.notify_all();
            self.disk.1.wait_while(&mut state, |state| state.health == Health::Held);
            state.is_waiting = false;
        }
        if let Health::NoSyncAfter(left) = state.health {
            state.health = left.checked_sub(1).map_or(Health::NoSync, Health::NoSyncAfter);
        }
        match state.health {
            Health::NoSync | Health::Gone => Err(io::Error::other("cannot sync")),
            _ => {
                self.inner.sync_data()?;
                state.syncs += 1;
                state.unsynced.clear();
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.check()?;
        self.remember(offset, data.len())?;
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
