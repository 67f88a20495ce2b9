//! The server fails while the journal writes: killed, paused, slow, full, a replica, without its
//! replica, emptied. Nothing that was acknowledged is lost, nothing is written twice, nothing is guessed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keybaton_adapters::journals::RedisStore;
use keybaton_messages::{EventKind, Rev};
use keybaton_ports::{CommitError, Denial, Journal, Refusal, TaskError, TaskJournal, Transaction};
use keybaton_rotation::AuditKind;
use keybaton_servers::redis::{ADMIN, Flavour};
use keybaton_servers::{RedisConfig, unless_missing};
use keybaton_tests::conformance::journal::chain;
use keybaton_tests::conformance::records::{Writer, audit_entry, pair};
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use keybaton_tests::harness::{PATIENCE, soon};
use tokio::sync::watch;

use crate::redis_journal::{Place, open_at};

/// How long an answer takes at a server that is slow and well.
const SLOWNESS: Duration = Duration::from_secs(5);

/// A transaction that leaves a trace in every hash.
fn traced(writer: &mut Writer) -> Transaction {
    writer.next(|transaction| {
        transaction.audit = vec![audit_entry(AuditKind::Triggered, "trace")];
        transaction.outbox = vec![(EventKind::Initiated, None, None)];
    })
}

/// Asks the same transaction again until it is answered for certain.
pub(super) async fn ask_again(
    journal: &dyn Journal,
    transaction: &Transaction,
) -> Result<Rev, CommitError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match journal.commit(transaction.clone()).await {
            Err(CommitError::Unknown(_) | CommitError::Unavailable(_))
                if Instant::now() < deadline =>
            {
                tokio::task::yield_now().await;
            }
            answer => return answer,
        }
    }
}

/// Revision 2 is there, with one trace of it.
async fn is_written_once(store: &RedisStore) {
    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record.rev, Rev(2));
    assert_eq!(chain(&*store.journal, "acme").await.len(), 1);
    assert_eq!(store.journal.outbox(&pair("acme")).await.expect("read").len(), 1);
}

async fn store_with_a_pair(place: &Place) -> (RedisStore, Writer) {
    let store = open_at(&place.impatient(0)).await.expect("a new store");
    let writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    (store, writer)
}

/// Commits to one pair until it is told to stop; each one until its outcome is known. Counts what
/// was acknowledged.
async fn commit_on(
    mut writer: Writer,
    is_over: Arc<AtomicBool>,
    done: watch::Sender<u64>,
) -> Writer {
    let mut n = 0u64;
    while !is_over.load(Ordering::Acquire) {
        n += 1;
        let transaction = writer.next(|transaction| {
            transaction.id = keybaton_messages::TxnId([0; 16]);
            transaction.id.0[..8].copy_from_slice(&n.to_be_bytes());
            transaction.audit = vec![audit_entry(AuditKind::Triggered, &n.to_string())];
        });
        let answer = ask_again(&*writer.journal, &transaction).await;
        assert_eq!(answer, Ok(transaction.record.rev), "the same transaction is recognised");
        writer.record = transaction.record;
        done.send_modify(|done| *done += 1);
    }
    writer
}

/// The same with the entries of a task.
async fn append_on(tasks: Arc<dyn TaskJournal>, name: String, is_over: Arc<AtomicBool>) -> Owner {
    let mut owner = Owner::claim(&tasks, &task(&name)).await;
    while !is_over.load(Ordering::Acquire) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(refusal) = owner.append(result(owner.rev)).await {
            let is_away = matches!(refusal, TaskError::Unknown(_) | TaskError::Unavailable(_));
            assert!(is_away && Instant::now() < deadline, "{refusal:?}");
            tokio::task::yield_now().await;
        }
    }
    owner
}

