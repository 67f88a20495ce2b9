//! What a test in another process does.

use keybaton_simulator::ledger::{BirthCause, DeathCause, Event};
use reqwest::Method;
use serde_json::json;

use crate::support::{Vendor, text};

#[tokio::test]
async fn scripts_are_armed_seen_and_healed_over_http() {
    let vendor = Vendor::start().await;
    let faults = "/_simulator/faults";
    let scripts = json!([
        "issue@p:1=server-error",
        {
            "op": "issue", "project": "p", "nth": 2, "times": 3,
            "fault": "rate-limited", "millis": 1500,
        },
    ]);
    let (status, armed) = vendor.admin(Method::POST, faults, Some(scripts)).await;
    assert_eq!(status, 200);
    let expected = json!(["issue@p:1=server-error", "issue@p:2x3=rate-limited:1500"]);
    assert_eq!(armed["armed"], expected);
    assert_eq!(vendor.issue("q", "label").await.0, 200, "another project");
    assert_eq!(vendor.issue("p", "label").await.0, 500);
    assert_eq!(vendor.issue("p", "label").await.0, 429);
    assert_eq!(vendor.admin(Method::DELETE, faults, None).await.0, 204);
    assert_eq!(vendor.issue("p", "label").await.0, 200);
    let (_, state) = vendor.admin(Method::GET, "/_simulator/state", None).await;
    assert_eq!(state["scripts"], json!([]));
    assert_eq!(state["keys_alive"], 2);
    vendor.stop().await;
}

#[tokio::test]
async fn a_wrong_script_is_refused_with_the_reason_and_arms_nothing() {
    let vendor = Vendor::start().await;
    let faults = "/_simulator/faults";
    let half_wrong = json!(["issue:1=ack-lost", "issue:1=gone"]);
    let (status, error) = vendor.admin(Method::POST, faults, Some(half_wrong)).await;
    assert_eq!(status, 400);
    assert!(text(&error["error"]["message"]).contains("`gone` is not a fault"), "{error}");
    assert!(vendor.simulator.snapshot().scripts.is_empty());
    vendor.stop().await;
}

#[tokio::test]
async fn a_key_is_seeded_and_killed_over_http() {
    let vendor = Vendor::start().await;
    let seed = json!({"project": "p", "name": "from before", "secret": "sk-mine"});
    let (status, seeded) = vendor.admin(Method::POST, "/_simulator/keys", Some(seed.clone())).await;
    assert_eq!((status, &seeded["value"]), (201, &json!("sk-mine")));
    assert_eq!(vendor.admin(Method::POST, "/_simulator/keys", Some(seed)).await.0, 409);
    assert_eq!(vendor.probe("sk-mine").await, 200);
    let kill = format!("/_simulator/keys/{}/kill", text(&seeded["id"]));
    assert_eq!(vendor.admin(Method::POST, &kill, None).await.0, 204);
    assert_eq!(vendor.probe("sk-mine").await, 401);
    assert_eq!(vendor.admin(Method::POST, "/_simulator/keys/none/kill", None).await.0, 404);
    let events = vendor.events();
    let is_birth = |it: &Event| matches!(it, Event::KeyCreated { cause: BirthCause::Seed, .. });
    let is_death = |it: &Event| matches!(it, Event::KeyDied { cause: DeathCause::Fault, .. });
    assert!(events.iter().any(is_birth) && events.iter().any(is_death));
    vendor.stop().await;
}

#[tokio::test]
async fn the_same_is_done_in_process() {
    let vendor = Vendor::start().await;
    let seeded = vendor.simulator.seed("p", "from before").unwrap();
    assert_eq!(vendor.probe(seeded.secret.expose()).await, 200);
    vendor.simulator.arm("probe:1=forbidden".parse().unwrap()).unwrap();
    vendor.simulator.heal();
    assert_eq!(vendor.probe(seeded.secret.expose()).await, 200);
    assert!(vendor.simulator.kill(&seeded.key_id));
    assert!(!vendor.simulator.kill(&seeded.key_id), "a key dies once");
    assert_eq!(vendor.probe(seeded.secret.expose()).await, 401);
    assert!(vendor.simulator.seed("", "no project").is_err());
    vendor.stop().await;
}
