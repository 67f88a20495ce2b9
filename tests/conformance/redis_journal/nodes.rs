//! Several nodes on one database.

use keybaton_adapters::journals::RedisStore;
use keybaton_messages::{TxnId, Version};
use keybaton_ports::CommitError;
use keybaton_rotation::Guard;
use keybaton_servers::redis::Flavour;
use keybaton_tests::conformance::records::{Writer, node, pair, promoted, record_in};

use crate::redis_journal::{open_at, shared};

/// Two stores on one database, as two nodes have them.
async fn two() -> Option<(RedisStore, RedisStore)> {
    let place = shared(Flavour::Redis)?;
    let settings = place.settings(place.database());
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
async fn one_key_is_claimed_by_one_pair_also_when_two_nodes_ask_at_once() {
    let Some((one, other)) = two().await else { return };
    let mut asked = Vec::new();
    for (store, name) in [(&one, "n1"), (&other, "n2")] {
        let life = store.journal.begin_life(&node(name)).await.expect("a life");
        for n in 0..8 {
            let tenant = format!("{name}-{n}");
            let mut writer = Writer::with(store.journal.clone(), life.clone(), pair(&tenant));
            let transaction = writer.next(|transaction| promoted(record_in(transaction), 1, 1));
            let journal = store.journal.clone();
            asked.push(tokio::spawn(async move { journal.commit(transaction).await }));
        }
    }
    let mut written = 0;
    for task in asked {
        match task.await.expect("no panic") {
            Ok(_) => written += 1,
            Err(CommitError::Refused { guard: Guard::KeyUnclaimed { .. }, left: 0 }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(written, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_ended_on_another_node_writes_and_holds_nothing_any_more() {
    let Some((one, other)) = two().await else { return };
    let mut writer = Writer::provisioned(one.journal.clone(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    let life = other.journal.begin_life(&node("n1")).await.expect("a life");
    let transaction = writer.next(|_| {});
    assert_eq!(one.journal.commit(transaction).await, Err(CommitError::Fenced));
    assert_eq!(writer.count(1).await, 0);
    let mut next = Writer::with(other.journal.clone(), life, pair("acme"));
    next.record = writer.record.clone();
    // Nobody holds the version, so that the guard lets the record through.
    next.commit(|transaction| transaction.guards = vec![Guard::NoGrants(Version(1))]).await;
}
