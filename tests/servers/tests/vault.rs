//! Vault, killed, paused, restarted and sealed, alone and with a real Postgres behind it.

use std::process::Command;
use std::time::Duration;

use keybaton_servers::missing::NOT_RUN;
use keybaton_servers::postgres::{ADMIN, DATABASE};
use keybaton_servers::program::CACHE;
use keybaton_servers::vault::POSTGRES_PLUGIN;
use keybaton_servers::{Postgres, Vault, unless_missing};
use serde_json::json;

/// How long a paused server must say nothing. It answers within milliseconds otherwise.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn what_was_written_survives_a_kill_behind_the_seal() {
    let Some(vault) = unless_missing(Vault::start()) else { return };
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    vault.request_as_root("POST", "sys/mounts/secret", Some(&mount)).expect("mounted");
    let value = json!({ "data": { "key": "k1" } });
    vault.request_as_root("POST", "secret/data/t1/a", Some(&value)).expect("written");
    let address = vault.address();
    vault.kill().expect("killed");
    assert!(vault.request_as_root("GET", "secret/data/t1/a", None).is_err(), "nobody is there");
    vault.restart().expect("restarted");
    assert!(vault.is_sealed().expect("it answers"), "it comes back sealed");
    let read = || vault.request_as_root("GET", "secret/data/t1/a", None);
    let refused = read().expect_err("sealed").to_string();
    assert!(refused.contains("503"), "{refused}");
    vault.unseal().expect("unsealed");
    assert_eq!(read().expect("read")["data"]["data"]["key"], "k1");
    assert_eq!(vault.address(), address);
}

#[test]
fn it_can_be_sealed_while_it_runs() {
    let Some(vault) = unless_missing(Vault::start()) else { return };
    let own = || vault.request(vault.root_token(), "GET", "auth/token/lookup-self", None);
    assert_eq!(own().expect("answered").0, 200);
    vault.seal().expect("sealed");
    assert_eq!(own().expect("answered").0, 503);
    vault.unseal().expect("unsealed");
    assert_eq!(own().expect("answered").0, 200);
    let stranger = vault.request("nobody", "GET", "auth/token/lookup-self", None);
    assert_eq!(stranger.expect("answered").0, 403);
}

#[tokio::test]
async fn while_it_is_paused_clients_hang() {
    let Some(vault) = unless_missing(Vault::start()) else { return };
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let health = || client.get(format!("{}/v1/sys/health", vault.address())).send();
    assert_eq!(health().await.expect("answered").status(), 200);
    vault.pause().expect("paused");
    let mut answer = std::pin::pin!(health());
    assert!(tokio::time::timeout(SILENCE, &mut answer).await.is_err(), "it hangs");
    vault.resume().expect("resumed");
    assert_eq!(answer.await.expect("answered after all").status(), 200);
}

#[test]
fn its_database_engine_makes_and_removes_users_of_postgres() {
    let Some(postgres) = unless_missing(Postgres::start()) else { return };
    let Some(vault) = unless_missing(Vault::start_with_postgres_plugin()) else { return };
    let password = std::fs::read_to_string(postgres.password_file()).expect("there");
    let put = |path: &str, body| vault.request_as_root("POST", path, Some(&body)).expect("done");
    put("sys/mounts/database", json!({ "type": "database" }));
    let port = postgres.port();
    put(
        "database/config/pg",
        json!({
            "plugin_name": POSTGRES_PLUGIN,
            "allowed_roles": "app",
            "connection_url":
                format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/postgres"),
            "username": ADMIN,
            "password": password,
        }),
    );
    let create = "create role \"{{name}}\" with login password '{{password}}' \
                  valid until '{{expiration}}'";
    put(
        "database/roles/app",
        json!({ "db_name": "pg", "creation_statements": [create], "default_ttl": "1h" }),
    );
    let made = vault.request_as_root("GET", "database/creds/app", None).expect("made");
    let word = |name: &str| made["data"][name].as_str().expect("a word").to_owned();
    let login = || postgres.query(&word("username"), &word("password"), DATABASE, "select 1");
    login().expect("the user is there");
    let lease = json!({ "lease_id": made["lease_id"], "sync": true });
    vault.request_as_root("PUT", "sys/leases/revoke", Some(&lease)).expect("revoked");
    assert!(login().is_err(), "the user is gone");
}

/// Runs a test of this file on a machine that has no Vault.
fn without_vault(ci: Option<&str>, list: &std::path::Path) -> bool {
    let empty = tempfile::tempdir().expect("a directory");
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["--exact", "vault::it_can_be_sealed_while_it_runs"])
        .env_remove("CI")
        .envs(ci.map(|ci| ("CI", ci)))
        .env("PATH", empty.path())
        .env(CACHE, empty.path())
        .env(NOT_RUN, list);
    command.output().expect("it runs").status.success()
}

#[test]
fn on_a_machine_without_it_a_test_is_noted_as_not_run_and_fails_in_ci() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("not-run");
    assert!(without_vault(None, &list));
    let line = "vault::it_can_be_sealed_while_it_runs\tVault\t\
                get it with `cargo xtask servers --only vault`\n";
    assert_eq!(std::fs::read_to_string(&list).expect("written"), line);
    assert!(!without_vault(Some("true"), &list));
    assert_eq!(std::fs::read_to_string(&list).expect("there"), line, "nothing was added");
}
