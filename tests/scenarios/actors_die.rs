//! Any actor is killed at any moment; the rotation and the tasks go on, and no holder is
//! forgotten.

use keybaton::messages::{PairId, Version};
use keybaton_actors::shared::Shared;
use keybaton_messages::TaskKey;
use keybaton_tests::harness::{Cue, Deed, PROVIDER, Place, Role, Setup, World, soon};

/// The kinds of actor.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Supervisor,
    Tenant,
    Rotation,
    Task,
    Broker,
    Scheduler,
    Sweeper,
    Shipper,
}

/// Kills the actor that has this job at this moment, as nothing but a fault of ours can. `false`:
/// it is on its way out or not back yet.
fn kill(shared: &Shared, pair: &PairId, victim: Victim) -> bool {
    fn end<M: ractor::Message>(actor: Option<ractor::ActorRef<M>>) -> bool {
        actor.inspect(|actor| actor.kill()).is_some()
    }
    let rotation = shared.rotations.get(pair).map(|actor| actor.value().clone());
    match victim {
        Victim::Supervisor => end(shared.supervisor.get()),
        Victim::Tenant => {
            let tenant = rotation.and_then(|actor| actor.try_get_supervisor());
            tenant.inspect(|tenant| tenant.kill()).is_some()
        }
        Victim::Rotation => end(rotation),
        Victim::Task => ["holder", "worker-0"].into_iter().all(|name| {
            let task = name.parse().expect("a name");
            let key = TaskKey { tenant: pair.tenant.clone(), task };
            end(shared.tasks.get(&key).expect("spawned").actor())
        }),
        Victim::Broker => end(shared.broker_inbox.get()),
        Victim::Scheduler => end(shared.scheduler.get()),
        Victim::Sweeper => end(shared.sweeper.get()),
        Victim::Shipper => end(shared.shipper.get()),
    }
}

