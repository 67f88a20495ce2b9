//! What makes a rotation begin, and what makes many triggers one rotation.

use std::collections::BTreeSet;
use std::time::Duration;

use keybaton::messages::Version;
use keybaton::{Policy, Reply};
use keybaton_rotation::{Reason, Want};
use keybaton_tests::harness::{Cue, Deed, PROVIDER, Place, Role, Setup, World, policy, soon};

fn wanted() -> Want {
    Want::Rotate { target: None, reason: Reason::Requested("a test".into()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_trigger_id_names_the_same_rotation_for_ever() {
    let mut world = World::open().await;
    world.provision("acme").await;
    let pair = world.pair("acme");
    let first = world.node().trigger(&pair, "ticket-17", wanted()).await;
    let Reply::Rotation(first) = first.expect("accepted") else {
        panic!("a rotation was asked for");
    };
    world.complete(&first).await;

    // Delivered again after the end, and again to the next process.
    let again = world.node().trigger(&pair, "ticket-17", wanted()).await;
    assert_eq!(again.expect("answered"), Reply::Rotation(first.clone()));
    world.crash().await;
    world.start().await;
    let again = world.node().trigger(&pair, "ticket-17", wanted()).await;
    assert_eq!(again.expect("answered"), Reply::Rotation(first));

    let view = world.node().watch(&pair).borrow().clone();
    let active = view.record.as_ref().and_then(|record| record.active);
    assert_eq!(active, Some(Version(2)), "one rotation, one new version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_triggers_at_once_are_one_rotation() {
    let world = World::open().await;
    world.provision("acme").await;
    let pair = world.pair("acme");
    let asked = (0..100).map(|number| {
        let (node, pair) = (world.node(), &pair);
        // Half of them are repetitions of one delivery, half are requests of their own.
        let id = format!("webhook-{}", if number % 2 == 0 { 0 } else { number });
        async move {
            let want = Want::Rotate {
                target: Some(Version(1)),
                reason: Reason::Requested("a storm".into()),
            };
            node.trigger(pair, &id, want).await
        }
    });

    let replies = soon("a hundred answers", futures::future::join_all(asked)).await;

    let named: BTreeSet<_> = replies
        .into_iter()
        .map(|reply| match reply.expect("answered") {
            Reply::Rotation(rotation) => rotation,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    let rotation = named.into_iter().next().expect("one");
    world.complete(&rotation).await;
    world.debts_paid("acme").await;
    let made = world.simulator().snapshot().keys_made;
    assert_eq!(made, 2, "the first key and one new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_for_a_version_that_is_gone_does_nothing() {
    let world = World::open().await;
    world.provision("acme").await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    let pair = world.pair("acme");
    let late = Want::Rotate {
        target: Some(Version(1)),
        reason: Reason::Requested("a replay of last week".into()),
    };
    let reply = world.node().trigger(&pair, "old-news", late).await;
    assert_eq!(reply.expect("answered"), Reply::AlreadyDone);
    assert_eq!(world.simulator().snapshot().keys_made, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_during_a_drain_is_the_next_rotation_and_begins_by_itself() {
    let world = World::open().await;
    world.provision("acme").await;
    world.strings.hang("holder", 0, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Chat(5); 2]).keeping();
    let handle = world.spawn("acme", "holder", role).await;
    world.strings.came("holder", 0, Place::Before).await;
    let first = world.rotate("acme").await;
    world.until_phase("acme", "Draining").await;

    let second = world.rotate("acme").await;

    assert_eq!(second.n, first.n + 1, "the drain names the one after it");
    world.strings.release("holder", 0);
    world.complete(&second).await;
    soon("the holder", handle.join()).await.expect("done");
    let verdict = world.demand_held(&["acme"], |_| ()).await;
    assert_eq!(verdict.live_keys.found, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_by_time_without_anybody_asking() {
    let ms = Duration::from_millis;
    let mut world = World::with(Setup {
        policy: Policy {
            interval: Some(ms(2_500)),
            soft_deadline: ms(500),
            hard_deadline: ms(2_000),
            hard_deadline_b: ms(2_000),
            drain_max: ms(2_000),
            call_time_max: ms(2_000),
            overlap: ms(100),
            ..policy()
        },
        ..Setup::default()
    })
    .await;
    world.provision("acme").await;
    let is_third = |view: &keybaton::PairView| {
        let record = view.record.as_ref();
        record.is_some_and(|record| record.active >= Some(Version(3)))
    };
    world.until("acme", "two rotations by time", is_third).await;

    // The date is in the record: a new process keeps it.
    world.crash().await;
    world.start().await;
    let is_fourth = |view: &keybaton::PairView| {
        let record = view.record.as_ref();
        record.is_some_and(|record| record.active >= Some(Version(4)))
    };
    world.until("acme", "a rotation by time after a crash", is_fourth).await;
    let provider = world.node().pair("acme", PROVIDER).expect("a pair").provider;
    assert_eq!(provider.as_str(), PROVIDER);
}
