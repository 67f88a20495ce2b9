//! redb without anything around it, with the same durability as the journal.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use redb::{Database, Durability, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bare");

/// Page cache, as large as the store's.
const CACHE_BYTES: usize = keybaton_adapters::limits::PAGE_CACHE_BYTES_MAX;

/// One bare database that only grows at its end.
pub struct Bare {
    database: Database,
    next: u64,
}

impl Bare {
    /// Makes one in a directory.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let database =
            redb::Builder::new().set_cache_size(CACHE_BYTES).create(dir.join("bare.redb"))?;
        Ok(Self { database, next: 0 })
    }

    /// Writes so many rows in one durable commit and tells how long that took.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn commit(&mut self, rows: usize, value: &[u8]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(TABLE)?;
            for _ in 0..rows {
                table.insert(self.next, value)?;
                self.next += 1;
            }
        }
        transaction.commit()?;
        Ok(begun.elapsed())
    }

    /// How long so many commits of one row each take, in microseconds.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn lone(&mut self, commits: usize, value: &[u8]) -> anyhow::Result<Histogram<u64>> {
        let mut times = Histogram::new(3)?;
        for _ in 0..commits {
            times.record(u64::try_from(self.commit(1, value)?.as_micros())?)?;
        }
        Ok(times)
    }
}
