//! Several nodes on one database.

use std::sync::Arc;

use futures::future::join_all;
use keybaton_adapters::postgres::Postgres;
use keybaton_messages::{PairId, TxnId};
use keybaton_ports::{CommitError, Journal};
use keybaton_rotation::{AuditKind, Guard};
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::journal::chain;
use keybaton_tests::conformance::records::{Writer, audit_entry, pair, promoted, record_in};

use crate::postgres::faults::{session, until};
use crate::postgres::{Place, open_at, shared};

/// Two stores on one database, as two nodes have them.
async fn two() -> Option<(Postgres, Postgres)> {
    let place = shared()?;
    let settings = place.settings(&place.database());
    let (one, other) = tokio::join!(open_at(&settings), open_at(&settings));
    Some((one.expect("a new store"), other.expect("the same store")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_found_one_store() {
    let Some((one, other)) = two().await else { return };
    assert_eq!(one.deployment, other.deployment);
    let mut writer = Writer::provisioned(one.journal.clone(), "n1", pair("acme"), 1).await;
    writer.commit(|_| {}).await;
    let stored = other.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, writer.record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_transactions_from_two_nodes_one_is_written() {
    let Some((one, other)) = two().await else { return };
    let mut writer = Writer::provisioned(one.journal.clone(), "n1", pair("acme"), 1).await;
    let asked: Vec<_> = (0..20u8)
        .map(|n| {
            let journal = if n % 2 == 0 { one.journal.clone() } else { other.journal.clone() };
            let transaction = writer.next(|transaction| transaction.id = TxnId([n; 16]));
            tokio::spawn(async move { (transaction.id, journal.commit(transaction).await) })
        })
        .collect();
    let mut written = Vec::new();
    for task in asked {
        match task.await.expect("no panic") {
            (id, Ok(_)) => written.push(id),
            (_, refusal) => assert_eq!(refusal, Err(CommitError::Conflict)),
        }
    }
    let stored = one.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(written, [stored.last_txn]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_nodes_append_to_the_same_pairs_at_once_is_there_once() {
    const PAIRS: usize = 40;
    const ROUNDS: usize = 5;
    let Some((one, other)) = two().await else { return };
    let pairs: Vec<_> = (0..PAIRS).map(|n| pair(&format!("t{n}"))).collect();
    for round in 0..ROUNDS {
        let append = |journal: Arc<dyn Journal>, by: &str, pair: &PairId| {
            let entry = audit_entry(AuditKind::Triggered, &format!("{by}-{round}"));
            let pair = pair.clone();
            async move { journal.append_audit(&pair, &entry).await }
        };
        let ours = pairs.iter().map(|pair| append(one.journal.clone(), "one", pair));
        let theirs = pairs.iter().rev().map(|pair| append(other.journal.clone(), "other", pair));
        let answers = tokio::join!(join_all(ours), join_all(theirs));
        assert!(answers.0.iter().chain(&answers.1).all(Result::is_ok), "{round}: {answers:?}");
    }
    for pair in &pairs {
        let audit = chain(&*one.journal, pair.tenant.as_str()).await;
        assert_eq!(audit.len(), 2 * ROUNDS, "{pair}: each entry once");
        assert!(audit.windows(2).all(|two| two[1].prev == two[0].hash), "{pair}: one chain");
    }
}

/// So that of two nodes that write the same pairs neither waits for the other in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_are_locked_in_the_order_of_their_names_remembered_or_read() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let settings = place.settings(&database);
    let remembering = open_at(&settings).await.expect("a new store");
    let reading = open_at(&settings).await.expect("the same store");
    let append = async |store: &Postgres, n: u8| {
        let entry = audit_entry(AuditKind::Triggered, &n.to_string());
        // Asked in another order than that.
        let pairs = [pair("t2"), pair("t1"), pair("t0")];
        let appends = pairs.iter().map(|pair| store.journal.append_audit(pair, &entry));
        for answer in join_all(appends).await {
            answer.expect("appended");
        }
    };
    append(&remembering, 0).await;
    let (holder, other) = (session(&place, &database).await, session(&place, &database).await);
    for (n, store) in [(1, &remembering), (2, &reading)] {
        let hold = "begin; select from keybaton.pair where tenant = 't1' for update";
        holder.batch_execute(hold).await.expect("held");
        let look = async {
            let waiting = "select count(*) from pg_locks where not granted";
            until(&place, &database, waiting, "1").await;
            let free = "select from keybaton.pair where tenant = 't2' for update skip locked";
            assert_eq!(other.query(free, &[]).await.expect("read").len(), 1, "{n}: t2 before t1");
            holder.batch_execute("commit").await.expect("let go");
        };
        tokio::join!(append(store, n), look);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_claimed_by_one_pair_also_when_two_nodes_ask_at_once() {
    let Some((one, other)) = two().await else { return };
    let mut asked = Vec::new();
    for (store, node) in [(&one, "n1"), (&other, "n2")] {
        for n in 0..8 {
            let tenant = format!("{node}-{n}");
            let mut writer = Writer::begin(store.journal.clone(), node, pair(&tenant)).await;
            let by =
                store.journal.begin_life(&node.parse().expect("a node")).await.expect("a life");
            let transaction = writer.next(|transaction| {
                promoted(record_in(transaction), 1, 1);
                transaction.by = by;
            });
            asked.push((store.journal.clone(), transaction));
        }
    }
    // The last life of each node is the one that may write.
    let lives: Vec<_> = [7, 15].iter().map(|last| asked[*last].1.by.clone()).collect();
    let tasks: Vec<_> = asked
        .into_iter()
        .enumerate()
        .map(|(place, (journal, mut transaction))| {
            transaction.by = lives[place / 8].clone();
            tokio::spawn(async move { journal.commit(transaction).await })
        })
        .collect();
    let mut written = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => written += 1,
            Err(CommitError::Refused { guard: Guard::KeyUnclaimed { .. }, left: 0 }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(written, 1);
}
