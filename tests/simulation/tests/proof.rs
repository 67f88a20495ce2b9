//! Many seeds on all cores, until the time is up or one of them fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keybaton_simulation::{Mode, Outcome, run, run_traced, seeds};
use parking_lot::Mutex;

/// What many seeds came to.
#[derive(Default)]
pub struct Tally {
    /// Seeds that were run to their end.
    pub seeds: u64,
    pub events: u64,
    pub lives: u64,
    pub virtual_time: Duration,
    pub real_time: Duration,
    /// The first seed that failed, and how.
    pub failed: Option<(u64, String)>,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.lives += u64::from(outcome.lives);
        self.virtual_time += outcome.virtual_time;
    }

    /// Speed, for the report.
    pub fn speed(&self) -> String {
        let real = self.real_time.as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let (seeds, events, lives) = (self.seeds as f64, self.events as f64, self.lives as f64);
        format!(
            "{:.1} seeds a second, {:.0} events and {:.1} lives of the node in each, {:.0} virtual \
             seconds in one real second",
            seeds / real,
            events / seeds.max(1.0),
            lives / seeds.max(1.0),
            self.virtual_time.as_secs_f64() / real,
        )
    }
}

/// Runs the seeds that failed once, then as many more as there is time for.
pub fn run_seeds(mode: Mode, time: Duration) -> Tally {
    let known = seeds::known(mode);
    let count = known.len() as u64;
    run_while(mode, time, |number| {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        known.get(place).copied().unwrap_or_else(|| number - count)
    })
}

fn run_while(mode: Mode, time: Duration, seed_of: impl Fn(u64) -> u64 + Sync) -> Tally {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let known = seeds::known(mode).len() as u64;
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_up = begun.elapsed() >= time && number >= known;
            if is_up || tally.lock().failed.is_some() {
                return;
            }
            let seed = seed_of(number);
            let outcome = run(seed, mode, None);
            let mut tally = tally.lock();
            tally.add(&outcome);
            if let Some(violation) = outcome.violation {
                tally.failed.get_or_insert((seed, violation));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let mut tally = tally.into_inner();
    tally.real_time = begun.elapsed();
    tally
}

/// The seed that was asked for, with its story where it fails.
pub fn run_asked(mode: Mode, seed: u64) {
    let outcome = run_traced(seed, mode, None);
    if let Some(violation) = &outcome.violation {
        panic!("{}\n{}", outcome.story(), told(mode, seed, violation));
    }
}

/// A failure, and how to see it again.
pub fn told(mode: Mode, seed: u64, violation: &str) -> String {
    format!("seed {seed}: {violation}\nreplay: {}", seeds::command(mode, seed))
}
