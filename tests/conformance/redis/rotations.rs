//! Rotations beside Redis: told while it answers, not held up while it does not.

use std::collections::HashMap;
use std::sync::Arc;

use keybaton_adapters::buses::{RedisBus, RedisUser};
use keybaton_messages::{EventKind, RotationId};
use keybaton_ports::EventBus;
use keybaton_tests::harness::{Setup, World, soon};
use redis::Cmd;

use super::place::Place;
use super::tenant;

/// A node that publishes to `bus`, with a key for the tenant.
async fn world_on(bus: RedisBus) -> World {
    let bus: Arc<dyn EventBus> = Arc::new(bus);
    let world = World::with(Setup { bus: Some(bus), ..Setup::default() }).await;
    world.provision("acme").await;
    world
}

async fn rotate(world: &World) -> RotationId {
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    rotation
}

/// What stands in the stream about a rotation: kinds in order, and the trace ids.
fn told(server: &Place, rotation: &RotationId) -> (Vec<String>, Vec<String>) {
    let mut question = Cmd::new();
    question.arg("XRANGE").arg("kb.acme").arg("-").arg("+");
    let entries: Vec<(String, HashMap<String, String>)> =
        server.ask_as_tenant("acme", &question).expect("its own stream");
    let of_it = entries.iter().filter(|(_, fields)| fields["rotation"] == rotation.n.to_string());
    let trace_id = |traceparent: &str| traceparent.split('-').nth(1).expect("an id").to_owned();
    of_it.map(|(_, fields)| (fields["event"].clone(), trace_id(&fields["traceparent"]))).unzip()
}

const STORY: [EventKind; 4] =
    [EventKind::Initiated, EventKind::NewKeyReady, EventKind::DrainComplete, EventKind::Complete];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_told_to_other_processes_as_one_trace() {
    let Some(server) = Place::start() else { return };
    // Another process, with the tenant's own rights, in the place of a program of the tenant.
    let acme = tenant("acme");
    let own = RedisBus::new(server.settings(RedisUser::Tenant(&acme))).expect("settings");
    let world = world_on(server.bus()).await;
    let mut create = Cmd::new();
    create.arg("XGROUP").arg("CREATE").arg("kb.acme").arg("billing").arg("0").arg("MKSTREAM");
    let _: String = server.ask_as_tenant("acme", &create).expect("a group of its own");
    let mut member = own.join(&acme, "billing", "only");
    let rotation = rotate(&world).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&EventKind::Complete) {
        let delivery = soon("an event", member.next()).await.expect("redis answers");
        if delivery.event.rotation == rotation {
            heard.push(delivery.event.kind);
        }
        member.finish(&delivery).await.expect("finished");
    }
    assert_eq!(heard, STORY);
    let (_, mut traces) = told(&server, &rotation);
    traces.dedup();
    assert_eq!(traces.len(), 1, "one trace: {traces:?}");
    let first = RotationId { n: 1, ..rotation };
    assert_ne!(told(&server, &first).1[0], traces[0], "another rotation is another trace");
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_holds_up_no_rotation_and_is_told_all_of_it_later() {
    let Some(server) = Place::start() else { return };
    let world = world_on(server.bus()).await;
    server.pause();
    let unheard = rotate(&world).await;
    server.resume();
    // The outbox is published with the next commit.
    let heard = rotate(&world).await;
    let names: Vec<_> = STORY.iter().map(|kind| kind.as_str()).collect();
    let all_told = async {
        while told(&server, &heard).0.last().map(String::as_str) != names.last().copied() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the second rotation", all_told).await;
    for rotation in [unheard, heard] {
        assert_eq!(told(&server, &rotation).0, names, "{rotation}: all of it, once, in order");
    }
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_gone_or_refuses_holds_up_no_rotation() {
    let Some(server) = Place::start() else { return };
    let acme = tenant("acme");
    // A user that may not publish, then nobody at all.
    let reading_only = RedisBus::new(server.settings(RedisUser::Tenant(&acme))).expect("settings");
    let world = world_on(reading_only).await;
    rotate(&world).await;
    let exists: bool = server.admin("EXISTS kb.acme");
    assert!(!exists, "nothing was published");
    server.kill();
    rotate(&world).await;
    world.demand_held(&[], |_| ()).await;
}
