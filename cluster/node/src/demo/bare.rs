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
    // A process that was killed here has left a file that may be half made.
    remove(&path)?;
    let times = measure(&path, bytes);
    remove(&path)?;
    let mut times = times?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_measurement_left_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("bare-commit-probe.redb"), [0; 4096]).expect("written");
        commit_median(dir.path(), 64).expect("measured");
        assert!(std::fs::read_dir(dir.path()).expect("read").next().is_none(), "nothing is left");
    }
}
