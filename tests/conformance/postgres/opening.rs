//! Opening a store in Postgres: what is refused, and what it says.

use keybaton_adapters::postgres::{Postgres, PostgresError, PostgresSettings};
use keybaton_adapters::store::MasterKey;
use keybaton_tests::conformance::records::{Writer, pair};

use crate::postgres::{key, open_at, shared};

/// The error, and that it says what to do.
async fn refused(settings: &PostgresSettings, key: MasterKey, remedy: &str) -> PostgresError {
    let error = Postgres::open(settings, key).await.err().expect("refused");
    assert!(error.to_string().contains(remedy), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_opened_again_has_everything() {
    let Some(place) = shared() else { return };
    let settings = place.settings(&place.database());
    let first = open_at(&settings).await.expect("a new store");
    let writer = Writer::provisioned(first.journal.clone(), "n1", pair("acme"), 1).await;
    let (deployment, now) = (first.deployment.clone(), first.clock.now());
    drop(first);
    let second = open_at(&settings).await.expect("the same store");
    assert_eq!(second.deployment, deployment);
    assert!(second.clock.now() >= now, "store time does not go back");
    let stored = second.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, writer.record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_never_shown() {
    let Some(place) = shared() else { return };
    let mut settings = place.settings(&place.database());
    let wrong = place.server.server().home().write("wrong", "not the word").expect("a file");
    settings.password_file = Some(wrong);
    let error = refused(&settings, key(), "password file").await;
    assert!(matches!(error, PostgresError::Login(_)), "{error:?}");
    assert!(!format!("{error:?} {settings:?}").contains("not the word"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_key_opens_nothing() {
    let Some(place) = shared() else { return };
    let settings = place.settings(&place.database());
    open_at(&settings).await.expect("a new store");
    let other = MasterKey::from_bytes([8; 32]);
    let error = refused(&settings, other, "use the key it was created with").await;
    assert!(matches!(error, PostgresError::WrongKey), "{error:?}");
    open_at(&settings).await.expect("the right key opens it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_and_left_alone() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let settings = place.settings(&database);
    open_at(&settings).await.expect("a new store");
    let sql = "insert into keybaton.migration (number) values (77)";
    place.server.query_as_admin_in(&database, sql).expect("written");
    let error = refused(&settings, key(), "run the newer keybaton").await;
    assert!(matches!(error, PostgresError::NewerSchema { found: 77, .. }), "{error:?}");
    let count = "select count(*) from keybaton.migration";
    let rows = place.server.query_as_admin_in(&database, count).expect("read");
    assert_eq!(rows, [[Some("6".to_owned())]], "five migrations and the strange one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loses_what_it_acknowledged_is_refused() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let sql = format!("alter database {database} set synchronous_commit = off");
    place.server.query_as_admin(&sql).expect("set");
    refused(&place.settings(&database), key(), "synchronous_commit = off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_refused() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let sql = format!("alter database {database} set default_transaction_read_only = on");
    place.server.query_as_admin(&sql).expect("set");
    let error = refused(&place.settings(&database), key(), "name the primary").await;
    assert!(matches!(error, PostgresError::ReadOnly(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_said_to_be_away() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("bound");
    drop(nobody);
    let settings = PostgresSettings::new(format!("postgres://nobody@{address}/nothing"));
    let error = refused(&settings, key(), "check that it runs").await;
    assert!(matches!(error, PostgresError::Unavailable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bare_commit_costs_is_measured_beside_a_store_and_leaves_nothing() {
    let Some(place) = shared() else { return };
    let settings = place.settings(&place.database());
    let store = open_at(&settings).await.expect("a new store");
    let writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let times = settings.bare_commits(5, 2000).await.expect("measured");
    assert_eq!(times.len(), 5);
    assert!(times.iter().all(|time| !time.is_zero()), "{times:?}");
    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, writer.record);
    let database = settings.url.rsplit('/').next().expect("a database");
    let left = "select 1 from pg_namespace where nspname = 'keybaton_bare'";
    let left = place.server.query_as_admin_in(database, left).expect("asked");
    assert!(left.is_empty(), "{left:?}");
}
