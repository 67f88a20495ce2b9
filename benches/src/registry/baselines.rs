//! The candidates: our registry, and what it is compared with.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use keybaton_registry::Pair;
use rustc_hash::FxBuildHasher;

use crate::race::{BATCH, Candidate};

/// The version that all candidates hand out.
pub const VERSION: u32 = 1;

/// Threads that a candidate has room for.
const THREADS_MAX: usize = 64;

/// A counter on lines of its own: two, because processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
pub struct Line(AtomicU64);

impl Line {
    /// What acquire and release cost at the least: two atomics.
    #[inline]
    pub fn cycle(&self) {
        black_box(self.0.fetch_add(1, Ordering::Acquire));
        black_box(self.0.fetch_sub(1, Ordering::Release));
    }
}

/// A map from lease to task with a closed flag: exact, if slow to ask.
pub struct TunedMap {
    closed: AtomicBool,
    leases: DashMap<u64, u64, FxBuildHasher>,
}

impl TunedMap {
    /// A map with this many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let leases = DashMap::with_hasher_and_shard_amount(FxBuildHasher, shards);
        Self { closed: AtomicBool::new(false), leases }
    }

    /// Registers a lease, unless closed.
    #[inline]
    pub fn acquire(&self, lease: u64, task: u64) -> bool {
        self.leases.insert(lease, task);
        // After the insertion, so that a closer that sees no lease has closed before this look.
        if self.closed.load(Ordering::SeqCst) {
            self.release(lease);
            return false;
        }
        true
    }

    /// Takes a lease out. True if it was the last one of a closed map.
    #[inline]
    pub fn release(&self, lease: u64) -> bool {
        self.leases.remove(&lease);
        self.closed.load(Ordering::SeqCst) && self.leases.is_empty()
    }

    /// No lease is given any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// A thread's lease numbers: all different, as the leases are.
pub fn lease_numbers(thread: usize) -> impl Iterator<Item = u64> + Send {
    let first = (thread as u64 + 1) << 40;
    first..
}

/// A pair with one open slot.
#[must_use]
pub fn open_pair() -> Arc<Pair<u64>> {
    let pair = Arc::new(Pair::new());
    pair.publish(VERSION).expect("a new pair has room");
    pair
}

/// Our registry, leases borrowed from the member.
#[must_use]
pub fn registry(pair: &Arc<Pair<u64>>) -> Candidate<'static> {
    let pair = Arc::clone(pair);
    candidate("registry", move |thread| {
        let member = pair.join(thread as u64);
        Box::new(move || {
            for _ in 0..BATCH {
                drop(member.acquire().expect("the slot is open"));
            }
        })
    })
}

/// Our registry, leases that can be moved anywhere.
#[must_use]
pub fn registry_owned(pair: &Arc<Pair<u64>>) -> Candidate<'static> {
    let pair = Arc::clone(pair);
    candidate("registry_owned", move |thread| {
        let member = pair.join(thread as u64);
        Box::new(move || {
            for _ in 0..BATCH {
                drop(member.acquire_owned().expect("the slot is open"));
            }
        })
    })
}

/// The limit.
#[must_use]
pub fn own_line() -> Candidate<'static> {
    lines("own_line", |thread| thread)
}

/// One counter for everybody.
#[must_use]
pub fn shared_line() -> Candidate<'static> {
    lines("shared_line", |_| 0)
}

/// The map that one would write with care.
#[must_use]
pub fn dashmap_tuned(map: &Arc<TunedMap>) -> Candidate<'static> {
    let map = Arc::clone(map);
    candidate("dashmap_tuned", move |thread| {
        let (map, mut leases) = (Arc::clone(&map), lease_numbers(thread));
        Box::new(move || {
            for lease in leases.by_ref().take(BATCH) {
                black_box(map.acquire(lease, thread as u64));
                black_box(map.release(lease));
            }
        })
    })
}

/// The same by task, with a count: a thread that runs one task stays in one shard.
#[must_use]
pub fn dashmap_by_task(shards: usize) -> Candidate<'static> {
    let map = DashMap::<u64, u64, _>::with_hasher_and_shard_amount(FxBuildHasher, shards);
    let map = Arc::new(map);
    candidate("dashmap_by_task", move |thread| {
        let (map, task) = (Arc::clone(&map), thread as u64);
        Box::new(move || {
            for _ in 0..BATCH {
                *map.entry(task).or_insert(0) += 1;
                map.remove_if_mut(&task, |_, leases| {
                    *leases -= 1;
                    *leases == 0
                });
            }
        })
    })
}

/// The map that one would write first.
#[must_use]
pub fn dashmap_naive() -> Candidate<'static> {
    let map = Arc::new(DashMap::<(u64, u32), HashSet<u64>>::new());
    candidate("dashmap_naive", move |thread| {
        let (map, mut leases) = (Arc::clone(&map), lease_numbers(thread));
        Box::new(move || {
            for lease in leases.by_ref().take(BATCH) {
                map.entry((7, VERSION)).or_default().insert(lease);
                if let Some(mut holders) = map.get_mut(&(7, VERSION)) {
                    black_box(holders.remove(&lease));
                }
            }
        })
    })
}

fn lines(name: &'static str, line: fn(usize) -> usize) -> Candidate<'static> {
    let lines: Arc<[Line]> = (0..THREADS_MAX).map(|_| Line::default()).collect();
    candidate(name, move |thread| {
        let lines = Arc::clone(&lines);
        Box::new(move || {
            let line = &lines[line(thread)];
            (0..BATCH).for_each(|_| line.cycle());
        })
    })
}

fn candidate<'a>(
    name: &'static str,
    worker: impl Fn(usize) -> crate::race::Worker<'a> + 'a,
) -> Candidate<'a> {
    Candidate { name, worker: Box::new(worker) }
}
