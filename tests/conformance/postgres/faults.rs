//! The server fails while the journal writes: killed, paused, slow, full, cut off, read-only, without
//! its standby. Nothing is lost, nothing is written twice, nothing is guessed.

use std::time::{Duration, Instant};

use keybaton_adapters::postgres::Postgres;
use keybaton_messages::{EventKind, Rev};
use keybaton_ports::{CommitError, Refusal, Transaction};
use keybaton_rotation::AuditKind;
use keybaton_servers::postgres::{ADMIN, DATABASE, Rows};
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::journal::chain;
use keybaton_tests::conformance::records::{Writer, audit_entry, pair};
use keybaton_tests::harness::PATIENCE;
use tokio::task::JoinHandle;

use crate::postgres::{Place, open_at, shared};

/// How long an answer takes at a server that is slow and well.
const SLOWNESS: Duration = Duration::from_secs(5);

/// Looks again and again until the server's answer is this one.
async fn until(place: &Place, database: &str, sql: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    let wanted: Rows = vec![vec![Some(wanted.to_owned())]];
    loop {
        let rows = place.server.query_as_admin_in(database, sql).expect("read");
        if rows == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {rows:?}");
        tokio::task::yield_now().await;
    }
}

/// A session of one's own, to stand in the way.
async fn session(place: &Place, database: &str) -> tokio_postgres::Client {
    let mut config: tokio_postgres::Config =
        place.server.url(ADMIN, database).parse().expect("an address");
    config.password(place.server.password());
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a session");
    // It ends with the client or with the server; either is meant.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// A transaction that leaves a trace in every table.
fn traced(writer: &mut Writer) -> Transaction {
    writer.next(|transaction| {
        transaction.audit = vec![audit_entry(AuditKind::Triggered, "trace")];
        transaction.outbox = vec![(EventKind::Initiated, None, None)];
    })
}

fn commit(store: &Postgres, transaction: &Transaction) -> JoinHandle<Result<Rev, CommitError>> {
    let (journal, transaction) = (store.journal.clone(), transaction.clone());
    tokio::spawn(async move { journal.commit(transaction).await })
}

/// Asks the same transaction again until it is answered for certain.
async fn ask_again(store: &Postgres, transaction: &Transaction) -> Result<Rev, CommitError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.journal.commit(transaction.clone()).await {
            Err(CommitError::Unknown(_) | CommitError::Unavailable(_))
                if Instant::now() < deadline => {}
            answer => return answer,
        }
    }
}

