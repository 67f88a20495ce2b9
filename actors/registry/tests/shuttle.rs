//! Many schedules, drawn at random, of more threads than loom can take, on the real registry.
//!
//! Run with `RUSTFLAGS="--cfg shuttle" cargo test -p keybaton-registry --release --test shuttle`.
//! Half of the schedules are drawn evenly, half with few changes of priority (PCT), which finds
//! what needs one thread to be held up for long. Seeds are fixed; a failure prints its schedule.
//! Shuttle knows one memory order alone; for the others there is loom.
#![cfg(shuttle)]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keybaton_registry::{Lease, Pair, Refusal, SLOTS_MAX};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

/// Schedules of one test, half of each kind, when the environment does not say.
const SCHEDULES: usize = 4_000;

/// Preemptions that PCT places.
const DEPTH: usize = 4;

#[test]
fn a_closed_version_is_never_held_again() {
    explore(|| {
        let (pair, told) = (open_pair(), Count::new());
        let holders = threads(6, |name| {
            let (member, told) = (pair.join(name), told.clone());
            move || {
                for _ in 0..2 {
                    if let Ok(_lease) = member.acquire() {
                        thread::yield_now();
                        assert_eq!(told.get(), 0, "the notice came while a lease was held");
                    }
                }
            }
        });
        let late = pair.join(9);
        assert!(pair.close(1, told.adder()));
        assert!(matches!(late.acquire(), Err(Refusal::NotOpen { .. })));
        holders.into_iter().for_each(join);
        assert_eq!((told.get(), pair.count(1)), (1, 0));
    });
}

#[test]
fn an_acquire_during_a_switch_always_gets_a_lease() {
    explore(|| {
        let (pair, told) = (open_pair(), Count::new());
        let holders = threads(5, |name| {
            let member = pair.join(name);
            move || {
                let lease = member.acquire().expect("one of both versions is open at any time");
                assert!([1, 2].contains(&lease.version()));
                assert_eq!(u64::from(lease.version()), lease.generation());
            }
        });
        pair.publish(2).expect("there is room");
        pair.close(1, told.adder());
        holders.into_iter().for_each(join);
        assert_eq!(told.get(), 1);
    });
}

#[test]
fn the_notice_waits_for_the_whole_walk() {
    explore(|| {
        let (pair, told, held) = (open_pair(), Count::new(), Count::new());
        held.add(4);
        // Each on a stripe of its own.
        let holders = threads(4, |name| {
            let (lease, held) = (hold(&pair, name), held.clone());
            move || {
                thread::yield_now();
                held.add(-1);
                drop(lease);
            }
        });
        let tell = told.adder();
        pair.close(1, move || {
            assert_eq!(held.get(), 0, "the notice came while a lease was held");
            tell();
        });
        holders.into_iter().for_each(join);
        assert_eq!(told.get(), 1);
    });
}

#[test]
fn leases_may_be_dropped_on_other_threads() {
    explore(|| {
        let (pair, told) = (open_pair(), Count::new());
        let here = hold(&pair, 0);
        let others = threads(5, |name| {
            let lease = hold(&pair, name + 1);
            move || drop(lease)
        });
        pair.close(1, told.adder());
        others.into_iter().for_each(join);
        assert_eq!(told.get(), 0, "the notice came while a lease was held");
        drop(here);
        assert_eq!(told.get(), 1);
    });
}

#[test]
fn one_of_two_leases_of_a_task_keeps_the_version() {
    explore(|| {
        let (pair, told) = (open_pair(), Count::new());
        let holders = threads(4, |name| {
            let (member, told) = (pair.join(name), told.clone());
            move || {
                let (first, second) = (member.acquire(), member.acquire());
                drop(first);
                thread::yield_now();
                if second.is_ok() {
                    assert_eq!(told.get(), 0, "the notice came while a lease was held");
                }
            }
        });
        pair.close(1, told.adder());
        holders.into_iter().for_each(join);
        assert_eq!(told.get(), 1);
    });
}

