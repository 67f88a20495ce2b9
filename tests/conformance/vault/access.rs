//! The printed policies on a real Vault: enough for their tenant, and nothing beyond.

use keybaton_adapters::secrets::vault::Role;
use keybaton_ports::{Denial, SecretStore};
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use serde_json::json;

use super::{ask, given, is_denied, new_prefix, path, shared, store, token_of, why};

const ACME: &str = "acme";
const UMBRELLA: &str = "umbrella";

/// Everything that can be asked of one path of the engine: method, tree, body.
fn attempts() -> Vec<(&'static str, &'static str, Option<serde_json::Value>)> {
    let value = json!({ "data": { "value": "sk-stolen" }, "options": { "cas": 1 } });
    let versions = json!({ "versions": [1] });
    vec![
        ("GET", "data", None),
        ("POST", "data", Some(value)),
        ("DELETE", "data", None),
        ("GET", "metadata", None),
        ("POST", "metadata", Some(json!({ "max_versions": 1 }))),
        ("DELETE", "metadata", None),
        ("LIST", "metadata", None),
        ("GET", "subkeys", None),
        ("POST", "delete", Some(versions.clone())),
        ("POST", "undelete", Some(versions.clone())),
        ("POST", "destroy", Some(versions)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_token_neither_reads_nor_writes_nor_lists_another_tenant() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let all = store(server, &prefix, given(server.root_token()));
    for name in [ACME, UMBRELLA] {
        let meta = meta(&pair(name), Some(label(1)), "key_1");
        all.put(&meta, &secret(&format!("sk-{name}"))).await.expect("stored");
    }
    for role in [Role::Broker, Role::Rotator] {
        let token = token_of(server, &prefix, &[ACME], role);
        let asked = |method: &str, path: &str, body| ask(server, &token, method, path, body);
        for (method, tree, body) in attempts() {
            let (status, said) = asked(method, &path(tree, &prefix, UMBRELLA), body);
            assert_eq!(status, 403, "{} {method} {tree}: {said}", role.word());
        }
        for folder in ["", "tenants/", "tenants/umbrella/", "tenants/umbrella/providers/"] {
            let list = format!("kv/metadata/{prefix}/{folder}");
            let (status, said) = asked("LIST", &list, None);
            assert_eq!(status, 403, "{} LIST {list}: {said}", role.word());
        }
        // The same questions about its own tenant are answered, or the test would prove nothing.
        let own = asked("GET", &path("data", &prefix, ACME), None);
        assert_eq!(own.0, 200, "{}", own.1);
        assert_eq!(own.1["data"]["data"]["value"], "sk-acme");
        let own = store(server, &prefix, given(&token));
        let version = keybaton_messages::SecretVersion(1);
        assert!(own.read(&pair(ACME), version).await.is_ok());
        assert!(is_denied(&own.read(&pair(UMBRELLA), version).await, Denial::Admin));
    }
    let theirs = all.read(&pair(UMBRELLA), keybaton_messages::SecretVersion(1)).await;
    assert!(theirs.expect("untouched").secret.is_same(&secret("sk-umbrella")));
    assert_eq!(all.list(&pair(UMBRELLA)).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_reads_and_changes_nothing() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let rotator = store(server, &prefix, given(&token_of(server, &prefix, &[ACME], Role::Rotator)));
    let first = meta(&pair(ACME), Some(label(1)), "key_1");
    let version = rotator.put(&first, &secret("sk-one")).await.expect("stored");
    let token = token_of(server, &prefix, &[ACME], Role::Broker);
    let broker = store(server, &prefix, given(&token));
    let read = broker.read(&pair(ACME), version).await.expect("stored");
    assert!(read.secret.is_same(&secret("sk-one")));
    let second = meta(&pair(ACME), Some(label(2)), "key_2");
    assert!(is_denied(&broker.put(&second, &secret("sk-two")).await, Denial::Admin));
    assert!(is_denied(&broker.destroy(&pair(ACME), version).await, Denial::Admin));
    let asked = |method: &str, path: &str, body| ask(server, &token, method, path, body);
    for (method, tree, body) in attempts().into_iter().filter(|it| it.0 != "GET") {
        let (status, said) = asked(method, &path(tree, &prefix, ACME), body);
        assert_eq!(status, 403, "{method} {tree}: {said}");
    }
    assert_eq!(rotator.list(&pair(ACME)).await, Ok(vec![(version, first)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_says_which_right_is_missing_before_a_key_is_issued() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let token = token_of(server, &prefix, &[ACME], Role::Rotator);
    let rotator = store(server, &prefix, given(&token));
    assert_eq!(rotator.preflight(&pair(ACME)).await, Ok(()));
    let text = why(rotator.preflight(&pair(UMBRELLA)).await);
    assert!(text.contains("keybaton vault policy --tenant umbrella"), "{text}");
    let token = token_of(server, &prefix, &[ACME], Role::Broker);
    let broker = store(server, &prefix, given(&token));
    let text = why(broker.preflight(&pair(ACME)).await);
    assert!(text.contains("may not create"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_is_not_there_is_said_so_and_nothing_is_guessed() {
    let Some(server) = shared() else { return };
    let mut settings = super::settings(server, "p", given(server.root_token()));
    "nowhere".clone_into(&mut settings.mount);
    let lost = keybaton_adapters::secrets::vault::VaultSecrets::new(settings).expect("fits");
    let meta = meta(&pair(ACME), Some(label(1)), "key_1");
    let text = why(lost.put(&meta, &secret("sk-one")).await);
    assert!(text.contains("check mount, prefix and namespace"), "{text}");
    assert!(lost.preflight(&pair(ACME)).await.is_err());
    let destroyed = lost.destroy(&pair(ACME), keybaton_messages::SecretVersion(1)).await;
    assert!(destroyed.is_err(), "nothing was destroyed there");
    let read = lost.read(&pair(ACME), keybaton_messages::SecretVersion(1)).await;
    assert!(is_denied(&read, Denial::BadRequest), "not the same as a version that is gone");
    assert!(lost.find(&pair(ACME), &label(1)).await.is_err(), "and not the same as no such label");
}
