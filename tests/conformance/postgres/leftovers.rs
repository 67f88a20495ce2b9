//! Checkpoints of a node's tasks: one of each task at work, and none of a task that has ended,
//! whatever a kill has left.

use keybaton::NodeBuilder;
use keybaton::messages::Version;
use keybaton_adapters::postgres::Postgres;
use keybaton_adapters::store::MasterKey;
use keybaton_tests::conformance::checkpoints::checkpoint;
use keybaton_tests::conformance::task_entries::task;
use keybaton_tests::harness::{Cue, Deed, Place as Moment, Puppet, Role, Setup, World, soon};

use crate::postgres::{Place, shared};

/// Waits until so many checkpoints lie in the database, of whichever tenant.
fn until(place: &Place, database: &str, wanted: usize) {
    let count = || {
        let sql = "select count(*) from keybaton.checkpoint";
        let rows = place.server.query_as_admin_in(database, sql)?;
        anyhow::ensure!(rows == [[Some(wanted.to_string())]], "checkpoints: {rows:?}");
        Ok(())
    };
    let what = format!("left with {wanted} checkpoints");
    place.server.server().wait_until(&what, count).expect("no more and no fewer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_checkpoint_outlives_its_use_also_when_the_node_is_killed() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let settings = place.settings(&database);
    let kept = settings.clone();
    let stores = move |builder: NodeBuilder| builder.postgres(kept.clone());
    let setup = Setup { stores: Some(Box::new(stores)), ..Setup::default() };
    let mut world = World::with(setup).await;
    world.provision("acme").await;
    // Step 3 is held in the first life of the node and in the second.
    for step in [1, 2, 3, 3] {
        world.strings.hang("holder", step, Moment::Before, Cue::Hold);
    }
    let role = Role::of(vec![Deed::Chat(5); 5]).keeping();
    world.spawn("acme", "holder", role).await;

    // Each hand-over writes a checkpoint and makes the one before it needless.
    for (step, old) in [(1, Version(1)), (2, Version(2))] {
        world.strings.came("holder", step, Moment::Before).await;
        let rotation = world.rotate("acme").await;
        // The record says so first; only after that the holder can know, and move at its boundary.
        world.until_phase("acme", "Draining").await;
        world.until_closed("acme", old).await;
        world.strings.release("holder", step);
        world.complete(&rotation).await;
        until(place, &database, 1);
    }

    // A kill between a checkpoint and the row that would name it, and one behind the end of a task.
    world.strings.came("holder", 3, Moment::Before).await;
    world.crash().await;
    let key = MasterKey::read(&world.path().join("node.master-key")).expect("the node's");
    let beside = Postgres::open(&settings, key).await.expect("the same store");
    for of in ["holder", "holder", "of-nobody"] {
        beside.checkpoints.put(&checkpoint(&task(of), b"left")).await.expect("stored");
    }
    drop(beside);
    until(place, &database, 4);
    world.start().await;
    until(place, &database, 1);

    world.strings.release("holder", 3);
    let holder = world.node().task::<Puppet>("acme", "holder").expect("it goes on");
    soon("the end of the task", holder.join()).await.expect("it has lost nothing");
    until(place, &database, 0);
    world.debts_paid("acme").await;
    world.demand_held(&["acme"], |_| ()).await;
}
