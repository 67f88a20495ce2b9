//! What one durable write costs on this disk: the unit in which pauses are stated.

use std::path::Path;
use std::time::{Duration, Instant};

use redb::{Database, Durability, TableDefinition};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bare");
const COMMITS: u64 = 64;

/// Median of bare commits of `bytes` bytes, made as the journal makes them.
///
/// # Errors
/// When the probe file cannot be written.
pub fn commit_median(dir: &Path, bytes: usize) -> anyhow::Result<Duration> {
    let path = dir.join("bare-commit-probe.redb");
    let times = measure(&path, bytes);
    std::fs::remove_file(&path)?;
    let mut times = times?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn measure(path: &Path, bytes: usize) -> anyhow::Result<Vec<Duration>> {
    let database = Database::create(path)?;
    let value = vec![0x5a; bytes];
    let mut times = Vec::new();
    for key in 0..COMMITS {
        let begun = Instant::now();
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        transaction.open_table(TABLE)?.insert(key, value.as_slice())?;
        transaction.commit()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
