//! Whatever the provider does wrong, one key lives in the end and no agent notices.
//!
//! Every fault of the provider, under both classes and in an emergency, with agents at work.

use futures::StreamExt;
use keybaton::Class;
use keybaton_tests::harness::{PROVIDER, Place, Role, Setup, World, soon};

/// The faults, each on the one call of the rotation where it hurts.
const FAULTS: [(&str, &str); 12] = [
    ("ack-lost", "issue@acme:1=ack-lost"),
    ("dropped", "issue@acme:1=dropped"),
    ("late", "issue@acme:1=late:300"),
    ("rate-limited", "issue@acme:1=rate-limited:200"),
    ("server-error", "issue@acme:1=server-error"),
    ("truncated", "issue@acme:1=truncated"),
    ("bad-key", "issue@acme:1=bad-key"),
    ("foreign-key", "issue@acme:1=foreign-key"),
    ("void-on-issue", "issue@acme:1=void-on-issue"),
    ("quota", "issue@acme:1=quota"),
    ("eventual-list", "issue@acme:1=eventual-list:700"),
    ("slow-revoke", "revoke@acme:1=slow-revoke:400"),
];

/// Agents of the rotated tenant; half as many belong to another one, which must notice nothing.
const AGENTS: u64 = 12;
const BYSTANDERS: u64 = 4;

/// Worlds at the same time: two cores have room for this many.
const AT_ONCE: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    ClassA,
    ClassB,
    Emergency,
}

async fn survives(fault: &str, script: &str, how: How) {
    let world = World::with(Setup {
        class: if how == How::ClassB { Class::B } else { Class::A },
        ..Setup::default()
    })
    .await;
    for tenant in ["acme", "globex"] {
        world.provision(tenant).await;
    }
    let mut handles = Vec::new();
    for number in 0..AGENTS {
        let name = format!("agent-{number}");
        handles.push(world.spawn("acme", &name, Role::mixed(number, 6)).await);
    }
    for number in 0..BYSTANDERS {
        let name = format!("bystander-{number}");
        handles.push(world.spawn("globex", &name, Role::mixed(number, 6)).await);
    }
    world.strings.came("agent-3", 0, Place::After).await;
    world.arm(script);

    let rotation = if how == How::Emergency {
        let asked = world.node().emergency("acme", PROVIDER, "leaked", None);
        soon("an emergency", asked).await.expect("accepted")
    } else {
        world.rotate("acme").await
    };

    world.complete(&rotation).await;
    for handle in handles {
        let name = handle.key().to_string();
        let joined = soon(&name, handle.join()).await;
        joined.unwrap_or_else(|failure| panic!("{fault} {how:?}: {name}: {failure}"));
    }
    world.debts_paid("acme").await;
    // Two cases end a key under its holders: an emergency, which is meant to, and a provider that
    // voids keys without having said so.
    let is_allowed = how == How::Emergency || (how == How::ClassA && fault == "void-on-issue");
    let verdict = world.judge(&["acme"], |rules| {
        rules.allow_repeated_interruptions = is_allowed;
        rules.tasks_expected = Some(AGENTS + BYSTANDERS);
    });
    let verdict = verdict.await;
    assert!(
        verdict.violations.is_empty(),
        "{fault} {how:?}: {}",
        serde_json::to_string_pretty(&verdict).expect("JSON")
    );
    assert!(verdict.old_key_dead, "{fault} {how:?}");
    assert_eq!(verdict.live_keys.expected, verdict.live_keys.found, "{fault} {how:?}");
}

async fn all(how: How) {
    let cases = FAULTS.map(|(fault, script)| survives(fault, script, how));
    let mut running = futures::stream::iter(cases).buffer_unordered(AT_ONCE);
    while running.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_under_class_a() {
    all(How::ClassA).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_under_class_b() {
    all(How::ClassB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_in_an_emergency() {
    all(How::Emergency).await;
}
