//! Checkpoints of different tenants: partitions, roles and row security, tried with plain SQL.

use futures::future::join_all;
use keybaton_adapters::postgres::{Postgres, PostgresSettings};
use keybaton_messages::{Checkpoint, TaskKey};
use keybaton_ports::{CheckpointRef, Refusal};
use keybaton_tests::conformance::checkpoints::checkpoint;
use keybaton_tests::conformance::task_entries::task_of;
use keybaton_tests::harness::{PATIENCE, soon};

use crate::postgres::faults::{session, until};
use crate::postgres::{PASSWORD, Place, USER, open_at, shared};

/// One tenant as the server knows it.
struct Tenant {
    partition: String,
    role: String,
}

/// A store with a checkpoint of each of two tenants.
struct Two {
    place: &'static Place,
    database: String,
    acme: Tenant,
    umbrella: Tenant,
    _store: Postgres,
}

impl Two {
    async fn open() -> Option<Self> {
        let place = shared()?;
        let database = place.database();
        let store = open_at(&place.settings(&database)).await.expect("a new store");
        for tenant in ["acme", "umbrella"] {
            let written = checkpoint(&task_of(tenant, "t1"), b"state");
            store.checkpoints.put(&written).await.expect("stored");
        }
        let policies = "select tablename, roles[1], qual from pg_policies order by qual";
        let policies = place.server.query_as_admin_in(&database, policies).expect("read");
        let of = |tenant: &str| {
            let cell = |row: &[Option<String>], at: usize| row[at].clone().expect("a value");
            let row = policies.iter().find(|row| cell(row, 2).contains(tenant)).expect("a policy");
            Tenant { partition: format!("keybaton.{}", cell(row, 0)), role: cell(row, 1) }
        };
        let (acme, umbrella) = (of("acme"), of("umbrella"));
        Some(Self { place, database, acme, umbrella, _store: store })
    }

