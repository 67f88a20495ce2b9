//! Tokens: renewed before they end, replaced when they have ended, never guessed to be good.

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use keybaton_adapters::secrets::vault::{CredentialSource, Login, Role, VaultSecrets};
use keybaton_messages::SecretVersion;
use keybaton_ports::{Denial, Secret, SecretStore};
use keybaton_servers::Vault;
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use keybaton_tests::harness::soon;
use serde_json::{Value, json};

use super::{
    ask, given, is_denied, must, new_prefix, shared, store, token_of, why, write_policies,
};

const ACME: &str = "acme";

/// How often Vault is asked for a state that must come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An AppRole with the rotator's policy; its name is the prefix.
fn approle(server: &Vault, prefix: &str, role: Value) -> Login {
    // It may be enabled already.
    let enable = Some(json!({ "type": "approle" }));
    drop(ask(server, server.root_token(), "POST", "sys/auth/approle", enable));
    let mut role = role;
    role["token_policies"] = json!(write_policies(server, prefix, &[ACME], Role::Rotator));
    must(server, "POST", &format!("auth/approle/role/{prefix}"), Some(role));
    let id = must(server, "GET", &format!("auth/approle/role/{prefix}/role-id"), None);
    let secret_id = must(server, "POST", &format!("auth/approle/role/{prefix}/secret-id"), None);
    let secret_id = secret_id["data"]["secret_id"].as_str().expect("an id");
    Login::AppRole {
        mount: "approle".to_owned(),
        role_id: id["data"]["role_id"].as_str().expect("an id").to_owned(),
        secret_id: CredentialSource::Given(
            Secret::new(secret_id.as_bytes().to_vec()).expect("an id"),
        ),
    }
}

/// Every token of the role, as Vault describes it.
fn tokens_of(server: &Vault, prefix: &str) -> Vec<Value> {
    let listed = must(server, "LIST", "auth/token/accessors", None);
    let accessors = listed["data"]["keys"].as_array().expect("a list").clone();
    let look = |accessor: &Value| {
        let body = json!({ "accessor": accessor });
        // It may end between the two questions.
        let (status, said) =
            ask(server, server.root_token(), "POST", "auth/token/lookup-accessor", Some(body));
        (status == 200).then(|| said["data"].clone())
    };
    let is_ours = |token: &Value| token["meta"]["role_name"] == prefix;
    accessors.iter().filter_map(look).filter(is_ours).collect()
}

/// Revokes all of them.
fn revoke_all(server: &Vault, prefix: &str) -> usize {
    let tokens = tokens_of(server, prefix);
    for token in &tokens {
        let body = json!({ "accessor": token["accessor"] });
        must(server, "POST", "auth/token/revoke-accessor", Some(body));
    }
    tokens.len()
}

