//! What the registry promises its callers, with ordinary threads.
#![cfg(not(any(loom, shuttle)))]

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use keybaton_registry::{
    Holder, LEASES_PER_MEMBER_MAX, Pair, PublishRefusal, Refusal, Registry, SLOTS_MAX, SlotState,
};

#[test]
fn nobody_holds_a_version_after_its_notice() {
    const VERSIONS: u32 = 400;
    let pair = open_pair();
    let dead: Arc<Vec<AtomicUsize>> = Arc::new((0..=VERSIONS).map(|_| 0.into()).collect());
    let is_over = Arc::new(AtomicBool::new(false));
    let holders: Vec<_> = (0..4)
        .map(|name| {
            let (member, dead, is_over) =
                (pair.join(name), Arc::clone(&dead), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let lease = member.acquire_owned().expect("one slot is open at any time");
                    let version = lease.version() as usize;
                    assert_eq!(
                        dead[version].load(Ordering::Relaxed),
                        0,
                        "v{version} was held dead"
                    );
                }
            })
        })
        .collect();
    for version in 2..=VERSIONS {
        publish_when_there_is_room(&pair, version);
        let dead = Arc::clone(&dead);
        let old = version - 1;
        assert!(pair.close(old, move || {
            dead[old as usize].fetch_add(1, Ordering::Relaxed);
        }));
    }
    is_over.store(true, Ordering::Relaxed);
    holders.into_iter().for_each(|holder| holder.join().expect("holder ends well"));
    let told: Vec<_> = dead.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert_eq!(told[0], 0);
    assert!(told[1..VERSIONS as usize].iter().all(|count| *count == 1), "{told:?}");
    assert_eq!(told[VERSIONS as usize], 0, "the last version was never closed");
}

#[test]
fn an_empty_version_is_drained_within_close() {
    let pair = open_pair();
    let drained = close(&pair, 1);
    assert_eq!(drained.try_recv(), Ok(()));
    assert_eq!(pair.current(), None);
    assert_eq!(close(&pair, 7).try_recv(), Ok(()), "nobody holds what was never published");
}

#[test]
fn the_notice_comes_with_the_last_lease_and_once() {
    let pair = open_pair();
    let members: Vec<_> = (0..100).map(|name| pair.join(name)).collect();
    let mut leases: Vec<_> = members.iter().map(|m| m.acquire().expect("open")).collect();
    let drained = close(&pair, 1);
    let last = leases.pop();
    drop(leases);
    assert!(drained.try_recv().is_err());
    assert_eq!(pair.count(1), 1);
    drop(last);
    assert_eq!(drained.try_recv(), Ok(()));
    assert_eq!(drained.try_recv(), Err(mpsc::TryRecvError::Disconnected), "told twice");
}

#[test]
fn a_panicking_holder_releases() {
    let pair = open_pair();
    let member = pair.join(1);
    let (holding, held) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let holder = thread::spawn(move || {
        let _lease = member.acquire().expect("open");
        holding.send(()).expect("test waits");
        may_go.recv().expect_err("the test hangs up");
        panic!("as a task may");
    });
    held.recv().expect("holder holds");
    let drained = close(&pair, 1);
    assert!(drained.try_recv().is_err());
    drop(go);
    assert!(holder.join().is_err());
    assert_eq!(drained.try_recv(), Ok(()));
    assert!(pair.holders(1).is_empty());
}

#[test]
fn a_lease_that_outlives_its_handle_is_dropped_elsewhere() {
    let pair = open_pair();
    let lease = pair.join(1).acquire_owned().expect("open");
    let drained = close(&pair, 1);
    assert_eq!(pair.holders(1), [Holder { name: 1, leases: 1 }]);
    thread::spawn(move || drop(lease)).join().expect("dropping is quiet");
    assert_eq!(drained.try_recv(), Ok(()));
}