    /// What comes of `sql` under a role, for keybaton's own user.
    fn ask(&self, sql: &str) -> Result<String, String> {
        let answer = self.place.server.query(USER, PASSWORD, &self.database, sql);
        match answer {
            Ok(rows) => Ok(rows.first().and_then(|row| row[0].clone()).unwrap_or_default()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn as_acme(&self, sql: &str) -> Result<String, String> {
        self.ask(&format!("set role {}; {sql}", self.acme.role))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_role_reaches_its_own_partition_and_nothing_else() {
    let Some(two) = Two::open().await else { return };
    let count = |table: &str| format!("select count(*) from {table}");
    assert_eq!(two.as_acme(&count(&two.acme.partition)), Ok("1".into()));
    let foreign = &two.umbrella.partition;
    for sql in [
        count(foreign),
        format!("insert into {foreign} values ('umbrella', 'k', '')"),
        format!("delete from {foreign}"),
        count("keybaton.checkpoint"),
        count("keybaton.pair"),
        count("keybaton.task"),
        count("keybaton.task_entry"),
        count("keybaton.meta"),
        format!("update {} set body = ''", two.acme.partition),
        format!("drop table {}", two.acme.partition),
    ] {
        let error = two.as_acme(&sql).expect_err(&sql);
        assert!(error.contains("permission denied") || error.contains("must be owner"), "{error}");
    }
    let smuggled = format!("insert into {} values ('umbrella', 'k', '')", two.acme.partition);
    assert!(two.as_acme(&smuggled).is_err(), "a row of another tenant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_security_holds_where_a_privilege_was_given_by_mistake() {
    let Some(two) = Two::open().await else { return };
    let (foreign, role) = (&two.umbrella.partition, &two.acme.role);
    let grant =
        format!("grant usage on schema keybaton to {role}; grant all on {foreign} to {role}");
    two.ask(&grant).expect("granted");
    assert_eq!(two.as_acme(&format!("select count(*) from {foreign}")), Ok("0".into()));
    let delete =
        format!("with gone as (delete from {foreign} returning 1) select count(*) from gone");
    assert_eq!(two.as_acme(&delete), Ok("0".into()));
    let insert = format!("insert into {foreign} values ('umbrella', 'k', '')");
    let error = two.as_acme(&insert).expect_err("refused");
    assert!(error.contains("row-level security"), "{error}");
    let still_there = format!("set role {}; select count(*) from {foreign}", two.umbrella.role);
    assert_eq!(two.ask(&still_there), Ok("1".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keybatons_own_user_sees_no_checkpoint_without_a_tenants_role() {
    let Some(two) = Two::open().await else { return };
    for table in [&two.acme.partition, &two.umbrella.partition, &"keybaton.checkpoint".to_owned()] {
        assert_eq!(two.ask(&format!("select count(*) from {table}")), Ok("0".into()), "{table}");
    }
}

const TENANTS: [&str; 5] = ["acme", "globex", "hooli", "initech", "umbrella"];

/// Ten tasks of each tenant.
fn everybody() -> Vec<TaskKey> {
    let of = |tenant| (0..10).map(move |number| task_of(tenant, &format!("t{number}")));
    TENANTS.into_iter().flat_map(of).collect()
}

/// Puts a checkpoint of each task, all at once.
async fn put(store: &Postgres, tasks: &[TaskKey]) -> Vec<Result<CheckpointRef, Refusal>> {
    let puts = tasks.iter().map(async |task| store.checkpoints.put(&state_of(task)).await);
    join_all(puts).await
}

fn state_of(task: &TaskKey) -> Checkpoint {
    checkpoint(task, task.to_string().as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_tenants_put_at_once_lies_with_each_of_them() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let admin = |sql: &str| place.server.query_as_admin_in(&database, sql).expect(sql);
    let everybody = everybody();
    let puts = put(&store, &everybody).await;

    let together = "select count(distinct xmin::text) < count(*) from keybaton.checkpoint";
    assert_eq!(admin(together), [[Some("t".to_owned())]], "each in a transaction of its own");
    let lying =
        "select count(*), count(distinct tenant) from keybaton.checkpoint group by tableoid";
    let (ten, one) = (Some("10".to_owned()), Some("1".to_owned()));
    assert_eq!(admin(lying), vec![vec![ten, one]; TENANTS.len()]);

    let mut deletions = Vec::new();
    for (task, at) in everybody.iter().zip(puts) {
        let at = at.expect("stored");
        assert_eq!(store.checkpoints.get(task, &at).await, Ok(state_of(task)));
        let checkpoints = store.checkpoints.clone();
        deletions.push(async move { checkpoints.delete(task, &at).await });
    }
    let deleted = join_all(deletions).await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let left = admin("select count(*) from keybaton.checkpoint");
    assert_eq!(left, [[Some("0".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_partition_is_gone_takes_no_other_along() {
    let Some(place) = shared() else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let everybody = everybody();
    put(&store, &everybody).await;
    let drop_it = "do $$ begin execute (select format('drop table keybaton.%I', tablename)
        from pg_policies where qual like '%hooli%'); end $$";
    place.server.query_as_admin_in(&database, drop_it).expect("dropped");

    for (task, put) in everybody.iter().zip(put(&store, &everybody).await) {
        assert_eq!(put.is_err(), task.tenant.as_str() == "hooli", "{task}: {put:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_partition_is_locked_holds_up_no_other() {
    let Some(place) = shared() else { return };
    let database = place.database();
    // Who waits for the lock waits until it is let go.
    let settings = PostgresSettings { answer_wait_max: 10 * PATIENCE, ..place.settings(&database) };
    let store = open_at(&settings).await.expect("a new store");
    let mut everybody = everybody();
    put(&store, &everybody).await;
    let locker = session(place, &database).await;
    let lock = "begin; do $$ begin execute (select format('lock table keybaton.%I', tablename)
        from pg_policies where qual like '%hooli%'); end $$";
    locker.batch_execute(lock).await.expect("locked");

    let of_hooli = everybody.extract_if(.., |task| task.tenant.as_str() == "hooli").next();
    let held = [of_hooli.expect("one of ten")];
    everybody.retain(|task| task.tenant.as_str() != "hooli");
    let others = async {
        for _ in 0..3 {
            let puts = soon("the others", put(&store, &everybody)).await;
            assert!(puts.iter().all(Result::is_ok), "{puts:?}");
        }
        let waiting = format!(
            "select count(*) from pg_locks where not granted and database =
                 (select oid from pg_database where datname = '{database}')"
        );
        until(place, &database, &waiting, "1").await;
        locker.batch_execute("commit").await.expect("unlocked");
    };
    // The others first, so that it is in one statement with some of them.
    let ((), held) = tokio::join!(others, put(&store, &held));
    assert!(held[0].is_ok(), "{held:?}");
}