#[test]
fn a_late_notifier_does_not_run_the_next_slots_notice() {
    explore(|| {
        let (pair, first, second) = (open_pair(), Count::new(), Count::new());
        let leases = [1, 2, 3].map(|name| hold(&pair, name));
        // All places are taken, so that the next slot has to use the place of version 1 again.
        let versions = 2..=u32::try_from(SLOTS_MAX).expect("a few");
        for version in versions {
            pair.publish(version).expect("there is room");
        }
        pair.close(1, first.adder());
        let leaving = leases.map(|lease| thread::spawn(move || drop(lease)));
        let next = (0..20).find_map(|_| {
            thread::yield_now();
            pair.publish(99).ok()
        });
        if next.is_some() {
            let lease = hold(&pair, 4);
            assert_eq!(lease.version(), 99);
            pair.close(99, second.adder());
            leaving.into_iter().for_each(join);
            assert_eq!(second.get(), 0, "the notice came while a lease was held");
            drop(lease);
            assert_eq!(second.get(), 1);
        } else {
            leaving.into_iter().for_each(join);
        }
        assert_eq!(first.get(), 1);
    });
}

#[test]
fn three_rotations_under_holders_that_come_and_go_and_newcomers() {
    explore(|| {
        const VERSIONS: u32 = 3;
        let pair = open_pair();
        // Which versions were closed when an acquire began, and who holds what.
        let closed = Count::new();
        let held: [Count; 5] = std::array::from_fn(|_| Count::new());
        let told: [Count; 5] = std::array::from_fn(|_| Count::new());
        let holders = threads(6, |name| {
            let (pair, closed, held, told) =
                (Arc::clone(&pair), closed.clone(), held.clone(), told.clone());
            move || {
                let member = pair.join(name);
                for _ in 0..3 {
                    let closed_before = closed.get();
                    let Ok(lease) = member.acquire_owned() else { continue };
                    let version = usize::try_from(lease.version()).expect("a small number");
                    assert!(version > closed_before, "a closed version is held");
                    held[version].add(1);
                    thread::yield_now();
                    assert_eq!(told[version].get(), 0, "the notice came while a lease was held");
                    held[version].add(-1);
                    drop(lease);
                }
            }
        });
        for version in 1..=VERSIONS {
            pair.publish(version + 1).expect("there is room");
            let at = usize::try_from(version).expect("a small number");
            let (held, adder) = (held[at].clone(), told[at].adder());
            pair.close(version, move || {
                assert_eq!(held.get(), 0, "the notice came while a lease was held");
                adder();
            });
            closed.add(1);
        }
        holders.into_iter().for_each(join);
        let ended: Vec<_> = told.iter().map(Count::get).collect();
        assert_eq!(ended, [0, 1, 1, 1, 0], "each notice runs once");
        (1..=VERSIONS).for_each(|version| assert_eq!(pair.count(version), 0));
    });
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    const SEED: u64 = 20_261_120;
    let asked = std::env::var("KEYBATON_SHUTTLE_SCHEDULES").ok();
    let schedules = asked.map_or(SCHEDULES, |text| text.parse().expect("a number of schedules"));
    let half = schedules.div_ceil(2);
    let test = Arc::new(test);
    let config = || {
        let mut config = shuttle::Config::new();
        config.silence_warnings = true;
        config
    };
    let random = Arc::clone(&test);
    let evenly = RandomScheduler::new_from_seed(SEED, half);
    shuttle::Runner::new(evenly, config()).run(move || random());
    let few = PctScheduler::new_from_seed(SEED, DEPTH, half);
    shuttle::Runner::new(few, config()).run(move || test());
    // For `cargo xtask loom`, which sums them up.
    let line = format!("explored {} interleavings\n", 2 * half);
    std::io::stdout().write_all(line.as_bytes()).expect("somebody listens");
}

fn threads<W: FnOnce() + Send + 'static>(
    count: u8,
    work: impl Fn(u8) -> W,
) -> Vec<thread::JoinHandle<()>> {
    (0..count).map(|name| thread::spawn(work(name))).collect()
}

fn open_pair() -> Arc<Pair<u8>> {
    let pair = Arc::new(Pair::new());
    pair.publish(1).expect("there is room");
    pair
}

fn hold(pair: &Arc<Pair<u8>>, name: u8) -> Lease<u8> {
    pair.join(name).acquire_owned().expect("a version is open")
}

fn join(thread: thread::JoinHandle<()>) {
    thread.join().expect("thread ends well");
}

/// Counts. An ordinary atomic: what watches must not add places to switch at.
#[derive(Clone)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn adder(&self) -> impl Fn() + Send + 'static {
        let count = self.clone();
        move || count.add(1)
    }

    fn add(&self, by: isize) {
        self.0.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
