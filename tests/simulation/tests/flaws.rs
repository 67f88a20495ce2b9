//! Each flaw of the world must be noticed within the seeds of an ordinary run.

use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_evidence::Mutant;
use keybaton_simulation::{Flaw, Mode, run};
use parking_lot::Mutex;

/// A flaw that is not noticed within so many seeds is not noticed.
const SEEDS_MAX: u64 = 400;

/// Looks for a seed in which a promise breaks that is one of `promises`.
pub fn refute(mode: Mode, flaw: Flaw, promises: &[&str]) -> Mutant {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS_MAX || found.lock().is_some() {
                return;
            }
            let violation = run(seed, mode, Some(flaw)).violation.unwrap_or_default();
            let is_it = |promise: &&str| violation.starts_with(&format!("{promise}:"));
            if promises.iter().any(is_it) {
                found.lock().get_or_insert((seed, violation));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let found = found.into_inner();
    Mutant {
        name: flaw.words().to_owned(),
        refuted: found.is_some(),
        how: found.map_or_else(String::new, |(seed, what)| format!("seed {seed}: {what}")),
    }
}
