//! Everything that a single node needs, from one directory and one master key.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_messages::{DeploymentId, Timestamp};
use keybaton_ports::{
    AuditKey, CheckpointStore, Clock, Entropy, FingerprintKey, Journal, SecretStore, TaskJournal,
};
use tokio::sync::watch;

use crate::SystemClock;
use crate::checkpoints::EmbeddedCheckpoints;
use crate::journals::{Heads, Pairs, RedbJournal, RedbTaskJournal};
use crate::secrets::EmbeddedSecrets;
use crate::store::{
    BackendSource, DataDir, Database, Fault, Identity, MasterKey, Notice, OpenError, Reader,
    Resident, Sealer, Store, SystemEntropy, Tables, file_source, identify, is_time_stale,
    write_time,
};

/// How the store is opened.
#[derive(Clone)]
pub struct Options {
    /// Whether an empty or missing directory becomes a new store. Off for commands that only look.
    pub create: bool,
    /// The storage under the database; tests put failing disks here. Default: the file.
    pub backend: BackendSource,
}

impl Default for Options {
    fn default() -> Self {
        Self { create: true, backend: file_source() }
    }
}

/// The embedded adapters over one data directory, which stays locked until all of them are gone.
pub struct Embedded {
    /// Pair records, grants, audit, outbox.
    pub journal: Arc<dyn Journal>,
    /// Tasks and the entries of their steps.
    pub tasks: Arc<dyn TaskJournal>,
    /// Secrets and witnesses.
    pub secrets: Arc<dyn SecretStore>,
    /// Checkpoints.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Store time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The deployment's key for fingerprints and tags.
    pub fingerprint_key: Arc<FingerprintKey>,
    /// The key of the audit chains.
    pub audit_key: Arc<AuditKey>,
    /// The deployment part of every label.
    pub deployment: DeploymentId,
    /// What the operator should know.
    pub notices: Vec<Notice>,
    store: Arc<Store>,
}

impl Embedded {
    /// Opens the store in `dir`, founding it if there is none and `options` say so.
    ///
    /// Blocks for as long as the disk takes: milliseconds, or seconds for millions of rows.
    ///
    /// # Errors
    /// [`OpenError`]; each one says what to do next. Nothing is written when the directory is
    /// locked, foreign, newer, damaged, or sealed under another key.
    pub fn open(dir: &Path, master: MasterKey, options: &Options) -> Result<Self, OpenError> {
        Self::open_in(DataDir::take(dir, options.create)?, master, options)
    }

    /// Opens the store in a directory that this process has taken already.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_in(
        mut dir: DataDir,
        master: MasterKey,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let notices = dir.notices().to_vec();
        let path = dir.database();
        let database = Database::open(path.clone(), Arc::clone(&options.backend))
            .map_err(|fault| opening(&dir, &path, fault))?;
        let identity = identify(&mut dir, &database, master)?;
        let Identity { sealer, deployment, time } = identity;
        let sealer = Arc::new(sealer);
        let clock = Arc::new(SystemClock::start(Timestamp(time)));
        let pairs = Arc::new(Pairs::new(Arc::clone(&sealer)));
        let heads = Arc::new(Heads::new(Arc::clone(&sealer)));
        let keeper = Arc::new(ClockKeeper {
            clock: Arc::clone(&clock),
            sealer: Arc::clone(&sealer),
            stored_ms: AtomicU64::new(time),
            writing_ms: AtomicU64::new(time),
        });
        let residents: Vec<Arc<dyn Resident>> = vec![pairs.clone(), heads.clone(), keeper];
        let store = Store::new(dir, database, residents)
            .map_err(|down| OpenError::corrupt(&path, down.to_string()))?;
        let store = Arc::new(store);
        let audit_key = Arc::new(sealer.keyring().audit_key());
        let journal = RedbJournal::new(
            Arc::clone(&store),
            Arc::clone(&sealer),
            pairs,
            Arc::clone(&clock),
            Arc::clone(&audit_key),
        );
        let tasks = RedbTaskJournal::new(Arc::clone(&store), Arc::clone(&sealer), heads);
        Ok(Self {
            journal: Arc::new(journal),
            tasks: Arc::new(tasks),
            secrets: Arc::new(EmbeddedSecrets::new(Arc::clone(&store), Arc::clone(&sealer))),
            checkpoints: Arc::new(EmbeddedCheckpoints::new(Arc::clone(&store))),
            clock,
            entropy: Arc::new(SystemEntropy),
            fingerprint_key: Arc::new(sealer.keyring().fingerprint_key()),
            audit_key,
            deployment,
            notices,
            store,
        })
    }

    /// Becomes `Some(why)` when the store has stopped for good; the process should then end with
    /// that message, because nothing is written any more.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.store.stopped()
    }
}

fn opening(dir: &DataDir, path: &Path, fault: Fault) -> OpenError {
    if fault.is_lock() {
        return OpenError::Locked { dir: dir.path().to_owned() };
    }
    match fault.into_io() {
        Ok(error) => OpenError::io("open", path)(error),
        Err(fault) => OpenError::corrupt(path, fault.to_string()),
    }
}

/// Keeps the clock's high-water mark in the store, with whatever else is committed.
struct ClockKeeper {
    clock: Arc<SystemClock>,
    sealer: Arc<Sealer>,
    stored_ms: AtomicU64,
    writing_ms: AtomicU64,
}

impl Resident for ClockKeeper {
    fn before_commit(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let now = self.clock.now().0;
        if is_time_stale(self.stored_ms.load(Ordering::Relaxed), now) {
            write_time(tables, &self.sealer, now)?;
            self.writing_ms.store(now, Ordering::Relaxed);
        }
        Ok(())
    }

    fn committed(&self) {
        let written = self.writing_ms.load(Ordering::Relaxed);
        self.stored_ms.store(written, Ordering::Relaxed);
    }

    fn reload(&self, _reader: &mut Reader) -> Result<(), Fault> {
        Ok(())
    }
}