/// Somebody keeps the old key, others come and go; the victim is killed while the old key drains,
/// and again while it is kept in reserve.
async fn survives(victim: Victim) {
    let mut setup = Setup::default();
    // Long enough that the second kill hits it.
    setup.policy.overlap = std::time::Duration::from_millis(1_500);
    let mut world = World::with(setup).await;
    world.provision("acme").await;
    let pair = world.pair("acme");
    world.strings.hang("holder", 1, Place::Before, Cue::Hold);
    let holder = Role::of(vec![Deed::Chat(5), Deed::Chat(5), Deed::Chat(5)]).keeping();
    let mut handles = vec![world.spawn("acme", "holder", holder).await];
    for number in 0..6 {
        let role = Role::of(vec![Deed::Stream(30); 8]);
        handles.push(world.spawn("acme", &format!("worker-{number}"), role).await);
    }
    world.strings.came("holder", 1, Place::Before).await;
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Draining").await;

    let takes_tasks_along = matches!(victim, Victim::Supervisor | Victim::Tenant | Victim::Task);
    world.note_kill();
    assert!(kill(world.node().shared(), &pair, victim), "{victim:?} is there");

    if takes_tasks_along {
        // The holder died with its step; its lease went with it, and it comes back for the step.
        world.strings.release("holder", 1);
    } else {
        // The holder is in the middle of its step: the old key must not end before it does.
        world.strings.came("worker-0", 7, Place::After).await;
        let leases = world.node().holders(&pair, Version(1));
        assert_eq!(leases.len(), 1, "nobody forgot the holder: {leases:?}");
        assert_eq!(world.simulator().snapshot().keys_alive, 2);
        world.strings.release("holder", 1);
    }
    world.until_phase("acme", "Overlap").await;
    world.note_kill();
    kill(world.node().shared(), &pair, victim);

    world.complete(&rotation).await;
    for handle in handles {
        let name = handle.key().to_string();
        let joined = soon(&name, handle.join()).await;
        joined.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    }
    world.debts_paid("acme").await;
    let rules = |rules: &mut keybaton_oracle::Rules| rules.tasks_expected = Some(7);
    let verdict = world.demand_held(&["acme"], rules).await;
    assert!(verdict.old_key_dead);
    assert_eq!((verdict.calls_refused, verdict.calls_interrupted), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_dies_and_everything_goes_on() {
    survives(Victim::Supervisor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_supervisor_dies_and_its_pairs_and_tasks_go_on() {
    survives(Victim::Tenant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_actor_of_a_rotation_dies_and_the_rotation_goes_on() {
    survives(Victim::Rotation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_actors_of_tasks_die_and_their_steps_are_taken_again() {
    survives(Victim::Task).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_dies_and_no_holder_is_forgotten() {
    survives(Victim::Broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduler_sweeper_and_shipper_die_and_nobody_notices() {
    let (scheduler, sweeper, shipper) =
        (survives(Victim::Scheduler), survives(Victim::Sweeper), survives(Victim::Shipper));
    tokio::join!(scheduler, sweeper, shipper);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_actor_of_a_rotation_dies_while_the_provider_is_asked_and_one_key_is_made() {
    let world = World::open().await;
    world.provision("acme").await;
    world.arm("issue@acme:1=stall:1000");
    let rotation = world.rotate("acme").await;
    world.until_phase("acme", "Issuing").await;

    assert!(kill(world.node().shared(), &world.pair("acme"), Victim::Rotation));

    // The answer comes to nobody; its secret is found in the store and adopted.
    world.complete(&rotation).await;
    world.debts_paid("acme").await;
    let made = world.simulator().snapshot().keys_made;
    assert_eq!(made, 2, "the first key and one new one");
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_one_tenants_supervisor_is_not_felt_by_another_tenant() {
    const ENDS: usize = 5;
    let world = World::open().await;
    for tenant in ["acme", "globex"] {
        world.provision(tenant).await;
    }
    world.strings.hang("bystander", 0, Place::Before, Cue::Hold);
    let handle = world.spawn("globex", "bystander", Role::of(vec![Deed::Chat(5); 2])).await;
    world.strings.came("bystander", 0, Place::Before).await;
    let pair = world.pair("acme");

    let mut ends = 0;
    while ends < ENDS {
        ends += usize::from(kill(world.node().shared(), &pair, Victim::Tenant));
        // Its messages arrive while nobody has noticed yet.
        let asked = (0..8).map(|_| world.node().provision("acme", PROVIDER));
        let answers = soon("answers", futures::future::join_all(asked)).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    world.strings.release("bystander", 0);
    soon("the bystander", handle.join()).await.expect("done");
    assert_eq!(world.strings.times("bystander", 0, Place::Before), 1, "its step was not cut");
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_spawned_while_actors_die_gets_its_first_key_all_the_same() {
    let world = World::open().await;
    world.provision("acme").await;
    let pair = world.pair("acme");
    let victims = [Victim::Scheduler, Victim::Supervisor, Victim::Broker];
    for (number, victim) in victims.into_iter().enumerate() {
        assert!(kill(world.node().shared(), &pair, victim));
        let tenant = format!("newcomer-{number}");
        let handle = world.spawn(&tenant, "first", Role::of([Deed::Chat(5)])).await;
        let joined = soon(&tenant, handle.join()).await;
        joined.unwrap_or_else(|failure| panic!("{victim:?}: {failure}"));
        world.provision("acme").await;
    }
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_its_supervisors_end_has_not_reached_yet_is_not_left_alone() {
    let world = World::open().await;
    world.provision("acme").await;
    world.strings.hang("stubborn", 1, Place::After, Cue::Seize);
    let handle = world.spawn("acme", "stubborn", Role::of(vec![Deed::Chat(5); 3])).await;
    world.strings.came("stubborn", 1, Place::After).await;

    assert!(kill(world.node().shared(), &world.pair("acme"), Victim::Tenant));
    // The next supervisor answers this after it has looked at its tasks.
    world.node().provision("acme", PROVIDER).await.expect("answered");
    world.strings.release("stubborn", 1);

    soon("the stubborn task", handle.join()).await.expect("done");
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_while_its_shipper_is_away_leaves_a_whole_audit_all_the_same() {
    let mut world = World::open().await;
    world.provision("acme").await;
    assert!(kill(world.node().shared(), &world.pair("acme"), Victim::Shipper));
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.debts_paid("acme").await;
    assert!(kill(world.node().shared(), &world.pair("acme"), Victim::Shipper));
    world.stop().await;
    let report = keybaton::verify_audit(&world.node_dir(), None, None).await.expect("an audit");
    assert!(report.is_whole(), "{report:?}");
}