#[test]
fn a_task_may_hold_two_versions_and_see_which_one_is_old() {
    let pair = open_pair();
    let task = pair.join(1);
    let tool = task.clone();
    let (old, again) = (task.acquire().expect("open"), tool.acquire_owned().expect("open"));
    assert_eq!(pair.publish(2), Ok(2));
    assert!(!old.is_current());
    let new = task.acquire().expect("open");
    assert_eq!((new.version(), new.generation(), new.is_current()), (2, 2, true));
    assert_eq!((old.version(), again.version()), (1, 1));
    assert_eq!(pair.holders(1), [Holder { name: 1, leases: 2 }]);
    assert_eq!(pair.holders(2), [Holder { name: 1, leases: 1 }]);

    let drained = close(&pair, 1);
    drop(old);
    assert!(drained.try_recv().is_err(), "the tool still holds version 1");
    drop(again);
    assert_eq!(drained.try_recv(), Ok(()));
    assert!(new.is_current());
}

#[test]
fn a_rollback_opens_another_slot_and_the_version_drains_with_both() {
    let pair = open_pair();
    let (early, late) = (pair.join(1), pair.join(2));
    let first = early.acquire().expect("open");
    let early_drain = close(&pair, 1);
    assert_eq!(pair.publish(2), Ok(2));
    assert_eq!(pair.publish(1), Ok(3), "a closed version is never reopened");
    assert_eq!(
        early_drain.try_recv(),
        Err(mpsc::TryRecvError::Disconnected),
        "a version in use again is not reported drained",
    );
    let second = late.acquire().expect("open");
    assert_eq!((second.version(), second.generation()), (1, 3));
    assert!(!first.is_current());

    let drained = close(&pair, 1);
    drop(second);
    assert!(drained.try_recv().is_err(), "the lease from before the rollback is still held");
    drop(first);
    assert_eq!(drained.try_recv(), Ok(()));
}

#[test]
fn publishing_an_open_version_points_back_to_its_slot() {
    let pair = open_pair();
    assert_eq!(pair.publish(2), Ok(2));
    assert_eq!(pair.publish(1), Ok(1));
    assert_eq!(pair.current(), Some((1, 1)));
    assert_eq!(pair.join(1).acquire().expect("open").version(), 1);
}

#[test]
fn closing_a_superseded_version_leaves_the_current_one() {
    let pair = open_pair();
    let member = pair.join(1);
    pair.publish(2).expect("there is room");
    assert_eq!(close(&pair, 1).try_recv(), Ok(()));
    assert_eq!(pair.current(), Some((2, 2)));
    assert_eq!(member.acquire().expect("open").version(), 2);
}

#[test]
fn a_crowded_pair_refuses_a_slot_and_changes_nothing() {
    let pair = open_pair();
    let member = pair.join(1);
    let count = u32::try_from(SLOTS_MAX).expect("a few");
    let leases: Vec<_> = (1..=count)
        .map(|version| {
            pair.publish(version).expect("there is room");
            let lease = member.acquire_owned().expect("open");
            pair.close(version, || ());
            lease
        })
        .collect();
    let before = (pair.slots(), pair.turn());
    assert_eq!(pair.publish(99), Err(PublishRefusal::Crowded));
    assert_eq!((pair.slots(), pair.turn()), before);
    assert!(before.0.iter().all(|slot| slot.state == SlotState::Draining && slot.leases == 1));

    drop(leases);
    assert!(pair.slots().iter().all(|slot| slot.state == SlotState::Drained));
    assert_eq!(pair.publish(99), Ok(u64::from(count) + 1), "drained places are used again");
    assert_eq!(member.acquire().expect("open").version(), 99);
    pair.forget_drained();
    let versions: Vec<_> = pair.slots().iter().map(|slot| slot.version).collect();
    assert_eq!(versions, [99]);
    assert_eq!(pair.publish(100), Ok(u64::from(count) + 2), "forgetting starts no count anew");
}

