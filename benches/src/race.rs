//! Runs candidates against each other: in turns, several rounds, medians of the ratios.
//!
//! A machine has moods. Two candidates of one round share the mood, so their ratio is compared
//! round by round; a round in which somebody else took the cores away is run again.
//!
//! **Invariant:** all threads of a round work during the whole slice.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Cycles in one call of a worker: enough to make the call itself cheap.
pub const BATCH: usize = 256;

/// How long one candidate works in one round. Some time slices of the scheduler, so that more
/// threads than cores meet each other.
pub const SLICE: Duration = Duration::from_millis(20);

/// Rounds: odd, so that the median was really measured.
pub const ROUNDS: usize = 15;

/// How often a disturbed round is run again. After that it counts as it is.
const RETRIES_MAX: usize = 10;

/// Share of the wanted processor time that an undisturbed round gets.
const UNDISTURBED: f64 = 0.9;

/// What one thread does: [`BATCH`] cycles for each call.
pub type Worker<'a> = Box<dyn FnMut() + Send + 'a>;

/// Somebody who takes part in a race.
pub struct Candidate<'a> {
    /// What its figures are called.
    pub name: &'static str,
    /// Makes the worker of the thread with this index.
    pub worker: Box<dyn Fn(usize) -> Worker<'a> + 'a>,
}

/// What one slice cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of one cycle, in nanoseconds.
    pub core_ns: f64,
    /// Time on the clock divided by cycles of all threads, in nanoseconds.
    pub wall_ns: f64,
}

/// The costs of each candidate, round by round.
pub struct Results(Vec<(&'static str, Vec<Cost>)>);

impl Results {
    /// Median core-nanoseconds of a candidate's cycle.
    #[must_use]
    pub fn core_ns(&self, name: &str) -> f64 {
        median(self.of(name).iter().map(|cost| cost.core_ns))
    }

    /// Median over the rounds of `name`'s cost divided by `base`'s.
    #[must_use]
    pub fn ratio(&self, name: &str, base: &str) -> f64 {
        let pairs = self.of(name).iter().zip(self.of(base));
        median(pairs.map(|(cost, base)| cost.core_ns / base.core_ns))
    }

    /// Like [`ratio`](Self::ratio), by the clock on the wall.
    #[must_use]
    pub fn wall_ratio(&self, name: &str, base: &str) -> f64 {
        let pairs = self.of(name).iter().zip(self.of(base));
        median(pairs.map(|(cost, base)| cost.wall_ns / base.wall_ns))
    }

    /// The names of all candidates.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    fn of(&self, name: &str) -> &[Cost] {
        let mut found = self.0.iter().filter(|(candidate, _)| *candidate == name);
        found
            .next()
            .map(|(_, costs)| costs.as_slice())
            .expect("the candidate takes part")
    }
}

/// Lets the candidates work with this many threads, in turns.
#[must_use]
pub fn race(threads: usize, candidates: &[Candidate<'_>]) -> Results {
    let mut results: Vec<_> = candidates
        .iter()
        .map(|candidate| (candidate.name, Vec::with_capacity(ROUNDS)))
        .collect();
    // The first round fills caches, tables and branch predictors, and is thrown away.
    for round in 0..=ROUNDS {
        for (candidate, (_, costs)) in candidates.iter().zip(&mut results) {
            let cost = undisturbed(threads, candidate);
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    Results(results)
}

/// One slice of one candidate.
#[must_use]
pub fn slice(threads: usize, candidate: &Candidate<'_>) -> Cost {
    run(threads, candidate).0
}

/// The median of some measurements.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn undisturbed(threads: usize, candidate: &Candidate<'_>) -> Cost {
    let mut last = run(threads, candidate);
    for _ in 0..RETRIES_MAX {
        if last.1 >= UNDISTURBED {
            break;
        }
        last = run(threads, candidate);
    }
    last.0
}

/// Returns the cost, and the share of the cores' time that the threads got.
fn run(threads: usize, candidate: &Candidate<'_>) -> (Cost, f64) {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let workers: Vec<_> = (0..threads)
        .map(|index| (candidate.worker)(index))
        .collect();
    let (wall, spent) = thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(|| work(worker, &start, &stop)))
            .collect();
        start.wait();
        let begin = Instant::now();
        thread::sleep(SLICE);
        stop.store(true, Ordering::Relaxed);
        let spent: Vec<_> = running
            .into_iter()
            .map(|thread| thread.join().expect("a worker ends well"))
            .collect();
        (begin.elapsed(), spent)
    });
    let (core, cycles) = spent
        .iter()
        .fold((0.0, 0.0), |(core, cycles), (c, n)| (core + c, cycles + n));
    let cores = thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(threads);
    let wall_ns = wall.as_secs_f64() * 1e9;
    let cost = Cost {
        core_ns: core / cycles,
        wall_ns: wall_ns / cycles,
    };
    (cost, core / (wall_ns * cores as f64))
}

/// Returns processor time in nanoseconds, and cycles.
fn work(mut worker: Worker<'_>, start: &Barrier, stop: &AtomicBool) -> (f64, f64) {
    let mut batches = 0_u32;
    start.wait();
    let begin = core_ns();
    while !stop.load(Ordering::Relaxed) {
        worker();
        batches += 1;
    }
    (core_ns() - begin, f64::from(batches) * BATCH as f64)
}

fn core_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
