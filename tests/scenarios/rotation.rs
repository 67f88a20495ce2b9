//! One rotation from the outside: its events, its ways back, its urgency.

use futures::StreamExt;
use keybaton::messages::{Epoch, Event, EventKind, PairId, Rev, RotationId, Version};
use keybaton::{Class, Order, OrderError, Secret};
use keybaton_ports::{EventBus, Generation, Witness};
use keybaton_tests::harness::{Cue, Deed, PROVIDER, Place, Role, Setup, World, phase_name, soon};

/// Reads events until the rotation's last one, as a reader should: what is older than what was
/// read before, and what was read before, is left out.
async fn told(
    bus: &dyn EventBus,
    pair: &PairId,
    act: impl Future<Output = RotationId>,
) -> Vec<Event> {
    let mut events = bus.subscribe(&pair.tenant);
    let rotation = act.await;
    let mut told: Vec<Event> = Vec::new();
    let reading = async {
        while let Some(event) = events.next().await {
            let is_older = told.last().is_some_and(|last| last.rev > event.rev);
            if is_older || told.contains(&event) || event.rotation != rotation {
                continue;
            }
            let is_last = matches!(event.kind, EventKind::Complete | EventKind::Failed);
            told.push(event);
            if is_last {
                return;
            }
        }
    };
    soon("the last event", reading).await;
    told
}

