//! Any actor is killed at any moment; the rotation and the tasks go on, and no holder is
//! forgotten.

use keybaton::messages::{PairId, Version};
use keybaton_actors::shared::Shared;
use keybaton_messages::TaskKey;
use keybaton_tests::harness::{Cue, Deed, Place, Role, Setup, World, soon};

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

/// Kills the actor that has this job at this moment, as nothing but a fault of ours can.
fn kill(shared: &Shared, pair: &PairId, victim: Victim) {
    match victim {
        Victim::Supervisor => shared.supervisor.get().expect("there is one").kill(),
        Victim::Tenant => {
            let rotation = shared.rotations.get(pair).expect("there is one").clone();
            let tenant = rotation.try_get_supervisor();
            tenant.expect("every pair has its tenant's supervisor").kill();
        }
        Victim::Rotation => shared.rotations.get(pair).expect("there is one").kill(),
        Victim::Task => {
            for name in ["holder", "worker-0"] {
                let key =
                    TaskKey { tenant: pair.tenant.clone(), task: name.parse().expect("a name") };
                let entry = shared.tasks.get(&key).expect("spawned");
                if let Some(actor) = entry.actor() {
                    actor.kill();
                }
            }
        }
        Victim::Broker => shared.broker_inbox.get().expect("there is one").kill(),
        Victim::Scheduler => shared.scheduler.get().expect("there is one").kill(),
        Victim::Sweeper => shared.sweeper.get().expect("there is one").kill(),
        Victim::Shipper => shared.shipper.get().expect("there is one").kill(),
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
    kill(world.node().shared(), &pair, victim);

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
