//! Runs candidates against each other: in turns, several rounds, medians of the ratios.
//!
//! A machine has moods. Two candidates of one round share the mood, so their ratio is compared
//! round by round. A slice in which somebody else took a core away is run again: threads that
//! did not meet say nothing about contention.
//!
//! **Invariant:** the threads of a slice start together and each works until its time is over.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Cycles in one call of a worker: enough to make the call and the look at the clock cheap.
pub const BATCH: usize = 256;

/// Slice of threads that have a core each: shorter than what a scheduler grants at once, so that
/// it can pass undisturbed on a busy machine too.
const SLICE_ALONE: Duration = Duration::from_millis(2);

/// Slice of more threads than cores: some turns of the scheduler, so that all of them meet.
const SLICE_CROWDED: Duration = Duration::from_millis(30);

/// Rounds: odd, so that the median was really measured.
pub const ROUNDS: usize = 21;

/// How often a disturbed slice is run again. After that it counts as it is, and is told.
const RETRIES_MAX: usize = 300;

/// Share of its core's time that every thread of an undisturbed slice gets.
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

/// One slice of some threads.
struct Slice {
    cost: Cost,
    /// Share of its core's time that the least lucky thread got; of all cores, if crowded.
    share: f64,
}

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
        found.next().map(|(_, costs)| costs.as_slice()).expect("the candidate takes part")
    }
}

/// Lets the candidates work with this many threads, in turns.
#[must_use]
pub fn race(threads: usize, candidates: &[Candidate<'_>]) -> Results {
    let mut results: Vec<_> =
        candidates.iter().map(|candidate| (candidate.name, Vec::with_capacity(ROUNDS))).collect();
    let mut disturbed = 0;
    // The first round fills caches, tables and branch predictors, and is thrown away.
    for round in 0..=ROUNDS {
        for (candidate, (_, costs)) in candidates.iter().zip(&mut results) {
            let slice = undisturbed(threads, candidate);
            if round > 0 {
                disturbed += usize::from(slice.share < UNDISTURBED);
                costs.push(slice.cost);
            }
        }
    }
    tell_disturbed(disturbed, ROUNDS * candidates.len());
    Results(results)
}

/// One long slice of one candidate, disturbed or not.
#[must_use]
pub fn slice(threads: usize, candidate: &Candidate<'_>) -> Cost {
    run(threads, candidate, SLICE_CROWDED).cost
}

/// The median of some measurements.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn undisturbed(threads: usize, candidate: &Candidate<'_>) -> Slice {
    let is_crowded = threads > cores();
    let length = if is_crowded { SLICE_CROWDED } else { SLICE_ALONE };
    let mut best = run(threads, candidate, length);
    // A crowded slice always shares its cores with itself; it is long instead.
    for _ in 0..if is_crowded { 2 } else { RETRIES_MAX } {
        if best.share >= UNDISTURBED {
            break;
        }
        let next = run(threads, candidate, length);
        if next.share > best.share {
            best = next;
        }
    }
    best
}

fn run(threads: usize, candidate: &Candidate<'_>, length: Duration) -> Slice {
    let is_crowded = threads > cores();
    let ready = AtomicUsize::new(0);
    let workers: Vec<_> = (0..threads).map(|index| (candidate.worker)(index)).collect();
    let shifts: Vec<_> = thread::scope(|scope| {
        let start = || {
            ready.fetch_add(1, Ordering::Relaxed);
            while ready.load(Ordering::Relaxed) < threads {
                if is_crowded { thread::yield_now() } else { std::hint::spin_loop() }
            }
        };
        let running: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(move || work(worker, start, length)))
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a worker ends well")).collect()
    });
    let core: f64 = shifts.iter().map(|shift| shift.core).sum();
    let cycles: f64 = shifts.iter().map(|shift| shift.cycles).sum();
    // From the first begin to the last end: threads that worked one after the other show.
    let begin = shifts.iter().map(|shift| shift.begin).min().expect("there are threads");
    let end = shifts.iter().map(|shift| shift.end).max().expect("there are threads");
    let wall = (end - begin).as_secs_f64() * 1e9;
    let share = if is_crowded {
        core / (wall * cores() as f64)
    } else {
        shifts.iter().map(|shift| shift.core / wall).fold(1.0, f64::min)
    };
    Slice { cost: Cost { core_ns: core / cycles, wall_ns: wall / cycles }, share }
}

/// What one thread did, and when: nanoseconds on a core, and cycles.
struct Shift {
    begin: Instant,
    end: Instant,
    core: f64,
    cycles: f64,
}

fn work(mut worker: Worker<'_>, start: impl Fn(), length: Duration) -> Shift {
    let mut batches = 0_u32;
    start();
    let (begin, core) = (Instant::now(), core_ns());
    while begin.elapsed() < length {
        worker();
        batches += 1;
    }
    let (core, end) = (core_ns() - core, Instant::now());
    let cycles = f64::from(batches) * BATCH as f64;
    Shift { begin, end, core, cycles }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn core_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn tell_disturbed(disturbed: usize, slices: usize) {
    if disturbed > 0 {
        let mut out = std::io::stderr();
        // Nobody reads it when standard error is gone.
        writeln!(out, "  {disturbed} of {slices} slices were disturbed by others").unwrap_or(());
    }
}
