//! An embedded store on a disk of its own, which can be closed, opened and cut off.

use std::path::PathBuf;
use std::sync::Arc;

use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_tests::fakes::disk::{Disk, Health};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::drive::Moment;

/// The mutant that every port has: the last write that was acknowledged is gone after a restart.
pub const FORGETS: &str = "forgets the last acknowledged write on reopen";

/// The store as callers see it, and what is wrong with it.
pub struct Store {
    /// The adapters.
    pub embedded: Embedded,
    mutant: Option<&'static str>,
}

impl Store {
    /// Is this wrong with it?
    pub fn is(&self, mutant: &str) -> bool {
        self.mutant == Some(mutant)
    }
}

/// Where a store stands.
pub struct Stand {
    store: Option<Store>,
    mutant: Option<&'static str>,
    disk: Arc<Disk>,
    dir: TempDir,
}

impl Stand {
    /// A new store.
    pub fn open(mutant: Option<&'static str>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut stand = Self { store: None, mutant, disk: Disk::new(), dir };
        stand.start().expect("a new store opens");
        stand
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// A text without the place where this store happens to lie.
    pub fn without_place(&self, text: &str) -> String {
        text.replace(&*self.dir.path().to_string_lossy(), "<dir>")
    }

    /// Closes and opens it.
    pub fn reopen(&mut self) -> Result<(), String> {
        self.store = None;
        self.lose();
        self.start()
    }

    /// Cuts the power and opens it again. What was not synced stays or goes as `chance` says.
    pub fn cut_power(&mut self, chance: u64) -> Result<(), String> {
        let mut random = StdRng::seed_from_u64(chance);
        self.disk.cut_power(&self.database(), || random.random_bool(0.5));
        self.store = None;
        self.lose();
        self.start()
    }

    /// From here on the disk fails.
    pub fn fail_at(&self, at: Moment) {
        self.disk.set(match at {
            Moment::Write(writes) => Health::FullAfter(writes),
            Moment::Sync(syncs) => Health::NoSyncAfter(syncs),
        });
    }

    /// For the mutant that will lose what comes next.
    pub fn remember(&self) {
        if self.mutant == Some(FORGETS) {
            std::fs::copy(self.database(), self.older()).expect("copied");
        }
    }

    fn lose(&self) {
        if self.mutant == Some(FORGETS) && self.older().exists() {
            std::fs::copy(self.older(), self.database()).expect("copied");
        }
    }

    fn start(&mut self) -> Result<(), String> {
        self.disk.set(Health::Well);
        let options = Options { backend: self.disk.source(), ..Options::default() };
        let key = MasterKey::from_bytes([7; 32]);
        let embedded = Embedded::open(&self.dir.path().join("data"), key, &options)
            .map_err(|error| format!("the store does not open: {error}"))?;
        self.store = Some(Store { embedded, mutant: self.mutant });
        Ok(())
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("data").join("keybaton.redb")
    }

    fn older(&self) -> PathBuf {
        self.dir.path().join("older.redb")
    }
}
