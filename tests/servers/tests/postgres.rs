//! Postgres, killed, paused and restarted.

use std::time::Duration;

use keybaton_servers::postgres::{ADMIN, DATABASE, Rows};
use keybaton_servers::{Postgres, unless_missing};
use tokio_postgres::NoTls;

/// How long a paused server must say nothing. It answers within a millisecond otherwise.
const SILENCE: Duration = Duration::from_millis(300);

fn one(text: &str) -> Rows {
    vec![vec![Some(text.to_owned())]]
}

#[test]
fn what_was_committed_survives_a_kill() {
    let Some(postgres) = unless_missing(Postgres::start()) else { return };
    let port = postgres.port();
    postgres.query_as_admin("create table t (n int); insert into t values (7)").expect("made");
    postgres.kill().expect("killed");
    assert!(postgres.query_as_admin("select n from t").is_err(), "nobody is there");
    postgres.restart().expect("restarted");
    assert_eq!(postgres.query_as_admin("select n from t").expect("read"), one("7"));
    assert_eq!(postgres.port(), port);
    let clean = |text: &str| postgres.server().log().matches(text).count();
    assert_eq!(clean("database system was not properly shut down"), 1, "that was a kill");
}

#[test]
fn a_polite_stop_needs_no_recovery() {
    let Some(postgres) = unless_missing(Postgres::start()) else { return };
    postgres.query_as_admin("create table t (n int); insert into t values (7)").expect("made");
    postgres.stop().expect("stopped");
    postgres.restart().expect("restarted");
    assert_eq!(postgres.query_as_admin("select n from t").expect("read"), one("7"));
    assert!(!postgres.server().log().contains("not properly shut down"));
}

#[tokio::test]
async fn while_it_is_paused_open_sessions_and_new_ones_hang() {
    let Some(postgres) = unless_missing(Postgres::start()) else { return };
    let password = std::fs::read_to_string(postgres.password_file()).expect("there");
    let mut config: tokio_postgres::Config =
        postgres.url(ADMIN, DATABASE).parse().expect("a url of Postgres");
    config.password(password);
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    tokio::spawn(connection);
    client.simple_query("select 1").await.expect("answered");
    postgres.pause().expect("paused");
    let mut answer = std::pin::pin!(client.simple_query("select 2"));
    let mut newcomer = std::pin::pin!(config.connect(NoTls));
    assert!(tokio::time::timeout(SILENCE, &mut answer).await.is_err(), "an open session hangs");
    assert!(tokio::time::timeout(SILENCE, &mut newcomer).await.is_err(), "a new one hangs");
    postgres.resume().expect("resumed");
    answer.await.expect("answered after all");
    let _connected = newcomer.await.expect("connected after all");
}

#[test]
fn a_wrong_password_is_refused() {
    let Some(postgres) = unless_missing(Postgres::start()) else { return };
    let refused = postgres.query(ADMIN, "wrong", DATABASE, "select 1");
    let text = format!("{:#}", refused.expect_err("refused"));
    assert!(text.contains("password authentication failed"), "{text}");
}

#[test]
fn settings_of_a_test_are_in_force() {
    let settings = [("default_transaction_read_only", "on")];
    let Some(postgres) = unless_missing(Postgres::start_with(&settings)) else { return };
    let refused = postgres.query_as_admin("create table t (n int)");
    let text = format!("{:#}", refused.expect_err("refused"));
    assert!(text.contains("read-only"), "{text}");
    let version = postgres.query_as_admin("show server_version").expect("answered");
    let version = version[0][0].as_deref().expect("not null");
    assert!(version.starts_with(postgres.version()), "{version}");
}

#[test]
fn two_servers_do_not_meet() {
    let Some(first) = unless_missing(Postgres::start()) else { return };
    let Some(second) = unless_missing(Postgres::start()) else { return };
    assert_ne!(first.port(), second.port());
    first.query_as_admin("create table t (n int)").expect("made");
    assert!(second.query_as_admin("select n from t").is_err());
}