async fn story(world: &World) -> Vec<Event> {
    let rotate = async {
        let rotation = world.rotate("acme").await;
        world.complete(&rotation).await;
        rotation
    };
    let bus = world.node().shared().ports.bus.clone();
    told(bus.as_ref(), &world.pair("acme"), rotate).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_a_rotation_tells_its_story_in_order() {
    let world = World::open().await;
    world.provision("acme").await;

    let told = story(&world).await;

    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::Initiated,
            EventKind::NewKeyReady,
            EventKind::DrainComplete,
            EventKind::Complete
        ]
    );
    assert_eq!(told[1].old, Some(Version(1)));
    assert_eq!(told[1].new, Some(Version(2)));
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_b_rotation_empties_the_old_key_before_it_asks_for_the_new_one() {
    let world = World::with(Setup { class: Class::B, ..Setup::default() }).await;
    world.provision("acme").await;
    let deeds = vec![Deed::Chat(20); 12];
    let handle = world.spawn("acme", "worker", Role::of(deeds).resting(20)).await;
    world.strings.came("worker", 1, Place::After).await;

    let told = story(&world).await;

    assert_eq!(told.first().map(|event| event.kind), Some(EventKind::Initiated));
    assert_eq!(told.last().map(|event| event.kind), Some(EventKind::Complete));
    let view = world.node().watch(&world.pair("acme")).borrow().clone();
    let phases: Vec<_> = view
        .timeline
        .iter()
        .filter(|mark| mark.rotation.n == 2)
        .map(|mark| phase_name(&mark.phase))
        .collect();
    let place = |name: &str| phases.iter().position(|phase| phase == name);
    assert!(place("Emptying").is_some(), "{phases:?}");
    assert!(place("Emptying") < place("Issuing"), "{phases:?}");
    assert!(place("Issuing") < place("Verifying"), "{phases:?}");
    soon("the worker", handle.join()).await.expect("done");
    world.demand_held(&["acme"], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_waits_for_the_holder_of_a_session_and_the_old_key_lives_as_long() {
    let world = World::open().await;
    world.provision("acme").await;
    let role = Role::of(vec![Deed::Chat(5); 3]).keeping();
    world.strings.hang("holder", 1, Place::Before, Cue::Hold);
    let handle = world.spawn("acme", "holder", role).await;
    world.strings.came("holder", 1, Place::Before).await;

    // It is asked to hand over, at promote and again after the soft deadline, and it is busy.
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Checkpointing").await;

    let holders = world.node().holders(&world.pair("acme"), Version(1));
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0].task.as_str(), "holder");
    assert_eq!(world.simulator().snapshot().keys_alive, 2, "the old key lives beside the new one");

    // The step ends; its call still goes out under the old key, and only then is it handed over.
    world.strings.release("holder", 1);
    world.complete(&rotation).await;
    soon("the holder", handle.join()).await.expect("done");
    let verdict = world.demand_held(&["acme"], |_| ()).await;
    assert!(verdict.old_key_dead);
    assert_eq!(verdict.calls_ok, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_makes_the_old_key_the_active_one_again_and_ends_the_new_one() {
    let world = World::open().await;
    world.provision("acme").await;
    world.strings.hang("holder", 1, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Chat(5); 3]).keeping();
    let handle = world.spawn("acme", "holder", role).await;
    world.strings.came("holder", 1, Place::Before).await;
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Draining").await;

    let ordered = world.node().order("acme", PROVIDER, Order::RollBack).await;

    ordered.expect("a rollback is possible until the old key is revoked");
    let ended = soon("the end", world.node().finished(&rotation)).await;
    let why = ended.expect_err("nothing was handed over").to_string();
    assert!(why.contains("RolledBack"), "{why}");
    world
        .until("acme", "the old key as the active one", |view| {
            let record = view.record.as_ref();
            record.is_some_and(|record| record.active == Some(Version(1)))
        })
        .await;
    world.strings.release("holder", 1);
    soon("the holder", handle.join()).await.expect("done");
    world.debts_paid("acme").await;
    assert_eq!(world.simulator().snapshot().keys_alive, 1);
    // For the judge nobody was rotated: the agents must not have noticed anything.
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_before_promote_leaves_one_key_and_after_promote_it_names_the_rollback() {
    let world = World::open().await;
    world.provision("acme").await;
    world.arm("probe@acme:1x*=server-error");
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Verifying").await;

    let ordered = world.node().order("acme", PROVIDER, Order::Abort).await;

    ordered.expect("an abort is possible until promote");
    let ended = soon("the end", world.node().finished(&rotation)).await;
    let why = ended.expect_err("it was aborted").to_string();
    assert!(why.contains("Aborted"), "{why}");
    world.debts_paid("acme").await;
    assert_eq!(world.simulator().snapshot().keys_alive, 1, "the staged key is revoked");

    world.simulator().heal();
    world.strings.hang("holder", 0, Place::Before, Cue::Hold);
    let role = Role::of([Deed::Chat(5)]).keeping();
    let handle = world.spawn("acme", "holder", role).await;
    world.strings.came("holder", 0, Place::Before).await;
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Draining").await;
    let refused = world.node().order("acme", PROVIDER, Order::Abort).await;
    match refused.expect_err("too late") {
        OrderError::Refused(why) => assert!(why.contains("roll back instead"), "{why}"),
        other => panic!("{other:?}"),
    }
    world.strings.release("holder", 0);
    world.complete(&rotation).await;
    soon("the holder", handle.join()).await.expect("done");
    world.demand_held(&["acme"], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_imported_key_is_tried_out_handed_out_and_rotated_like_any_other() {
    let world = World::open().await;
    let seeded = world.simulator().seed("acme", "made by hand");
    let seeded = seeded.expect("the simulator makes a key");
    let key_id = format!("acme/agents/{}", seeded.key_id);
    let secret = || {
        let secret = Secret::new(seeded.secret.expose().as_bytes().to_vec());
        secret.map_err(|refusal| refusal.to_string()).expect("a key")
    };
    let import = world.node().import("acme", PROVIDER, &key_id, secret());
    let import = soon("an import", import).await.expect("accepted");
    world.complete(&import).await;
    assert_eq!(world.simulator().snapshot().keys_alive, 1, "none was issued");

    let again = world.node().import("acme", PROVIDER, &key_id, secret());
    let again = soon("an import", again).await.expect_err("known already");
    assert!(again.to_string().contains("known already"), "{again}");

    let deeds = vec![Deed::Chat(10); 10];
    let handle = world.spawn("acme", "worker", Role::of(deeds).resting(10)).await;
    world.strings.came("worker", 0, Place::After).await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    soon("the worker", handle.join()).await.expect("done");
    let verdict = world.demand_held(&["acme"], |_| ()).await;
    assert!(verdict.old_key_dead, "the imported key is revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_import_is_never_handed_out_and_never_revoked() {
    let world = World::open().await;
    world.provision("acme").await;
    let seeded = world.simulator().seed("acme", "somebody's").expect("a key");
    let key_id = format!("acme/agents/{}", seeded.key_id);
    let wrong = Secret::new(b"sk-svcacct-thisisnotthesecretofthatkeyatall0000000000".to_vec());
    let wrong = wrong.map_err(|refusal| refusal.to_string()).expect("text");

    let import = world.node().import("acme", PROVIDER, &key_id, wrong);
    let import = soon("an import", import).await.expect("accepted, to be tried out");

    let ended = soon("its end", world.node().finished(&import)).await;
    ended.expect_err("the provider refuses it");
    world.debts_paid("acme").await;
    let view = world.node().watch(&world.pair("acme")).borrow().clone();
    let active = view.record.as_ref().and_then(|record| record.active);
    assert_eq!(active, Some(Version(1)));
    assert_eq!(world.simulator().snapshot().keys_alive, 2, "a key that is not ours is not revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_does_not_wait_for_a_stuck_holder_beyond_its_deadline() {
    let mut setup = Setup::default();
    setup.policy.revoke_deadline = std::time::Duration::from_secs(3);
    let world = World::with(setup).await;
    world.provision("acme").await;
    // One holder is stuck in its own code, one in a stream that would go on for a minute.
    world.strings.hang("stuck", 0, Place::Before, Cue::Hold);
    let stuck = world.spawn("acme", "stuck", Role::of([Deed::Chat(5)]).keeping()).await;
    let stream = Role::of([Deed::Stream(6_000), Deed::Chat(5)]).keeping();
    let streaming = world.spawn("acme", "streaming", stream).await;
    world.strings.came("stuck", 0, Place::Before).await;
    world.strings.came("streaming", 0, Place::Before).await;

    let asked = world.node().emergency("acme", PROVIDER, "leaked", None);
    let rotation = soon("an emergency", asked).await.expect("accepted");
    world.complete(&rotation).await;

    let view = world.node().watch(&world.pair("acme")).borrow().clone();
    let began = view.timeline.iter().find(|mark| mark.rotation == rotation);
    let began = began.expect("a beginning").at;
    let dead = view.timeline.last().expect("an end").at;
    assert!(dead.0 - began.0 >= 2_900, "the stuck holder was given until the deadline");
    assert!(dead.0 - began.0 < 30_000, "dead by the deadline and a little");
    assert_eq!(world.strings.times("stuck", 0, Place::After), 0, "it is still stuck");

    world.strings.release("stuck", 0);
    // The stream is repeated under the new key; a minute of it would be too long here.
    streaming.cancel();
    soon("the stuck one", stuck.join()).await.expect("done");
    assert_eq!(world.simulator().snapshot().keys_alive, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_ended_before_a_crash_is_known_to_have_ended_after_it() {
    let mut world = World::open().await;
    world.provision("acme").await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.debts_paid("acme").await;

    world.crash().await;
    world.start().await;

    // Nothing is left to do for the pair, so that this life has not taken it up.
    world.complete(&rotation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_an_older_copy_or_another_one_does_not_rotate() {
    // Far ahead; ahead by what the first try makes, and by a version that no try makes; elsewhere.
    let cases = [
        (1_000_000, Version(1), None, "older copy"),
        (2, Version(9), None, "older copy"),
        (2, Version(1), Generation::parse("another2"), "another2"),
    ];
    for (ahead, active, journal, word) in cases {
        let world = World::open().await;
        world.provision("acme").await;
        let ports = &world.node().shared().ports;
        let stored = ports.journal.load(&world.pair("acme")).await.expect("read").expect("there");
        let rev = Rev(stored.record.rev.0 + ahead);
        let later = Witness { rev, epoch: Epoch(1), active: Some(active), journal };
        ports.secrets.put_witness(&world.pair("acme"), later).await.expect("written");

        let _waits = world.rotate("acme").await;

        world
            .until("acme", "a reason that names what the secret store has seen", |view| {
                let rotation = view.record.as_ref().and_then(|record| record.rotation.as_ref());
                let error = rotation.and_then(|rotation| rotation.error.as_deref());
                error.is_some_and(|why| why.contains(word))
            })
            .await;
        assert_eq!(world.simulator().snapshot().keys.len(), 1, "no key is issued meanwhile");
    }
}