async fn put_one(secrets: &VaultSecrets) -> SecretVersion {
    let meta = meta(&pair(ACME), Some(label(1)), "key_1");
    secrets.put(&meta, &secret("sk-one")).await.expect("stored")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_in_place_before_it_ends() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let role = json!({ "token_ttl": "12s", "token_max_ttl": "1h" });
    let secrets = store(server, &prefix, approle(server, &prefix, role));
    let version = put_one(&secrets).await;
    let accessor = tokens_of(server, &prefix)[0]["accessor"].clone();
    let renewed = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if tokens_of(server, &prefix).iter().any(|it| it["last_renewal_time"].is_u64()) {
                return;
            }
        }
    };
    soon("a renewal", renewed).await;
    assert!(secrets.read(&pair(ACME), version).await.is_ok());
    let tokens = tokens_of(server, &prefix);
    assert_eq!(tokens.len(), 1, "it is the same token: {tokens:?}");
    assert_eq!(tokens[0]["accessor"], accessor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_renewed_is_replaced_before_it_ends() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let role = json!({ "token_ttl": "4s", "token_max_ttl": "4s" });
    let secrets = store(server, &prefix, approle(server, &prefix, role));
    let version = put_one(&secrets).await;
    let mut seen = BTreeSet::new();
    let replaced = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        // Nobody calls meanwhile: the store does it by itself.
        while seen.len() < 2 {
            look.tick().await;
            let tokens = tokens_of(server, &prefix);
            seen.extend(tokens.iter().map(|it| it["accessor"].to_string()));
        }
    };
    soon("a new token", replaced).await;
    assert!(secrets.read(&pair(ACME), version).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_revoked_is_replaced_within_the_call_that_notices() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let role = json!({ "token_ttl": "1h" });
    let secrets = store(server, &prefix, approle(server, &prefix, role));
    let version = put_one(&secrets).await;
    for _ in 0..2 {
        assert_eq!(revoke_all(server, &prefix), 1);
        assert!(secrets.read(&pair(ACME), version).await.is_ok());
    }
    assert_eq!(revoke_all(server, &prefix), 1);
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    let second = secrets.put(&two, &secret("sk-two")).await.expect("a write too");
    revoke_all(server, &prefix);
    secrets.destroy(&pair(ACME), second).await.expect("and what the library asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_notice_at_once_log_in_once() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let role = json!({ "token_ttl": "1h" });
    let secrets = store(server, &prefix, approle(server, &prefix, role));
    let version = put_one(&secrets).await;
    revoke_all(server, &prefix);
    let acme = pair(ACME);
    let reads = (0..16).map(|_| secrets.read(&acme, version));
    let answers = futures::future::join_all(reads).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(tokens_of(server, &prefix).len(), 1, "one login served all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_id_that_is_refused_is_a_matter_for_a_person() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let Login::AppRole { mount, role_id, .. } =
        approle(server, &prefix, json!({ "token_ttl": "1h" }))
    else {
        panic!("an AppRole");
    };
    let wrong = Secret::new(b"canary-secret-id".to_vec()).expect("an id");
    let login = Login::AppRole { mount, role_id, secret_id: CredentialSource::Given(wrong) };
    let secrets = store(server, &prefix, login);
    let answer = secrets.preflight(&pair(ACME)).await;
    assert!(is_denied(&answer, Denial::Admin));
    let text = why(answer);
    assert!(text.contains("secret id") && !text.contains("canary"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_token_that_was_revoked_is_refused_until_somebody_gives_another() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let token = token_of(server, &prefix, &[ACME], Role::Rotator);
    let secrets = store(server, &prefix, given(&token));
    let version = put_one(&secrets).await;
    must(server, "POST", "auth/token/revoke", Some(json!({ "token": token })));
    let read = secrets.read(&pair(ACME), version).await;
    assert!(is_denied(&read, Denial::Admin));
    let text = why(read);
    assert!(text.contains("give another") && !text.contains(&token), "{text}");
}

fn write_token(path: &Path, token: &str) {
    use std::io::Write;
    let new = path.with_extension("new");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new);
    file.expect("a file").write_all(token.as_bytes()).expect("written");
    std::fs::rename(new, path).expect("replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_is_read_again_when_its_token_has_ended() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    let first = token_of(server, &prefix, &[ACME], Role::Rotator);
    write_token(&path, &first);
    let login = Login::Token(CredentialSource::File(path.clone()));
    let secrets = store(server, &prefix, login);
    let version = put_one(&secrets).await;
    must(server, "POST", "auth/token/revoke", Some(json!({ "token": first })));
    assert!(is_denied(&secrets.read(&pair(ACME), version).await, Denial::Admin));
    write_token(&path, &token_of(server, &prefix, &[ACME], Role::Rotator));
    assert!(secrets.read(&pair(ACME), version).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_soon_is_refused_before_a_key_is_issued() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let policies = write_policies(server, &prefix, &[ACME], Role::Rotator);
    let body = json!({ "policies": policies, "ttl": "200s", "renewable": false });
    let made = must(server, "POST", "auth/token/create", Some(body));
    let token = made["auth"]["client_token"].as_str().expect("a token");
    let secrets = store(server, &prefix, given(token));
    let text = why(secrets.preflight(&pair(ACME)).await);
    assert!(text.contains("ends in"), "{text}");
    put_one(&secrets).await;
}
