//! Groups of readers that share a tenant's events.

use std::collections::BTreeSet;
use std::time::Duration;

use keybaton_adapters::buses::{GroupMember, RedisBus, RedisUser};
use keybaton_tests::conformance::bus::{event, trace};
use keybaton_tests::harness::soon;

use super::place::Place;
use super::{open, publish, tenant};

/// The server has made the group when it is listed.
async fn group_is_there(server: &Place) {
    let listed = async {
        loop {
            let groups: Vec<redis::Value> = match server.admin::<bool>("EXISTS kb.acme") {
                true => server.admin("XINFO GROUPS kb.acme"),
                false => Vec::new(),
            };
            if !groups.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon("the group", listed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_goes_to_one_member_with_its_trace() {
    const MANY: u64 = 300;
    let Some(world) = open().await else { return };
    let bus = &world.bus;
    let mut first = bus.join(&tenant("acme"), "billing", "first");
    let mut second = bus.join(&tenant("acme"), "billing", "second");
    let publishing = async {
        group_is_there(&world.server).await;
        for n in 1..=MANY {
            publish(bus, &event("acme", n)).await;
        }
    };
    let mut heard = Vec::new();
    let reading = async {
        while heard.len() < usize::try_from(MANY).expect("fits") {
            let (delivery, member) = tokio::select! {
                delivery = first.next() => (delivery, &mut first),
                delivery = second.next() => (delivery, &mut second),
            };
            let delivery = delivery.expect("redis answers");
            assert_eq!(delivery.trace, Some(trace()));
            member.finish(&delivery).await.expect("finished");
            heard.push(delivery.event.rev.0);
        }
    };
    soon("every event", async { tokio::join!(publishing, reading) }).await;
    let different: BTreeSet<_> = heard.iter().copied().collect();
    assert_eq!(different, (1..=MANY).collect(), "all, and none twice: {heard:?}");
    let pending: (u64, redis::Value, redis::Value, redis::Value) =
        world.server.admin("XPENDING kb.acme billing");
    assert_eq!(pending.0, 0, "what is finished is not given out again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_has_not_finished_goes_to_another_one() {
    let Some(server) = Place::start() else { return };
    let settings = server.settings(RedisUser::Node).claim_after(Duration::from_millis(50));
    let bus = RedisBus::new(settings).expect("settings");
    let mut first = member_ready(&server, &bus, "first").await;
    for n in 1..=3 {
        publish(&bus, &event("acme", n)).await;
    }
    let taken = soon("an event", first.next()).await.expect("redis answers");
    assert_eq!(taken.event, event("acme", 1));
    first.finish(&taken).await.expect("finished");
    let left = soon("an event", first.next()).await.expect("redis answers");
    assert_eq!(left.event, event("acme", 2));
    // It dies with the second and the third in its hands.
    drop(first);
    let mut second = bus.join(&tenant("acme"), "billing", "second");
    for n in 2..=3 {
        let claimed = soon("what was left", second.next()).await.expect("redis answers");
        assert_eq!(claimed.event, event("acme", n));
        second.finish(&claimed).await.expect("finished");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_the_server_lost_is_made_again_and_reads_what_is_there() {
    let Some(server) = Place::start_forgetful() else { return };
    let bus = server.bus();
    let mut reader = member_ready(&server, &bus, "only").await;
    publish(&bus, &event("acme", 1)).await;
    let first = soon("an event", reader.next()).await.expect("redis answers");
    assert_eq!(first.event.rev.0, 1);
    server.restart();
    let again = server.bus();
    publish(&again, &event("acme", 2)).await;
    let found = async {
        loop {
            // The first question finds the old connection broken.
            if let Ok(delivery) = reader.next().await {
                return delivery;
            }
        }
    };
    assert_eq!(soon("an event", found).await.event.rev.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_no_event_is_passed_over_for_good() {
    let Some(world) = open().await else { return };
    let mut reader = member_ready(&world.server, &world.bus, "only").await;
    let _: String = world.server.admin("XADD kb.acme * schema 9 event rotation.exploded");
    publish(&world.bus, &event("acme", 1)).await;
    let delivery = soon("an event", reader.next()).await.expect("redis answers");
    assert_eq!(delivery.event.rev.0, 1);
    let pending: (u64, redis::Value, redis::Value, redis::Value) =
        world.server.admin("XPENDING kb.acme billing");
    assert_eq!(pending.0, 1, "the event alone is pending");
}

/// A member whose group is there.
async fn member_ready(server: &Place, bus: &RedisBus, name: &str) -> GroupMember {
    let mut joined = bus.join(&tenant("acme"), "billing", name);
    tokio::select! {
        _ = joined.next() => panic!("there is nothing yet"),
        () = group_is_there(server) => {}
    }
    joined
}