/// Kills the server again and again while pairs and tasks are written.
async fn nothing_is_lost_by_kills(flavour: Flavour) {
    let Some(place) = unless_missing(Place::start(flavour)) else { return };
    let store = open_at(&place.settings(0)).await.expect("a new store");
    let life = store.journal.begin_life(&"n1".parse().expect("a node")).await.expect("a life");
    let is_over = Arc::new(AtomicBool::new(false));
    let (done, mut seen) = watch::channel(0u64);
    let mut committing = Vec::new();
    let mut appending = Vec::new();
    for n in 0..6u8 {
        let at = pair(&format!("t{n}"));
        let mut writer = Writer::with(store.journal.clone(), life.clone(), at);
        writer.promote(1, n + 1).await;
        committing.push(tokio::spawn(commit_on(writer, is_over.clone(), done.clone())));
        let tasks = store.tasks.clone();
        appending.push(tokio::spawn(append_on(tasks, format!("t{n}"), is_over.clone())));
    }
    for round in 1..=4u64 {
        let enough = round * 40;
        let wait = seen.wait_for(|done| *done >= enough);
        soon("commits", wait).await.expect("they go on");
        place.server.kill().expect("killed");
        place.server.restart().expect("restarted");
    }
    is_over.store(true, Ordering::Release);
    for task in committing {
        let writer = soon("the end", task).await.expect("no panic");
        let at = writer.record.pair.clone();
        let stored = store.journal.load(&at).await.expect("read").expect("written");
        assert_eq!(stored.record, writer.record);
        let audit = chain(&*store.journal, at.tenant.as_str()).await;
        assert_eq!(audit.len() as u64, writer.record.rev.0 - 1, "one record for each commit");
    }
    for task in appending {
        let owner = soon("the end", task).await.expect("no panic");
        let expected: Vec<_> = (0..owner.rev).map(result).collect();
        assert_eq!(owner.entries().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_in_the_middle_and_nothing_acknowledged_is_lost() {
    nothing_is_lost_by_kills(Flavour::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_is_killed_in_the_middle_and_nothing_acknowledged_is_lost() {
    nothing_is_lost_by_kills(Flavour::Valkey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_said_to_be_away_in_time_and_all_goes_on_afterwards() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    let transaction = traced(&mut writer);
    place.server.pause().expect("paused");
    let (asked, at) = (transaction.clone(), pair("acme"));
    let (written, read) = tokio::join!(store.journal.commit(asked), store.journal.load(&at));
    let is_away = matches!(written, Err(CommitError::Unavailable(_) | CommitError::Unknown(_)));
    assert!(is_away, "{written:?}");
    assert!(matches!(read, Err(Refusal::Busy { .. })), "{read:?}");
    place.server.resume().expect("resumed");
    assert_eq!(ask_again(&*store.journal, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_is_waited_for_and_writes_once() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let store = open_at(&place.settings(0)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let transaction = traced(&mut writer);
    place.server.pause().expect("paused");
    let (journal, asked) = (store.journal.clone(), transaction.clone());
    let mut written = tokio::spawn(async move { journal.commit(asked).await });
    assert!(tokio::time::timeout(SLOWNESS, &mut written).await.is_err(), "it waits");
    place.server.resume().expect("resumed");
    assert_eq!(written.await.expect("no panic"), Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_its_replica_is_unknown_and_recognised_later() {
    let Some(place) = unless_missing(Place::start(Flavour::Valkey)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    let mut settings = place.impatient(0);
    settings.replicas_min = 1;
    let replica = || {
        let settings = vec![
            format!("replicaof 127.0.0.1 {}", place.server.port()),
            format!("masteruser {ADMIN}"),
            format!("masterauth {}", place.server.admin_password()),
        ];
        Place::start_with(RedisConfig { flavour: Flavour::Valkey, settings, ..Default::default() })
    };
    let alone = open_at(&settings).await.err().expect("no replica, no write");
    assert!(alone.to_string().contains("0 of 1 replicas"), "{alone}");

    let replica = replica().expect("a replica");
    let with_replica = soon("a replica that follows", async {
        loop {
            if let Ok(store) = open_at(&settings).await {
                return store;
            }
        }
    })
    .await;
    writer.commit(|_| {}).await;
    let kept = writer.next(|_| {});
    assert_eq!(with_replica.journal.commit(kept.clone()).await, Ok(Rev(3)));
    writer.record = kept.record;

    replica.server.kill().expect("killed");
    let lonely = writer.next(|_| {});
    let answer = with_replica.journal.commit(lonely.clone()).await;
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    let again = with_replica.journal.commit(lonely.clone()).await;
    assert!(matches!(again, Err(CommitError::Unknown(_))), "still on one disk: {again:?}");
    assert_eq!(store.journal.commit(lonely).await, Ok(Rev(4)), "enough for who asks for none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_to_keep_its_file_confirms_nothing() {
    let Some(place) = unless_missing(Place::start(Flavour::Valkey)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    let transaction = traced(&mut writer);
    place.admin(&["CONFIG", "SET", "appendonly", "no"]);
    let answer = store.journal.commit(transaction.clone()).await;
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    place.admin(&["CONFIG", "SET", "appendonly", "yes"]);
    assert_eq!(ask_again(&*store.journal, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_or_demoted_server_refuses_without_a_doubt() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    let transaction = traced(&mut writer);
    for (setting, wrong, code) in
        [("maxmemory", "1", "OOM"), ("min-replicas-to-write", "1", "NOREPLICAS")]
    {
        place.admin(&["CONFIG", "SET", setting, wrong]);
        let answer = store.journal.commit(transaction.clone()).await;
        let is_sure = matches!(&answer, Err(CommitError::Unavailable(why)) if why.contains(code));
        assert!(is_sure, "{answer:?}");
        place.admin(&["CONFIG", "SET", setting, "0"]);
    }
    place.admin(&["REPLICAOF", "127.0.0.1", "1"]);
    let answer = store.journal.commit(transaction.clone()).await;
    assert!(matches!(answer, Err(CommitError::Unavailable(_))), "{answer:?}");
    place.admin(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(ask_again(&*store.journal, &transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_script_is_told_again() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    place.admin(&["SCRIPT", "FLUSH"]);
    let transaction = traced(&mut writer);
    assert_eq!(store.journal.commit(transaction).await, Ok(Rev(2)));
    is_written_once(&store).await;
}

/// Reading and writing say that the store is not what it was; nobody takes it for an empty one.
async fn is_not_believed(store: &RedisStore, transaction: Transaction) {
    let read = store.journal.load(&pair("acme")).await;
    assert!(matches!(read, Err(Refusal::Denied { denial: Denial::Corrupt, .. })), "{read:?}");
    let written = store.journal.commit(transaction).await;
    assert!(matches!(written, Err(CommitError::Corrupt(_))), "{written:?}");
    let listed = store.tasks.list(None).await;
    assert!(matches!(listed, Err(Refusal::Denied { denial: Denial::Corrupt, .. })), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_what_it_acknowledged_is_not_believed() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (store, mut writer) = store_with_a_pair(&place).await;
    let transaction = writer.next(|_| {});
    // As a replica that lagged behind when it became the primary.
    let writes: u64 = place.admin(&["HGET", "keybaton:store", "writes"]).parse().expect("a number");
    let fewer = (writes - 1).to_string();
    place.admin(&["HSET", "keybaton:store", "writes", &fewer]);
    is_not_believed(&store, transaction.clone()).await;
    place.admin(&["HSET", "keybaton:store", "writes", &writes.to_string()]);
    writer.try_commit(transaction).await.expect("all is there again");
    place.admin(&["FLUSHALL"]);
    let transaction = writer.next(|_| {});
    is_not_believed(&store, transaction).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_or_moved_in_redis_is_corrupt() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (store, writer) = store_with_a_pair(&place).await;
    let mut other = Writer::with(store.journal.clone(), writer.life.clone(), pair("acme-2"));
    other.promote(1, 2).await;
    writer.grant(1, 1).await.expect("granted");
    let hashes = ["keybaton:at", "keybaton:records", "keybaton:heads"];
    let lost = "redis.call('RENAME', KEYS[1], KEYS[2]) return 1";
    place.admin(&["EVAL", lost, "2", hashes[2], "keybaton:away"]);
    let read = store.journal.audit(&pair("acme"), 0).await;
    assert!(matches!(read, Err(Refusal::Denied { denial: Denial::Corrupt, .. })), "{read:?}");
    place.admin(&["EVAL", lost, "2", "keybaton:away", hashes[2]]);
    assert_eq!(store.journal.audit(&pair("acme"), 0).await.map(|audit| audit.len()), Ok(1));
    let pairs = ["acme/openai", "acme-2/openai"];
    // What is one pair's in the place of the other's, as somebody with access could do.
    let copy = "return redis.call('HSET', KEYS[1], ARGV[1], redis.call('HGET', KEYS[1], ARGV[2]))";
    for hash in &hashes[..2] {
        place.admin(&["EVAL", copy, "1", hash, pairs[0], pairs[1]]);
    }
    let read = store.journal.load(&pair("acme")).await;
    assert!(matches!(read, Err(Refusal::Denied { denial: Denial::Corrupt, .. })), "{read:?}");
    for hash in hashes {
        place.admin(&["HDEL", hash, pairs[0]]);
    }
    let read = store.journal.load(&pair("acme")).await;
    assert!(matches!(read, Err(Refusal::Denied { denial: Denial::Corrupt, .. })), "{read:?}");
    place.admin(&["HSET", hashes[0], pairs[1], "1 7 9"]);
    let written = store.journal.commit(other.next(|_| {})).await;
    assert!(matches!(written, Err(CommitError::Corrupt(_))), "{written:?}");
}

/// Twenty append at once: somebody else has appended to one of their tasks, of another the hash is
/// a list, of a third the entries are.
async fn what_cannot_be_written_takes_no_other_along(flavour: Flavour) {
    const OWNERS: usize = 20;
    const OTHERS: usize = 7;
    const NO_TASK: usize = 11;
    const NO_STEPS: usize = 13;
    let Some(place) = unless_missing(Place::start(flavour)) else { return };
    let store = open_at(&place.settings(0)).await.expect("a new store");
    let mut owners = Vec::new();
    for n in 0..OWNERS {
        owners.push(Owner::claim(&store.tasks, &task(&format!("task-{n}"))).await);
    }
    Owner::claim(&store.tasks, &owners[OTHERS].key).await.append_all([result(1)]).await;
    let hash_of = |kind: &str, n: usize| {
        let key = &owners[n].key;
        format!("keybaton:{kind}:{}/{}", key.tenant, key.task)
    };
    for hash in [hash_of("task", NO_TASK), hash_of("steps", NO_STEPS)] {
        place.admin(&["DEL", &hash]);
        place.admin(&["RPUSH", &hash, "value"]);
    }
    let task_without_steps = hash_of("task", NO_STEPS);
    let before = place.calls("evalsha");
    place.server.pause().expect("paused");
    let appended =
        futures::future::join_all(owners.iter_mut().map(|owner| owner.append(result(0))));
    // All of them are asked for before the server goes on.
    let (appended, ()) =
        futures::join!(appended, async { place.server.resume().expect("resumed") });
    for (n, appended) in appended.into_iter().enumerate() {
        match n {
            OTHERS => assert_eq!(appended, Err(TaskError::Fenced)),
            NO_TASK | NO_STEPS => {
                assert!(matches!(appended, Err(TaskError::Corrupt(_))), "{n}: {appended:?}");
            }
            _ => assert_eq!(appended, Ok(()), "{n}"),
        }
    }
    // At most two pipelines go before the rest has come, and the rest goes in one run.
    assert!(place.calls("evalsha") - before <= 3, "they are written together");
    assert_eq!(place.admin(&["HGET", &task_without_steps, "rev"]).trim(), "0", "it is as it was");
    for (n, owner) in owners.iter().enumerate().filter(|(n, _)| ![NO_TASK, NO_STEPS].contains(n)) {
        let entries = store.tasks.claim(&owner.key).await.expect("claimed").entries;
        assert_eq!(entries, [result(u64::from(n == OTHERS))], "task {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_cannot_write_takes_no_other_along_that_is_written_with_it() {
    what_cannot_be_written_takes_no_other_along(Flavour::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_valkey_cannot_write_takes_no_other_along_that_is_written_with_it() {
    what_cannot_be_written_takes_no_other_along(Flavour::Valkey).await;
}