#[test]
fn a_member_has_a_limit_of_leases_and_leaves_its_neighbours_alone() {
    let pair = open_pair();
    // More than one stripe takes, so that some members are neighbours in a word.
    let members: Vec<_> = (0..200).map(|name| pair.join(name)).collect();
    let hoard: Vec<_> =
        (0..LEASES_PER_MEMBER_MAX).map(|_| members[0].acquire().expect("open")).collect();
    assert_eq!(members[0].acquire().expect_err("at the limit"), Refusal::TooMany);
    assert_eq!(pair.holders(1), [Holder { name: 0, leases: LEASES_PER_MEMBER_MAX }]);
    let all: Vec<_> = members[1..].iter().map(|m| m.acquire().expect("open")).collect();
    assert_eq!(pair.count(1), LEASES_PER_MEMBER_MAX + 199);
    drop(hoard);
    assert!(pair.holders(1).iter().all(|holder| holder.leases == 1 && holder.name != 0));
    drop(all);
    assert_eq!(pair.count(1), 0);
    assert!(members[0].acquire().is_ok());
}

#[test]
fn seats_are_given_again_and_names_go_with_their_members() {
    let pair = open_pair();
    for round in 0..3 {
        let members: Vec<_> = (0..1000).map(|name| pair.join(round * 1000 + name)).collect();
        let (stay, leave): (Vec<_>, Vec<_>) = (0..).zip(members).partition(|(i, _)| i % 3 == 0);
        drop(leave);
        let _leases: Vec<_> = stay.iter().map(|(_, m)| m.acquire_owned().expect("open")).collect();
        let again: Vec<_> = (0..500).map(|name| pair.join(90_000 + name)).collect();
        let mut names: Vec<_> = pair.holders(1).into_iter().map(|holder| holder.name).collect();
        names.sort_unstable();
        let expected: Vec<_> = (0..1000).step_by(3).map(|name| round * 1000 + name).collect();
        assert_eq!(names, expected);
        drop(again);
    }
    assert!(pair.holders(1).is_empty());
}

#[test]
fn a_refused_task_waits_for_the_next_turn() {
    let pair = Arc::new(Pair::new());
    let member = pair.join(1);
    let refusal = member.acquire().expect_err("nothing was published");
    let Refusal::NotOpen { turn } = refusal else { panic!("{refusal}") };
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut changed = pin!(pair.changed(turn));
    assert_eq!(changed.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    pair.publish(1).expect("there is room");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(changed.as_mut().poll(&mut context), Poll::Ready(turn + 1));
    assert!(member.acquire().is_ok());

    let mut late = pin!(pair.changed(turn));
    assert_eq!(late.as_mut().poll(&mut context), Poll::Ready(turn + 1), "a level, not an edge");
}

#[test]
fn closing_again_tells_the_newest_closer() {
    let pair = open_pair();
    let lease = pair.join(1).acquire_owned().expect("open");
    let first = close(&pair, 1);
    let second = close(&pair, 1);
    assert_eq!(first.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert!(second.try_recv().is_err());
    drop(lease);
    assert_eq!(second.try_recv(), Ok(()));
    assert_eq!(close(&pair, 1).try_recv(), Ok(()), "a drained version is drained at once");
}

#[test]
fn the_directory_keeps_pairs_that_are_in_use() {
    let registry = Registry::<&str, u32>::new();
    let pair = registry.pair(&"acme/openai");
    assert!(Arc::ptr_eq(&pair, &registry.pair(&"acme/openai")));
    assert!(registry.get(&"acme/anthropic").is_none());
    assert_eq!(registry.pairs().len(), 1);
    pair.publish(1).expect("there is room");
    let member = pair.join(1);
    assert!(!registry.retire(&"acme/openai"), "a handle is out");
    drop(pair);
    assert!(!registry.retire(&"acme/openai"), "a member sits");
    drop(member);
    assert!(!registry.retire(&"acme/openai"), "a slot is open");
    registry.pair(&"acme/openai").close(1, || ());
    assert!(registry.retire(&"acme/openai"));
    assert!(registry.is_empty());
}

fn open_pair() -> Arc<Pair<u32>> {
    let pair = Arc::new(Pair::new());
    assert_eq!(pair.publish(1), Ok(1));
    pair
}

/// Closes `version`; the notice arrives in the channel.
fn close(pair: &Pair<u32>, version: u32) -> mpsc::Receiver<()> {
    let (told, drained) = mpsc::channel();
    pair.close(version, move || told.send(()).unwrap_or(()));
    drained
}

fn publish_when_there_is_room(pair: &Pair<u32>, version: u32) {
    while pair.publish(version).is_err() {
        thread::yield_now();
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
