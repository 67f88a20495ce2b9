//! One process at a time works on a store in Postgres.

use keybaton_adapters::postgres::{Postgres, PostgresError, PostgresSettings, Reservation};
use keybaton_tests::harness::soon;

use crate::postgres::{Place, key, open_at, shared};

/// What a reserving session calls itself, as SQL.
const RESERVES: &str = "application_name like 'keybaton %'";

async fn reserved(settings: &PostgresSettings) -> (Postgres, Reservation) {
    let store = open_at(settings).await.expect("a store");
    let reservation = store.reserve().await.expect("nobody else is there");
    (store, reservation)
}

/// Ends the session that reserves the database, and says which it was.
fn end_session(place: &Place, database: &str) -> Option<String> {
    let sql = format!(
        "select pid, pg_terminate_backend(pid, 10000) from pg_stat_activity
         where datname = '{database}' and {RESERVES}"
    );
    let rows = place.server.query_as_admin(&sql).expect("an administrator may");
    rows.first().and_then(|row| row[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_until_the_first_has_ended() {
    let Some(place) = shared() else { return };
    let settings = place.settings(&place.database());
    let (first, reservation) = reserved(&settings).await;
    let second = open_at(&settings).await.expect("opening alone takes nothing");
    let refused = second.reserve().await.err().expect("refused");
    assert!(matches!(refused, PostgresError::InUse { .. }), "{refused:?}");
    assert!(refused.to_string().contains("127.0.0.1"), "it says from where: {refused}");
    assert!(reservation.lost().borrow().is_none());
    drop((first, reservation));
    second.reserve().await.expect("the first has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_whose_session_broke_is_taken_anew() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let (_store, reservation) = reserved(&place.settings(&database)).await;
    let ended = end_session(place, &database).expect("a session");
    let again = || {
        let sql = format!(
            "select pid from pg_locks join pg_stat_activity using (pid)
             where datname = '{database}' and {RESERVES} and locktype = 'advisory' and granted"
        );
        let rows = place.server.query_as_admin(&sql)?;
        let pid = rows.first().and_then(|row| row[0].clone());
        anyhow::ensure!(pid.is_some_and(|pid| pid != ended), "not yet");
        Ok(())
    };
    place.server.server().wait_until("reserved again", again).expect("reserved again");
    assert!(reservation.lost().borrow().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_its_reservation_with_another_process_says_that_it_must_end() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let settings = place.settings(&database);
    let (_first, reservation) = reserved(&settings).await;
    let second = open_at(&settings).await.expect("a store");
    let _taken = loop {
        // Either of the two may be the first to ask after the session has ended.
        let (taken, _) = tokio::join!(second.reserve(), async {
            tokio::task::block_in_place(|| end_session(place, &database))
        });
        if let Ok(taken) = taken {
            break taken;
        }
    };
    let mut lost = reservation.lost();
    let told = soon("the loss is told", lost.wait_for(Option::is_some)).await;
    let why = told.expect("the first one looks").clone().expect("a reason");
    assert!(why.contains("another keybaton process"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_makes_nothing() {
    let Some(place) = shared() else { return };
    let settings = place.settings(&place.database());
    let looking = PostgresSettings { create: false, ..settings.clone() };
    let refused = Postgres::open(&looking, key()).await.err().expect("there is no store");
    assert!(matches!(refused, PostgresError::Missing), "{refused:?}");
    let (_store, _reservation) = reserved(&settings).await;
    let look = Postgres::open(&looking, key()).await.expect("a store that is in use");
    assert!(look.journal.pairs().await.expect("read").is_empty());
    look.check_roles().await.expect("the user may make roles");
}
