//! Rotations of a node that keeps its secrets in Vault, while Vault goes away and comes back.

use std::sync::Arc;

use keybaton::TaskHandle;
use keybaton::messages::RotationId;
use keybaton_messages::SecretVersion;
use keybaton_ports::SecretStore;
use keybaton_servers::Vault;
use keybaton_tests::conformance::records::label;
use keybaton_tests::conformance::secrets::{meta, secret};
use keybaton_tests::harness::{Cue, Deed, Place, Puppet, Role, Setup, World, soon};

use super::{given, started, store};

const ACME: &str = "acme";

/// A node whose secrets lie in Vault, with a key for the tenant.
async fn world_on(server: &Arc<Vault>) -> World {
    let its = Arc::clone(server);
    let secrets =
        move || Arc::new(store(&its, "p", given(its.root_token()))) as Arc<dyn SecretStore>;
    let world = World::with(Setup { secrets: Some(Box::new(secrets)), ..Setup::default() }).await;
    world.provision(ACME).await;
    world
}

/// What Vault says of the pair, with the status that only the record knows.
async fn shown(world: &World) -> Vec<(u32, String, Option<u64>)> {
    let status = keybaton::read_status(&world.node_dir(), None).await.expect("it answers");
    let pair = world.pair(ACME).to_string();
    let pair = status.pairs.into_iter().find(|it| it.pair == pair).expect("it is told of");
    pair.versions.into_iter().map(|it| (it.version, it.status, it.secret)).collect()
}

/// Agents at work, some of which keep their key across steps.
async fn agents(world: &World) -> Vec<TaskHandle<Puppet>> {
    let mut handles = Vec::new();
    for number in 0..6 {
        let name = format!("agent-{number}");
        handles.push(world.spawn(ACME, &name, Role::mixed(number, 8)).await);
    }
    world.strings.came("agent-3", 0, Place::After).await;
    handles
}

/// Waits for the rotation, the agents and all debts, and has everything judged.
async fn demand_held(world: World, rotation: &RotationId, agents: Vec<TaskHandle<Puppet>>) {
    world.complete(rotation).await;
    for handle in agents {
        soon("an agent", handle.join()).await.expect("done");
    }
    world.debts_paid(ACME).await;
    world.demand_held(&[ACME], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_leaves_one_secret_and_its_status_is_the_records() {
    let Some(server) = started().map(Arc::new) else { return };
    let world = world_on(&server).await;
    let agents = agents(&world).await;
    let rotation = world.rotate(ACME).await;
    world.complete(&rotation).await;
    world.debts_paid(ACME).await;

    let alive = |it: &&(u32, String, Option<u64>)| !matches!(it.1.as_str(), "REVOKED" | "GONE");
    let versions = shown(&world).await;
    let alive: Vec<_> = versions.iter().filter(alive).collect();
    assert_eq!(alive, [&(2, "ACTIVE".to_owned(), Some(2))], "{versions:?}");
    let secrets = store(&server, "p", given(server.root_token()));
    let kept = secrets.list(&world.pair(ACME)).await.expect("read");
    assert_eq!(kept.iter().map(|it| it.0).collect::<Vec<_>>(), [SecretVersion(2)]);
    let witness = secrets.witness(&world.pair(ACME)).await.expect("read").expect("written");
    assert_eq!(witness.active.map(|it| it.0), Some(2));
    demand_held(world, &rotation, agents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_killed_between_issue_and_write_costs_time_and_no_key() {
    let Some(server) = started().map(Arc::new) else { return };
    let world = world_on(&server).await;
    world.strings.hang("worker", 1, Place::Before, Cue::Hold);
    let mut agents = agents(&world).await;
    agents.push(world.spawn(ACME, "worker", Role::of(vec![Deed::Chat(5); 3])).await);
    world.strings.came("worker", 1, Place::Before).await;
    world.arm("issue@acme:1=stall:700");
    let rotation = world.rotate(ACME).await;
    // The provider has been asked and has not answered; its key will find no Vault.
    world.until_phase(ACME, "Issuing").await;
    server.kill().expect("killed");
    world.strings.release("worker", 1);
    world.strings.came("worker", 2, Place::After).await;
    server.restart().expect("restarted");
    server.unseal().expect("unsealed");
    demand_held(world, &rotation, agents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_vault_is_sealed_a_rotation_waits_and_says_why_and_tasks_keep_their_key() {
    let Some(server) = started().map(Arc::new) else { return };
    let world = world_on(&server).await;
    world.strings.hang("holder", 1, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Chat(5); 3]).keeping();
    let holder = world.spawn(ACME, "holder", role).await;
    world.strings.came("holder", 1, Place::Before).await;
    server.seal().expect("sealed");

    let rotation = world.rotate(ACME).await;
    world
        .until(ACME, "a reason that names the seal", |view| {
            let rotation = view.record.as_ref().and_then(|record| record.rotation.as_ref());
            let error = rotation.and_then(|rotation| rotation.error.as_deref());
            error.is_some_and(|why| why.contains("sealed"))
        })
        .await;
    // The step that holds its key goes on; no key was asked for.
    world.strings.release("holder", 1);
    world.strings.came("holder", 2, Place::After).await;
    assert_eq!(world.simulator().snapshot().keys.len(), 1, "no key is issued meanwhile");
    server.unseal().expect("unsealed");
    demand_held(world, &rotation, vec![holder]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_first_on_a_node_waits_for_vault_and_is_told_why() {
    let Some(server) = started().map(Arc::new) else { return };
    let mut world = world_on(&server).await;
    world.crash().await;
    server.seal().expect("sealed");
    world.start().await;
    let asking = world.ask_and_be_told(ACME, "sealed").await;
    server.unseal().expect("unsealed");
    soon("the key", asking).await.expect("no panic").expect("it is there");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_and_a_vault_that_are_killed_together_finish_the_rotation() {
    let Some(server) = started().map(Arc::new) else { return };
    let mut world = world_on(&server).await;
    world.arm("issue@acme:1=stall:700");
    let rotation = world.rotate(ACME).await;
    world.until_phase(ACME, "Issuing").await;
    server.kill().expect("killed");
    world.crash().await;
    world.start().await;
    server.restart().expect("restarted");
    server.unseal().expect("unsealed");
    let agents = agents(&world).await;
    demand_held(world, &rotation, agents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_stored_just_before_a_crash_is_found_again_by_its_label() {
    let Some(server) = started().map(Arc::new) else { return };
    let before = store(&server, "p", given(server.root_token()));
    let acme = keybaton_tests::conformance::records::pair(ACME);
    let put = before.put(&meta(&acme, Some(label(1)), "key_1"), &secret("sk-one")).await;
    let version = put.expect("stored");
    drop(before);
    server.restart().expect("restarted");
    server.unseal().expect("unsealed");
    let after = store(&server, "p", given(server.root_token()));
    let (found, stored) = after.find(&acme, &label(1)).await.expect("read").expect("found");
    assert_eq!((found, stored.meta.key_id.as_str()), (version, "key_1"));
    assert!(stored.secret.is_same(&secret("sk-one")));
}