/// Revision 2 is there, with one trace of it.
async fn is_written_once(store: &Postgres) {
    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record.rev, Rev(2));
    assert_eq!(chain(&*store.journal, "acme").await.len(), 1);
    assert_eq!(store.journal.outbox(&pair("acme")).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_inside_a_transaction_writes_nothing_and_the_same_transaction_succeeds_later() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);

    // Somebody holds the pair's row: the transaction waits in the middle, its commit behind it.
    let blocker = session(&place, &database).await;
    let block = "begin; select from keybaton.pair for update";
    blocker.batch_execute(block).await.expect("locked");
    let written = commit(&store, &transaction);
    let waiting = "select count(*) from pg_locks where not granted";
    until(&place, &database, waiting, "1").await;
    place.server.kill().expect("killed");
    let answer = written.await.expect("no panic");
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    let away = store.journal.commit(transaction.clone()).await;
    assert!(matches!(away, Err(CommitError::Unavailable(_))), "{away:?}");
    let reading = store.journal.load(&pair("acme")).await;
    assert!(matches!(reading, Err(Refusal::Busy { .. })), "{reading:?}");
    drop(blocker);

    place.server.restart().expect("restarted");
    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record.rev, Rev(1), "the transaction was not whole");
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_said_to_be_away_in_time_and_all_goes_on_afterwards() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let store = open_at(&place.impatient(&place.database())).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    place.server.pause().expect("paused");
    let (asked, at) = (transaction.clone(), pair("acme"));
    let (written, read, preflight) = tokio::join!(
        store.journal.commit(asked),
        store.journal.load(&at),
        store.checkpoints.preflight(),
    );
    let is_away = matches!(written, Err(CommitError::Unavailable(_) | CommitError::Unknown(_)));
    assert!(is_away, "{written:?}");
    assert!(matches!(read, Err(Refusal::Busy { .. })), "{read:?}");
    assert!(preflight.is_err());
    place.server.resume().expect("resumed");
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_made_anew() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    let cut = format!(
        "select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity
         where datname = '{database}'"
    );
    place.server.query_as_admin(&cut).expect("cut");
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_read_only_refuses_without_a_doubt() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    let turn = |to: &str| {
        let sql = format!(
            "alter database {database} set default_transaction_read_only = {to};
             select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where datname = '{database}'"
        );
        place.server.query_as_admin(&sql).expect("turned");
    };
    turn("on");
    let gone = format!("select count(*) from pg_stat_activity where datname = '{database}'");
    until(place, DATABASE, &gone, "0").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.journal.commit(transaction.clone()).await {
            Err(CommitError::Unavailable(why)) if why.contains("writes") => break,
            // A connection that was cut and not yet found out.
            Err(CommitError::Unavailable(_)) if Instant::now() < deadline => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(store.checkpoints.preflight().await.is_err());
    turn("off");
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_a_standby_keeps_waiting_is_unknown_and_recognised_later() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let store = open_at(&place.impatient(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    let admin = |sql: &str| place.server.query_as_admin(sql).expect(sql);
    let standby = |name: &str| {
        admin(&format!("alter system set synchronous_standby_names = '{name}'"));
        admin("select pg_reload_conf()");
    };
    let now = "select current_setting('synchronous_standby_names')";

    // A standby that never answers: the primary has the transaction, and says nothing.
    standby("nobody");
    until(&place, &database, now, "nobody").await;
    let answer = store.journal.commit(transaction.clone()).await;
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    standby("");
    until(&place, &database, now, "").await;
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
    writer.record = transaction.record;

    // The wait is cut short by the server itself, which then answers that it has committed.
    let patient = open_at(&place.settings(&database)).await.expect("the same store");
    standby("nobody");
    until(&place, &database, now, "nobody").await;
    let next = writer.next(|_| {});
    let written = commit(&patient, &next);
    let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity
        where wait_event = 'SyncRep'";
    until(&place, &database, cancel, "1").await;
    let answer = written.await.expect("no panic");
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    standby("");
    until(&place, &database, now, "").await;
    assert_eq!(ask_again(&patient, &next).await, Ok(Rev(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_is_waited_for_and_writes_once() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let store = open_at(&place.settings(&place.database())).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    place.server.pause().expect("paused");
    let mut written = commit(&store, &transaction);
    assert!(tokio::time::timeout(SLOWNESS, &mut written).await.is_err(), "it waits");
    place.server.resume().expect("resumed");
    assert_eq!(written.await.expect("no panic"), Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_without_a_doubt_and_still_reads() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    let admin = |sql: &str| place.server.query_as_admin_in(&database, sql).expect(sql);
    // A disk cannot be filled under a test; this is what Postgres says on one that is.
    admin(
        "create function keybaton.disk_full() returns trigger language plpgsql as $$ begin
             raise exception 'could not extend file: No space left on device'
                 using errcode = '53100';
         end $$;
         create trigger disk_full before insert or update on keybaton.pair
             for each statement execute function keybaton.disk_full()",
    );
    let answer = store.journal.commit(transaction.clone()).await;
    let is_sure = matches!(&answer, Err(CommitError::Unavailable(why)) if why.contains("53100"));
    assert!(is_sure, "{answer:?}");
    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record.rev, Rev(1), "nothing was written");
    admin("drop function keybaton.disk_full() cascade");
    assert_eq!(ask_again(&store, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}
