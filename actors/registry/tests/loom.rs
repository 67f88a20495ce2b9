//! Every interleaving, up to three preemptions, of a few threads on the real registry.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p keybaton-registry --release --test loom`.
//! `mutants.txt` lists the wrong variants and the test that has to refute each of them. One
//! preemption misses real bugs, two find all of these; the third costs seconds.
#![cfg(loom)]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use keybaton_registry::{Lease, Member, Pair, Refusal};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

#[test]
fn a_closed_version_is_never_held_again() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let holders = [1, 2].map(|name| {
            let (member, told) = (pair.join(name), told.clone());
            thread::spawn(move || {
                if let Ok(_lease) = member.acquire() {
                    assert_eq!(told.count(), 0, "the notice came while a lease was held");
                }
            })
        });
        let late = pair.join(3);
        assert!(pair.close(1, told.setter()));
        assert!(matches!(late.acquire(), Err(Refusal::NotOpen { .. })));
        holders.into_iter().for_each(join);
        assert_eq!(told.count(), 1);
        assert_eq!(pair.count(1), 0);
    });
}

#[test]
fn an_acquire_during_a_switch_always_gets_a_lease() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let member = pair.join(1);
        let holder = thread::spawn(move || {
            let lease = member.acquire().expect("one of both versions is open at any time");
            assert!([1, 2].contains(&lease.version()));
            assert_eq!(u64::from(lease.version()), lease.generation());
        });
        pair.publish(2).expect("there is room");
        pair.close(1, told.setter());
        join(holder);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn the_notice_waits_for_the_whole_walk() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let leases = [1, 2].map(|name| hold(&pair, name));
        let holders = leases.map(|lease| {
            let told = told.clone();
            thread::spawn(move || {
                assert_eq!(told.count(), 0, "the notice came while a lease was held");
                drop(lease);
            })
        });
        pair.close(1, told.setter());
        holders.into_iter().for_each(join);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn what_holders_did_happens_before_the_notice() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let used = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let holders = [0, 1].map(|index| {
            let (lease, used) = (hold(&pair, index), Arc::clone(&used));
            thread::spawn(move || {
                used[usize::from(index)].store(true, Ordering::Relaxed);
                drop(lease);
            })
        });
        let tell = told.setter();
        pair.close(1, move || {
            // Relaxed: nothing but the releases may order these reads after the writes.
            assert!(used.iter().all(|used| used.load(Ordering::Relaxed)), "a use came later");
            tell();
        });
        holders.into_iter().for_each(join);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn a_lease_may_be_dropped_on_another_thread() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let (here, there) = (hold(&pair, 1), hold(&pair, 2));
        let other = thread::spawn(move || drop(there));
        pair.close(1, told.setter());
        join(other);
        assert_eq!(told.count(), 0, "the notice came while a lease was held");
        drop(here);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn one_of_two_leases_of_a_task_keeps_the_version() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let (member, seen) = (pair.join(1), told.clone());
        let holder = thread::spawn(move || {
            let first = member.acquire();
            let second = member.acquire();
            drop(first);
            if second.is_ok() {
                assert_eq!(seen.count(), 0, "the notice came while a lease was held");
            }
        });
        pair.close(1, told.setter());
        join(holder);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn a_late_notifier_does_not_run_the_next_slots_notice() {
    explore(|| {
        let (pair, first, second) = (open_pair(), Flag::new(), Flag::new());
        let lease = hold(&pair, 1);
        // All places are taken, so that the next slot has to use the place of version 1 again.
        for version in 2..=u32::try_from(keybaton_registry::SLOTS_MAX).expect("a few") {
            pair.publish(version).expect("there is room");
        }
        pair.close(1, first.setter());
        let leaving = thread::spawn(move || drop(lease));
        if pair.publish(9).is_ok() {
            let lease = hold(&pair, 2);
            assert_eq!(lease.version(), 9);
            pair.close(9, second.setter());
            join(leaving);
            assert_eq!(second.count(), 0, "the notice came while a lease was held");
            drop(lease);
            assert_eq!(second.count(), 1);
        } else {
            join(leaving);
        }
        assert_eq!(first.count(), 1);
    });
}

#[test]
fn closing_again_hands_the_notice_to_the_newest_closer() {
    explore(|| {
        let (pair, first, second) = (open_pair(), Flag::new(), Flag::new());
        let lease = hold(&pair, 1);
        assert!(pair.close(1, first.setter()));
        let leaving = thread::spawn(move || drop(lease));
        assert!(!pair.close(1, second.setter()));
        join(leaving);
        assert_eq!(second.count(), 1);
        assert!(first.count() <= 1);
    });
}

#[test]
fn a_newcomer_during_a_switch_gets_a_lease_and_is_waited_for() {
    explore(|| {
        let (pair, told) = (open_pair(), Flag::new());
        let (newcomers, seen) = (Arc::clone(&pair), told.clone());
        let newcomer = thread::spawn(move || {
            let lease = hold(&newcomers, 1);
            if lease.version() == 1 {
                assert_eq!(seen.count(), 0, "the notice came while a lease was held");
            }
        });
        pair.publish(2).expect("there is room");
        pair.close(1, told.setter());
        join(newcomer);
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn a_waiter_that_was_refused_sees_the_turn_of_the_next_slot() {
    explore(|| {
        let pair = Arc::new(Pair::<u8>::new());
        let (member, waited) = (pair.join(1), Arc::clone(&pair));
        let waiter = thread::spawn(move || {
            if let Err(refusal) = member.acquire() {
                let Refusal::NotOpen { turn } = refusal else { panic!("{refusal}") };
                while waited.turn() == turn {
                    thread::yield_now();
                }
                assert!(member.acquire().is_ok(), "the turn came before the slot was open");
            }
        });
        pair.publish(1).expect("there is room");
        join(waiter);
    });
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        test();
    });
    // For `cargo xtask loom`, which sums them up.
    let line = format!("explored {} interleavings\n", runs.load(Ordering::Relaxed));
    std::io::stdout().write_all(line.as_bytes()).expect("somebody listens");
}

fn open_pair() -> Arc<Pair<u8>> {
    let pair = Arc::new(Pair::new());
    pair.publish(1).expect("there is room");
    pair
}

fn hold(pair: &Arc<Pair<u8>>, name: u8) -> Lease<u8> {
    let member: Member<u8> = pair.join(name);
    member.acquire_owned().expect("a version is open")
}

fn join(thread: thread::JoinHandle<()>) {
    thread.join().expect("thread ends well");
}

/// Counts how often a notice ran.
#[derive(Clone)]
struct Flag(Arc<AtomicUsize>);

impl Flag {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn setter(&self) -> impl Fn() + Send + 'static {
        let flag = Arc::clone(&self.0);
        move || {
            flag.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
