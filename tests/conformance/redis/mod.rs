//! The event bus on a real Redis: the contract of its port, and what it promises beyond.

mod access;
mod faults;
mod groups;
mod place;
mod program;
mod rotations;

use std::sync::Arc;

use futures::StreamExt;
use keybaton_adapters::buses::{RedisBus, RedisSettings, RedisUser};
use keybaton_messages::{Event, EventKind, TenantId, Version};
use keybaton_ports::{EventBus, EventStream};
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::bus::{event, trace};
use keybaton_tests::harness::soon;

use self::place::Place;

mod bus {
    keybaton_tests::bus_conformance!(super::open, if_there);
}

/// A server and the node's bus on it, with the rights that `keybaton redis acl --node` prints.
struct World {
    bus: Arc<RedisBus>,
    server: Place,
}

async fn open() -> Option<World> {
    let server = Place::start()?;
    Some(World { bus: Arc::new(server.bus()), server })
}

impl Has<dyn EventBus> for World {
    fn port(&self) -> Arc<dyn EventBus> {
        self.bus.clone()
    }
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

async fn publish(bus: &RedisBus, event: &Event) {
    bus.publish(event, trace()).await.expect("published");
}

async fn next(stream: &mut EventStream) -> Event {
    soon("an event", stream.next()).await.expect("the bus is open")
}

/// Reads the next `n` revisions.
async fn revisions(stream: &mut EventStream, n: usize) -> Vec<u64> {
    let mut read = Vec::new();
    while read.len() < n {
        read.push(next(stream).await.rev.0);
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_one_stream_whose_entries_name_the_trace_of_their_rotation() {
    let Some(world) = open().await else { return };
    publish(&world.bus, &event("acme", 7)).await;
    let keys: Vec<String> = world.server.admin("KEYS *");
    let mut keys: Vec<_> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["kb.acme", "kb.acme.pairs", "kb.acme.seen"]);
    let entries: Vec<(String, Vec<String>)> = world.server.admin("XRANGE kb.acme - +");
    let [(_, fields)] = &entries[..] else { panic!("one entry: {entries:?}") };
    let place = fields.iter().position(|field| field == "traceparent").expect("it has a trace");
    assert_eq!(fields[place + 1], trace().to_string());
    assert!(fields.contains(&"rotation.initiated".to_owned()), "{fields:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_again_or_is_older_is_left_out() {
    let Some(world) = open().await else { return };
    let mut reader = world.bus.subscribe(&tenant("acme"));
    let of = |rev, kind| Event { kind, ..event("acme", rev) };
    // Revisions are compared as numbers, and two kinds of one revision are two events.
    let told = [
        of(9, EventKind::Initiated),
        of(10, EventKind::NewKeyReady),
        of(10, EventKind::CheckpointRequested),
        of(11, EventKind::DrainComplete),
    ];
    for event in &told[..3] {
        publish(&world.bus, event).await;
    }
    // A node that crashed before it noted the publication, seen from another life.
    let again = world.server.bus();
    for event in &told {
        publish(&again, event).await;
    }
    for expected in told {
        assert_eq!(next(&mut reader).await, expected);
    }
    let length: usize = world.server.admin("XLEN kb.acme");
    assert_eq!(length, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_its_bound_and_a_slow_reader_goes_on_with_what_is_left() {
    let Some(server) = Place::start() else { return };
    let settings = server.settings(RedisUser::Node).events_max(10);
    let bus = RedisBus::new(settings).expect("settings");
    let mut reader = bus.subscribe(&tenant("acme"));
    publish(&bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    for n in 2..=100 {
        publish(&bus, &event("acme", n)).await;
    }
    let length: usize = server.admin("XLEN kb.acme");
    assert_eq!(length, 10);
    assert_eq!(revisions(&mut reader, 10).await, (91..=100).collect::<Vec<_>>());
    let kept: i64 = server.admin("TTL kb.acme");
    assert!(kept > 24 * 3600, "kept for more than a day after the last event: {kept} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_event_of_each_pair_is_there_for_who_only_looks() {
    let Some(world) = open().await else { return };
    let newer = Event { new: Some(Version(2)), ..event("acme", 12) };
    for event in [event("acme", 9), newer.clone(), event("acme", 11)] {
        publish(&world.bus, &event).await;
    }
    publish(&world.bus, &event("acme2", 5)).await;
    let found = world.bus.newest(&newer.pair).await.expect("answered");
    assert_eq!(found, Some(newer.clone()), "an older event replaces nothing");
    let all = world.bus.newest_of(&tenant("acme")).await.expect("answered");
    assert_eq!(all.into_values().collect::<Vec<_>>(), [newer]);
    let nobody = world.bus.newest_of(&tenant("nobody")).await.expect("answered");
    assert!(nobody.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_server_is_believed_under_the_named_authority_only() {
    let Some(server) = Place::start_with_tls() else { return };
    let settings = || {
        let settings = RedisSettings::new(&server.tls_url()).expect("a URL");
        settings.user(&RedisUser::Node.name(), server.password())
    };
    let trusting = settings().authority_file(&server.authority_file()).expect("a file");
    let bus = RedisBus::new(trusting).expect("settings");
    let mut reader = bus.subscribe(&tenant("acme"));
    publish(&bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    let doubting = RedisBus::new(settings()).expect("settings");
    doubting.ping().await.expect_err("nobody whom the system trusts has signed this");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_end_when_the_bus_is_dropped() {
    let Some(server) = Place::start() else { return };
    let bus = server.bus();
    let mut reader = bus.subscribe(&tenant("acme"));
    publish(&bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    let ended = tokio::spawn(async move { reader.next().await });
    drop(bus);
    assert_eq!(soon("the end", ended).await.expect("no panic"), None);
}
