//! Redis is killed, stopped, full, read-only, or refuses: events may be lost, and nobody waits for
//! longer than the bounds say.

use std::time::{Duration, Instant};

use keybaton_adapters::buses::{RedisBus, RedisUser};
use keybaton_adapters::limits::{REDIS_ANSWER_MAX, REDIS_CONNECT_MAX};
use keybaton_messages::Event;
use keybaton_ports::{Denial, EventBus, EventStream, Refusal, Secret};
use keybaton_tests::conformance::bus::{event, trace};
use keybaton_tests::harness::soon;

use super::place::Place;
use super::{next, open, publish, tenant};

/// Longest that anybody may be kept waiting, and as much again for a machine that is busy.
const BOUND: Duration =
    REDIS_CONNECT_MAX.saturating_mul(2).saturating_add(REDIS_ANSWER_MAX).saturating_mul(2);

/// Publishes, and asserts that the answer came in time.
async fn publish_in_time(bus: &RedisBus, event: &Event) -> Result<(), Refusal> {
    let began = Instant::now();
    let published = bus.publish(event, trace()).await;
    assert!(began.elapsed() < BOUND, "it took {:?}", began.elapsed());
    published
}

/// Publishes one event after another until the reader hears one.
async fn heard_again(bus: &RedisBus, reader: &mut EventStream, mut n: u64) -> Event {
    let hearing = async {
        loop {
            n += 1;
            // What is refused now is heard later; the next one has another revision.
            let _ = publish_in_time(bus, &event("acme", n)).await;
            let turn = Duration::from_millis(50);
            if let Ok(event) = tokio::time::timeout(turn, next(reader)).await {
                return event;
            }
        }
    };
    soon("an event", hearing).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_events_and_readers_go_on_when_it_is_back() {
    let Some(world) = open().await else { return };
    let mut reader = world.bus.subscribe(&tenant("acme"));
    publish(&world.bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    world.server.kill();
    for n in 2..20 {
        let refused = publish_in_time(&world.bus, &event("acme", n)).await;
        assert!(refused.is_err(), "the server is not there");
    }
    world.server.restart();
    let event = heard_again(&world.bus, &mut reader, 100).await;
    assert!(event.rev.0 > 100, "what was refused stays refused: {event:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_hear_a_server_that_lost_everything() {
    let Some(server) = Place::start_forgetful() else { return };
    let bus = server.bus();
    let mut reader = bus.subscribe(&tenant("acme"));
    publish(&bus, &event("acme", 900)).await;
    assert_eq!(next(&mut reader).await.rev.0, 900);
    server.restart();
    // As after a restore of an older stream: its newest entry lies long before what was read.
    let old = "XADD kb.acme 5-1 schema 1 event rotation.failed tenant acme provider openai";
    let _: String = server.admin(&format!("{old} rotation 1 rev 7"));
    assert_eq!(next(&mut reader).await.rev.0, 7, "read from the new start");
    heard_again(&bus, &mut reader, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_keeps_nobody_waiting_longer_than_the_bound() {
    let Some(world) = open().await else { return };
    let mut reader = world.bus.subscribe(&tenant("acme"));
    publish(&world.bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    world.server.pause();
    let unknown = publish_in_time(&world.bus, &event("acme", 2)).await;
    assert!(matches!(unknown, Err(Refusal::Unknown { .. })), "it was sent: {unknown:?}");
    let busy = publish_in_time(&world.bus, &event("acme", 3)).await;
    assert!(matches!(busy, Err(Refusal::Busy { .. })), "it was not sent: {busy:?}");
    let busy = world.bus.newest(&event("acme", 1).pair).await;
    assert!(matches!(busy, Err(Refusal::Busy { .. })), "{busy:?}");
    // Who subscribes now gets a reader at once and is not waited for.
    let mut late = world.bus.subscribe(&tenant("acme"));
    assert!(publish_in_time(&world.bus, &event("acme", 4)).await.is_err());
    world.server.resume();
    heard_again(&world.bus, &mut reader, 10).await;
    heard_again(&world.bus, &mut late, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_a_matter_for_a_person() {
    let Some(server) = Place::start() else { return };
    let wrong = Secret::new(b"hunter2".to_vec()).expect("a password");
    let settings = server.settings(RedisUser::Node).user("keybaton", wrong);
    let bus = RedisBus::new(settings).expect("settings");
    let refused = publish_in_time(&bus, &event("acme", 1)).await;
    let Err(Refusal::Denied { denial: Denial::Admin, why }) = refused else {
        panic!("{refused:?}");
    };
    assert!(!why.contains("hunter2"), "{why}");
    assert!(bus.ping().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_takes_nothing_and_is_read_all_the_same() {
    let Some(world) = open().await else { return };
    let mut reader = world.bus.subscribe(&tenant("acme"));
    publish(&world.bus, &event("acme", 1)).await;
    let _: String = world.server.admin("CONFIG SET maxmemory 1");
    let refused = publish_in_time(&world.bus, &event("acme", 2)).await;
    assert!(matches!(refused, Err(Refusal::Busy { .. })), "nothing happened: {refused:?}");
    assert_eq!(next(&mut reader).await.rev.0, 1);
    let length: usize = world.server.admin("XLEN kb.acme");
    assert_eq!(length, 1, "neither the stream");
    let newest = world.bus.newest(&event("acme", 1).pair).await.expect("answered");
    assert_eq!(newest, Some(event("acme", 1)), "nor what is told of the pair");
    let _: String = world.server.admin("CONFIG SET maxmemory 0");
    publish(&world.bus, &event("acme", 2)).await;
    assert_eq!(next(&mut reader).await.rev.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_became_a_replica_is_asked_again_elsewhere() {
    let Some(world) = open().await else { return };
    publish(&world.bus, &event("acme", 1)).await;
    let _: String = world.server.admin("REPLICAOF 127.0.0.1 1");
    let refused = publish_in_time(&world.bus, &event("acme", 2)).await;
    assert!(matches!(refused, Err(Refusal::Busy { .. })), "nothing happened: {refused:?}");
    let _: String = world.server.admin("REPLICAOF NO ONE");
    publish(&world.bus, &event("acme", 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_stream_of_one_tenant_silences_no_other() {
    let Some(world) = open().await else { return };
    let mut broken = world.bus.subscribe(&tenant("acme2"));
    let mut reader = world.bus.subscribe(&tenant("acme"));
    publish(&world.bus, &event("acme2", 1)).await;
    assert_eq!(next(&mut broken).await.rev.0, 1);
    let _: String = world.server.admin("SET kb.acme2 x");
    let refused = publish_in_time(&world.bus, &event("acme2", 2)).await;
    assert!(matches!(refused, Err(Refusal::Denied { .. })), "{refused:?}");
    let newest = world.bus.newest(&event("acme2", 1).pair).await.expect("answered");
    assert_eq!(newest, Some(event("acme2", 1)), "what was refused is not told either");
    publish(&world.bus, &event("acme", 1)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_passed_over() {
    let Some(world) = open().await else { return };
    let mut reader = world.bus.subscribe(&tenant("acme"));
    publish(&world.bus, &event("acme", 1)).await;
    for strange in [
        "XADD kb.acme * schema 9 event rotation.exploded",
        "XADD kb.acme * x y",
        // About somebody else, though it lies in this tenant's stream.
        "XADD kb.acme * schema 1 event rotation.failed tenant acme2 provider openai rotation 1 rev 5",
    ] {
        let _: String = world.server.admin(strange);
    }
    publish(&world.bus, &event("acme", 2)).await;
    assert_eq!(next(&mut reader).await.rev.0, 1);
    assert_eq!(next(&mut reader).await.rev.0, 2);
}
