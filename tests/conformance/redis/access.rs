//! Who may do what: the lines that `keybaton redis acl` prints, on a real server.

use keybaton_adapters::buses::{RedisBus, RedisUser};
use keybaton_ports::{Denial, EventBus, Refusal};
use keybaton_tests::conformance::bus::{event, trace};
use keybaton_tests::harness::soon;
use redis::{Cmd, RedisResult, Value};

use super::place::Place;
use super::{next, open, publish, tenant};

fn command(line: &str) -> Cmd {
    let mut command = Cmd::new();
    line.split_whitespace().for_each(|word| {
        command.arg(word);
    });
    command
}

/// What the user of the tenant `acme` is told.
fn told(server: &Place, line: &str) -> RedisResult<Value> {
    server.ask_as_tenant("acme", &command(line))
}

/// The code of a refusal; texts differ between Redis and Valkey.
#[track_caller]
fn assert_not_permitted(server: &Place, line: &str) {
    let refusal = told(server, line).expect_err(line);
    assert_eq!(refusal.code(), Some("NOPERM"), "{line}: {refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_user_hears_its_own_events_and_sees_its_own_pairs() {
    let Some(world) = open().await else { return };
    let acme = tenant("acme");
    let own = RedisBus::new(world.server.settings(RedisUser::Tenant(&acme))).expect("settings");
    own.ping().await.expect("it may sign in");
    let mut reader = own.subscribe(&acme);
    // Within one process who publishes waits for readers; these are two, so the reader must have
    // begun: it has when it hears the first event that it can hear.
    let mut n = 0;
    let heard = loop {
        n += 1;
        publish(&world.bus, &event("acme", n)).await;
        let soon = std::time::Duration::from_millis(100);
        if let Ok(heard) = tokio::time::timeout(soon, next(&mut reader)).await {
            break heard;
        }
    };
    assert_eq!(heard.pair.tenant, acme);
    let newest = own.newest(&heard.pair).await.expect("it may look");
    assert_eq!(newest, Some(event("acme", n)));
    told(&world.server, "XGROUP CREATE kb.acme billing 0").expect("a group of its own");
    let mut member = own.join(&acme, "billing", "only");
    let delivery = soon("an event", member.next()).await.expect("redis answers");
    member.finish(&delivery).await.expect("finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_user_cannot_read_write_or_list_another_tenant() {
    let Some(world) = open().await else { return };
    for name in ["acme", "acme2"] {
        publish(&world.bus, &event(name, 1)).await;
    }
    let server = &world.server;
    let _: String = server.admin("XGROUP CREATE kb.acme2 billing 0");
    told(server, "XRANGE kb.acme - +").expect("its own is permitted");
    for line in [
        "XREAD STREAMS kb.acme2 0",
        "XREAD STREAMS kb.acme kb.acme2 0 0",
        "XREADGROUP GROUP billing x STREAMS kb.acme2 >",
        "XRANGE kb.acme2 - +",
        "XREVRANGE kb.acme2 + -",
        "XLEN kb.acme2",
        "XACK kb.acme2 billing 1-1",
        "XAUTOCLAIM kb.acme2 billing x 0 0",
        "XPENDING kb.acme2 billing",
        "XGROUP CREATE kb.acme2 mine 0",
        "HGET kb.acme2.pairs openai",
        "HGETALL kb.acme2.pairs",
        "HGETALL kb.acme.seen",
        "XADD kb.acme2 * a b",
        "DEL kb.acme2",
    ] {
        assert_not_permitted(server, line);
    }
    let acme = tenant("acme");
    let own = RedisBus::new(server.settings(RedisUser::Tenant(&acme))).expect("settings");
    let foreign = own.newest_of(&tenant("acme2")).await;
    assert!(matches!(foreign, Err(Refusal::Denied { denial: Denial::Admin, .. })), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_user_cannot_name_the_keys_of_others_or_change_its_own() {
    let Some(world) = open().await else { return };
    publish(&world.bus, &event("acme", 1)).await;
    for line in [
        // No key is named in these, so key patterns do not cover them.
        "SCAN 0",
        "SCAN 0 MATCH kb.*",
        "RANDOMKEY",
        "KEYS *",
        "DBSIZE",
        "FLUSHALL",
        "CONFIG GET *",
        "ACL LIST",
        "CLIENT LIST",
        "MONITOR",
        "EVAL return{} 0",
        "SCRIPT FLUSH",
        "PUBLISH kb.acme2 x",
        "SUBSCRIBE kb.acme",
        "PSUBSCRIBE *",
        "INFO",
        // Its own, which the node alone writes.
        "XADD kb.acme * a b",
        "XTRIM kb.acme MAXLEN 0",
        "XDEL kb.acme 1-1",
        "XGROUP DESTROY kb.acme billing",
        "DEL kb.acme",
        "SET kb.acme x",
        "HSET kb.acme.pairs openai x",
        "EXPIRE kb.acme 1",
        "COPY kb.acme kb.acme2",
        "RENAME kb.acme kb.acme2",
    ] {
        assert_not_permitted(&world.server, line);
    }
    let acme = tenant("acme");
    let own = RedisBus::new(world.server.settings(RedisUser::Tenant(&acme))).expect("settings");
    let refused = own.publish(&event("acme", 2), trace()).await;
    assert!(matches!(refused, Err(Refusal::Denied { denial: Denial::Admin, .. })), "{refused:?}");
    let length: usize = world.server.admin("XLEN kb.acme");
    assert_eq!(length, 1, "nothing was added");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_user_sees_no_key_that_is_not_the_buss() {
    let Some(world) = open().await else { return };
    let _: String = world.server.admin("SET somebody.elses secret");
    let node = |line: &str| world.server.ask_as_node::<Value>(&command(line));
    node("XLEN kb.acme").expect("the bus's own");
    for line in
        ["HGETALL somebody.elses", "SCAN 0", "RANDOMKEY", "KEYS *", "DBSIZE", "CONFIG GET *"]
    {
        let refusal = node(line).expect_err(line);
        assert_eq!(refusal.code(), Some("NOPERM"), "{line}: {refusal}");
    }
    let script = "EVAL return(redis.call('HGETALL',KEYS[1])) 1 somebody.elses";
    let refusal = node(script).expect_err("a script has its user's rights");
    assert!(refusal.to_string().contains("permission"), "{refusal}");
}
