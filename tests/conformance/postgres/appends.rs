//! Entries of many tasks are appended together, and each one ends as if it had been alone.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_messages::TaskKey;
use keybaton_ports::{TaskError, TaskJournal};
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use keybaton_tests::harness::{PATIENCE, soon};

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
    // Who waits for the row waits until it is let go.
    let settings = PostgresSettings { answer_wait_max: 10 * PATIENCE, ..place.settings(&database) };
    let store = open_at(&settings).await.expect("a new store");
    let mut all = owners(&store.tasks).await;
    let mut held = all.swap_remove(0);
    let blocker = session(&place, &database).await;
    let hold = "begin; select from keybaton.task where task = 't0' for update";
    blocker.batch_execute(hold).await.expect("held");

    let waits = async {
        let waiting = held.append(result(0));
        let goes_on = async {
            for n in 0..3 {
                assert_eq!(soon("the others", append(&mut all, n)).await, []);
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
    all.retain(|owner| owner.key != task("t7"));
    let failed = append(&mut all, 3).await;
    assert!(failed.is_empty(), "{failed:?}");
    let together = "select count(distinct xmin::text) < count(*) from keybaton.task_entry";
    let together = place.server.query_as_admin_in(&database, together).expect("read");
    assert_eq!(together, [[Some("t".to_owned())]], "each in a transaction of its own");
    for owner in &all {
        assert_eq!(owner.entries().await, (0..4).map(result).collect::<Vec<_>>(), "{}", owner.key);
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
    let admin = |sql: &str| place.server.query_as_admin(sql).expect(sql);
    let standby = |name| admin(&format!("alter system set synchronous_standby_names = '{name}'"));
    // Written, but not answered before a standby that there is not has it too.
    standby("nobody");
    admin("select pg_reload_conf()");
    until(&place, &database, "select current_setting('synchronous_standby_names')", "nobody").await;

    let answers = join_all(writes.iter().map(|write| store.tasks.append(write)));
    let killed = async {
        let waiting = "select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'";
        until(&place, &database, waiting, "t").await;
        standby("");
        place.server.kill().expect("killed");
    };
    let (answers, ()) = tokio::join!(answers, killed);
    let is_open = |answer: &Result<(), TaskError>| {
        matches!(answer, Err(TaskError::Unknown(_) | TaskError::Unavailable(_)))
    };
    assert!(answers.iter().all(is_open), "{answers:?}");
    assert!(answers.iter().any(|answer| matches!(answer, Err(TaskError::Unknown(_)))));

    place.server.restart().expect("restarted");
    let written = "select count(*) > 0 from keybaton.task_entry";
    until(&place, &database, written, "t").await;
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

/// One entry of a task, and one write of a pair, that do not stand as is said: nothing is written.
const APPEND: &str = "select * from keybaton.append('{acme,acme}', '{t7,t8}', '{77,77}', '{0,0}',
    array['x', 'x']::bytea[], array['x', 'x']::bytea[], '{f,f}', '{f,f}', '{f,f}')";
const WRITE: &str =
    "select keybaton.write('{}', '{}', array_agg(a::keybaton.pair_change), '{}', '{}',
    '{}', '{}', '{}', '{}', '{}', '{}', null)
    from (values ('t7', 'openai', 77::bigint, 0::bigint, 0::bigint, null::bytea, null::bytea,
            0::bigint, 0::bigint, null::text, null::bigint, null::bytea, null::bigint, false,
            null::bytea, null::bytea),
        ('t8', 'openai', 77, 0, 0, null, null, 0, 0, null, null, null, null, false, null, null)) a";

/// Rows with these names, whose order is before those that are looked for.
fn rows(name: &str, to: u32) -> String {
    format!(
        "insert into keybaton.task (tenant, task, born, spec)
             select 'acme', '{name}' || n, '12345678', '' from generate_series(1, {to}) n;
         insert into keybaton.pair (tenant, provider, rev, epoch, touched)
             select '{name}' || n, 'openai', 0, 0, 1 from generate_series(1, {to}) n;"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_looked_up_by_key_also_in_tables_that_were_small_a_moment_ago() {
    // Nobody looks at the tables again once they have grown.
    let unattended = [("autovacuum", "off")];
    let Some(place) = unless_missing(Place::start_with(&unattended)) else { return };
    let database = place.database();
    drop(open_at(&place.settings(&database)).await.expect("a new store"));
    let server = session(&place, &database).await;
    let small = format!("{} analyze keybaton.task, keybaton.pair", rows("t", 200));
    server.batch_execute(&small).await.expect("small tables");
    let ask = async || {
        assert_eq!(server.query(APPEND, &[]).await.expect("nothing is written").len(), 0);
        let lost = server.query(WRITE, &[]).await.expect_err("nothing is written");
        let says = lost.as_db_error().map_or("", |error| error.message());
        assert_eq!(says, "compare-and-set lost: 0 of 2 rows", "{lost:?}");
    };
    ask().await;
    server.batch_execute(&rows("s", 5_000)).await.expect("large tables");
    let read = async || -> i64 {
        let sql = "select pg_stat_force_next_flush()";
        server.execute(sql, &[]).await.expect("told");
        let sql = "select sum(t.seq_tup_read + i.idx_tup_read)::bigint
            from pg_stat_user_tables t join pg_stat_user_indexes i using (relid)
            where indexrelname in ('task_pkey', 'pair_pkey')";
        server.query_one(sql, &[]).await.expect("read").get(0)
    };
    let before = read().await;
    ask().await;
    let rows = read().await - before;
    assert!((4..100).contains(&rows), "{rows} rows were read to find four");
}
