//! What the port `EventBus` promises.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use keybaton_messages::{Event, EventKind, Rev, RotationId, TenantId, TraceParent};
use keybaton_ports::{EventBus, EventStream};

use crate::conformance::Has;
use crate::conformance::records::pair;

/// Longest wait for an event that will come.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// Runs every case of the port `EventBus`.
#[macro_export]
macro_rules! bus_conformance {
    ($open:path $(, $there:ident)?) => {
        $crate::conformance_cases! { bus, $open $(, $there)? =>
            every_reader_gets_the_events_of_its_tenant
            what_is_published_twice_is_heard_once_or_twice
            no_event_of_another_tenant_arrives
            an_event_that_nobody_reads_is_published_all_the_same
            a_reader_that_falls_behind_loses_the_oldest_and_stays
        }
    };
}

/// The n-th event of a tenant.
#[must_use]
pub fn event(tenant: &str, n: u64) -> Event {
    Event {
        pair: pair(tenant),
        rotation: RotationId { pair: pair(tenant), n: 1 },
        rev: Rev(n),
        kind: EventKind::Initiated,
        old: None,
        new: None,
    }
}

/// The trace of every event here.
#[must_use]
pub fn trace() -> TraceParent {
    TraceParent::sampled([7; 16], [8; 8])
}

async fn publish(bus: &Arc<dyn EventBus>, tenant: &str, n: u64) {
    bus.publish(&event(tenant, n), trace()).await.expect("published");
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

async fn next(stream: &mut EventStream) -> Event {
    tokio::time::timeout(EVENTUALLY, stream.next())
        .await
        .expect("an event arrives")
        .expect("the bus is open")
}

/// `subscribe`: from the moment of subscribing, in order.
pub async fn every_reader_gets_the_events_of_its_tenant(world: &impl Has<dyn EventBus>) {
    let bus = world.port();
    let mut early = bus.subscribe(&tenant("acme"));
    publish(&bus, "acme", 1).await;
    let mut late = bus.subscribe(&tenant("acme"));
    for n in [2, 3] {
        publish(&bus, "acme", n).await;
    }
    for n in [1, 2, 3] {
        assert_eq!(next(&mut early).await, event("acme", n));
    }
    for n in [2, 3] {
        assert_eq!(next(&mut late).await, event("acme", n));
    }
}

/// `publish`: may be called twice for one event; a reader hears it once or twice.
pub async fn what_is_published_twice_is_heard_once_or_twice(world: &impl Has<dyn EventBus>) {
    let bus = world.port();
    let mut reader = bus.subscribe(&tenant("acme"));
    for n in [1, 2, 2, 3] {
        publish(&bus, "acme", n).await;
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&3) {
        heard.push(next(&mut reader).await.rev.0);
    }
    assert!(heard == [1, 2, 3] || heard == [1, 2, 2, 3], "{heard:?}");
}

/// `subscribe`: no event of another tenant ever arrives.
pub async fn no_event_of_another_tenant_arrives(world: &impl Has<dyn EventBus>) {
    let bus = world.port();
    let mut ours = bus.subscribe(&tenant("acme"));
    let mut theirs = bus.subscribe(&tenant("acme2"));
    for n in 0..10 {
        publish(&bus, "acme2", n).await;
        publish(&bus, "acme", n).await;
    }
    for n in 0..10 {
        assert_eq!(next(&mut ours).await, event("acme", n));
        assert_eq!(next(&mut theirs).await, event("acme2", n));
    }
}

/// `publish`: losing every event costs time, never safety.
pub async fn an_event_that_nobody_reads_is_published_all_the_same(world: &impl Has<dyn EventBus>) {
    let bus = world.port();
    publish(&bus, "acme", 1).await;
    drop(bus.subscribe(&tenant("acme")));
    publish(&bus, "acme", 2).await;
    let mut reader = bus.subscribe(&tenant("acme"));
    publish(&bus, "acme", 3).await;
    assert_eq!(next(&mut reader).await, event("acme", 3));
}

/// `subscribe`: a reader that falls behind loses the oldest events, never the connection.
pub async fn a_reader_that_falls_behind_loses_the_oldest_and_stays(world: &impl Has<dyn EventBus>) {
    const MANY: u64 = 10_000;
    let bus = world.port();
    let mut reader = bus.subscribe(&tenant("acme"));
    for n in 1..=MANY {
        publish(&bus, "acme", n).await;
    }
    let mut last = 0;
    while last < MANY {
        let rev = next(&mut reader).await.rev.0;
        assert!(rev > last, "in order");
        last = rev;
    }
    publish(&bus, "acme", MANY + 1).await;
    assert_eq!(next(&mut reader).await, event("acme", MANY + 1));
}
