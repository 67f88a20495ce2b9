//! Entries of many tasks are appended together, and each one ends as if it had been alone.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use keybaton_messages::TaskKey;
use keybaton_ports::{TaskError, TaskJournal};
use keybaton_servers::postgres::DATABASE;
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::records::{Writer, pair};
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use keybaton_tests::harness::PATIENCE;

use crate::postgres::faults::{session, until};
use crate::postgres::{Place, open_at, shared};

/// More than go in one batch while nothing else is under way.
const TASKS: usize = 40;

const WAITING: &str = "select count(*) from pg_locks where not granted";

async fn owners(tasks: &Arc<dyn TaskJournal>) -> Vec<Owner> {
    let claims = (0..TASKS).map(|number| async move {
        let key = task(&format!("t{number}"));
        Owner::claim(tasks, &key).await
    });
    join_all(claims).await
}

/// All of them at once; the answers of those that failed.
async fn append(owners: &mut [Owner], n: u64) -> Vec<(TaskKey, TaskError)> {
    let appends = owners.iter_mut().map(|owner| async move {
        let answer = owner.append(result(n)).await;
        (owner.key.clone(), answer)
    });
    let answers = join_all(appends).await;
    answers.into_iter().filter_map(|(key, answer)| Some((key, answer.err()?))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_holds_up_its_own_task_and_no_other() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut all = owners(&store.tasks).await;
    let mut held = all.swap_remove(0);
    let blocker = session(&place, &database).await;
    let hold = "begin; select from keybaton.task where task = 't0' for update";
    blocker.batch_execute(hold).await.expect("held");

    let waits = async {
        let waiting = held.append(result(0));
        let goes_on = async {
            for n in 0..3 {
                assert_eq!(append(&mut all, n).await, []);
            }
            until(&place, &database, WAITING, "1").await;
            blocker.batch_execute("commit").await.expect("let go");
        };
        // The others first, so that it is in one statement with some of them.
        tokio::join!(goes_on, waiting).1
    };
    assert_eq!(waits.await, Ok(()));
    assert_eq!(held.entries().await, [result(0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_written_takes_no_other_along() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut all = owners(&store.tasks).await;
    // Where its first entry should go, there is one already.
    let strange = "insert into keybaton.task_entry values ('acme', 't7', 0, 'strange')";
    place.server.query_as_admin_in(&database, strange).expect("written");

    for n in 0..3 {
        let failed = append(&mut all, n).await;
        assert!(
            matches!(&failed[..], [(key, TaskError::Unavailable(_))] if *key == task("t7")),
            "{failed:?}"
        );
    }
    let together = "select count(distinct xmin::text) < count(*) from keybaton.task_entry";
    let together = place.server.query_as_admin_in(&database, together).expect("read");
    assert_eq!(together, [[Some("t".to_owned())]], "each in a transaction of its own");
    for owner in all.iter().filter(|owner| owner.key != task("t7")) {
        assert_eq!(owner.entries().await, [result(0), result(1), result(2)], "{}", owner.key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_asked_for_twice_at_once_is_written_once() {
    let Some(place) = shared() else { return };
    let store = open_at(&place.settings(&place.database())).await.expect("a new store");
    let all = owners(&store.tasks).await;
    for n in 0..3 {
        let writes = all.iter().map(|owner| owner.write(n, result(n)));
        let writes: Vec<_> = writes.flat_map(|write| [write.clone(), write]).collect();
        let answers = join_all(writes.iter().map(|write| store.tasks.append(write))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    for owner in &all {
        assert_eq!(owner.entries().await, [result(0), result(1), result(2)], "{}", owner.key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_were_on_their_way_when_the_server_was_killed_are_written_once() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let all = owners(&store.tasks).await;
    let writes: Vec<_> = all.iter().map(|owner| owner.write(0, result(0))).collect();
    let blocker = session(&place, &database).await;
    let block = "begin; lock table keybaton.task_entry in exclusive mode";
    blocker.batch_execute(block).await.expect("locked");

    let answers = join_all(writes.iter().map(|write| store.tasks.append(write)));
    let killed = async {
        until(&place, &database, "select count(*) > 0 from pg_locks where not granted", "t").await;
        place.server.kill().expect("killed");
    };
    let (answers, ()) = tokio::join!(answers, killed);
    let is_open = |answer: &Result<(), TaskError>| {
        matches!(answer, Err(TaskError::Unknown(_) | TaskError::Unavailable(_)))
    };
    assert!(answers.iter().all(is_open), "{answers:?}");
    assert!(answers.iter().any(|answer| matches!(answer, Err(TaskError::Unknown(_)))));

    place.server.restart().expect("restarted");
    let deadline = Instant::now() + PATIENCE;
    let mut open = writes;
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "{open:?}");
        let again = join_all(open.iter().map(|write| store.tasks.append(write))).await;
        let mut answers = again.iter();
        open.retain(|_| is_open(answers.next().expect("one for each")));
        assert!(again.iter().all(|answer| answer.is_ok() || is_open(answer)), "{again:?}");
    }
    for owner in &all {
        assert_eq!(owner.entries().await, [result(0)], "{}", owner.key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_look_for_their_rows_by_key_however_few_there_are() {
    let Some(place) = shared() else { return };
    let (few, many) = (scans(place, 2).await, scans(place, 32).await);
    // What else reads whole tables that are so small does not depend on the number of writes.
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < few + 15, "thirty more writes read a table {few} and {many} times");
    }
}

/// How often either table was read from end to end while tasks and pairs were written so many times.
async fn scans(place: &Place, writes: u64) -> Vec<u64> {
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writers = Vec::new();
    for number in 0..10 {
        let (node, pair) = (format!("n{number}"), pair(&format!("t{number}")));
        writers.push(Writer::provisioned(store.journal.clone(), &node, pair, number).await);
    }
    let mut all = owners(&store.tasks).await;
    for n in 0..writes {
        join_all(writers.iter_mut().map(|writer| writer.commit(|_| {}))).await;
        assert_eq!(append(&mut all, n).await, []);
    }
    // Its sessions tell what they counted when they end.
    drop((store, writers, all));
    let open = format!("select count(*) from pg_stat_activity where datname = '{database}'");
    until(place, DATABASE, &open, "0").await;
    let of = "relname in ('pair', 'task') order by relname";
    let found = format!("select idx_scan >= {writes} from pg_stat_user_tables where {of}");
    let yes = || vec![Some("t".to_owned())];
    let rows = place.server.query_as_admin_in(&database, &found).expect("read");
    assert_eq!(rows, [yes(), yes()], "looked up in an index");
    let read = format!("select seq_scan from pg_stat_user_tables where {of}");
    let rows = place.server.query_as_admin_in(&database, &read).expect("read");
    let scans = rows.iter().flatten().flatten().map(|scans| scans.parse().expect("a number"));
    scans.collect()
}
