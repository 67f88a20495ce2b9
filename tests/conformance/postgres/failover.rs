//! A failover to a standby that has confirmed every commit: the journal goes on there, under the
//! same address, with everything that was ever acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use keybaton_adapters::postgres::{Postgres, PostgresSettings};
use keybaton_messages::{EventKind, Rev};
use keybaton_ports::{CommitError, verify_chain};
use keybaton_rotation::AuditKind;
use keybaton_servers::postgres::STANDBY;
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::checkpoints::checkpoint;
use keybaton_tests::conformance::journal::chain;
use keybaton_tests::conformance::records::{Writer, audit_entry, pair};
use keybaton_tests::conformance::task_entries::task;
use keybaton_tests::harness::{PATIENCE, soon};

use crate::postgres::{Place, USER, open_at};

/// Commits in all, and how many of them before the primary dies.
const COMMITS: u64 = 60;
const BEFORE: u64 = 20;

/// A primary that waits for its standby.
struct Two {
    primary: Place,
    standby: keybaton_servers::Postgres,
    database: String,
}

impl Two {
    fn start() -> anyhow::Result<Self> {
        let primary = Place::start()?;
        let database = primary.database();
        let standby = primary.server.standby(&[])?;
        let admin = |sql: &str| primary.server.query_as_admin(sql);
        // The line of the how-to. Set here and not at the start, since a standby copies it.
        admin(&format!("alter system set synchronous_standby_names = 'ANY 1 ({STANDBY})'"))?;
        admin("select pg_reload_conf()")?;
        primary.server.server().wait_until("followed in step", || {
            let state = admin("select sync_state from pg_stat_replication")?;
            anyhow::ensure!(state == [[Some("quorum".to_owned())]], "{state:?}");
            Ok(())
        })?;
        Ok(Self { primary, standby, database })
    }

    /// The address of both.
    fn settings(&self) -> PostgresSettings {
        let (one, other) = (self.primary.server.port(), self.standby.port());
        let database = &self.database;
        let url = format!("postgres://{USER}@127.0.0.1:{one},127.0.0.1:{other}/{database}");
        PostgresSettings { url, ..self.primary.settings(database) }
    }
}

/// Commits one revision after the other, asking each transaction again until it is certain.
async fn write_on(store: Arc<Postgres>, mut writer: Writer, acknowledged: Arc<AtomicU64>) {
    for n in 1..=COMMITS {
        let transaction = writer.next(|transaction| {
            transaction.audit = vec![audit_entry(AuditKind::Triggered, &n.to_string())];
            transaction.outbox = vec![(EventKind::Initiated, None, None)];
        });
        let deadline = Instant::now() + PATIENCE;
        let rev = loop {
            match store.journal.commit(transaction.clone()).await {
                Err(CommitError::Unknown(_) | CommitError::Unavailable(_))
                    if Instant::now() < deadline => {}
                answer => break answer,
            }
        };
        assert_eq!(rev, Ok(Rev(n + 1)));
        writer.record = transaction.record;
        acknowledged.store(n, Ordering::Release);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_goes_on_where_its_standby_was_promoted_and_nothing_is_lost() {
    let Some(two) = unless_missing(Two::start()) else { return };
    let store = Arc::new(open_at(&two.settings()).await.expect("a new store"));
    assert_eq!(store.notices, [""; 0], "it says nothing about a missing standby");
    let reservation = store.reserve().await.expect("nobody else is there");
    let early = checkpoint(&task("t1"), b"before the failover");
    let at_early = store.checkpoints.put(&early).await.expect("stored");
    let writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writing = tokio::spawn(write_on(store.clone(), writer, acknowledged.clone()));

    // The primary dies in the middle of them, and nobody takes writes for a while.
    let so_far = async {
        while acknowledged.load(Ordering::Acquire) < BEFORE {
            tokio::task::yield_now().await;
        }
    };
    soon("the first commits", so_far).await;
    two.primary.server.kill().expect("killed");
    assert!(acknowledged.load(Ordering::Acquire) < COMMITS, "it died in the middle");
    two.standby.promote().expect("promoted");
    soon("the rest of the commits", writing).await.expect("no panic");

    let stored = store.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record.rev, Rev(COMMITS + 1));
    let records = chain(&*store.journal, "acme").await;
    assert_eq!(verify_chain(&store.audit_key, &pair("acme"), &records), Ok(()));
    let facts: Vec<_> = records.iter().map(|record| record.dedupe.clone()).collect();
    let expected: Vec<_> = (1..=COMMITS).map(|n| n.to_string()).collect();
    assert_eq!(facts, expected, "each of them once, in order");

    // Partitions and roles of tenants went along, and so does the reservation.
    let found = store.checkpoints.get(&task("t1"), &at_early).await;
    assert_eq!(found.as_ref(), Ok(&early));
    store.checkpoints.put(&checkpoint(&task("t2"), b"after it")).await.expect("stored");
    let held = "select count(*) from pg_locks join pg_stat_activity using (pid)
        where locktype = 'advisory' and granted and application_name like 'keybaton %'";
    let reserved = || {
        let rows = two.standby.query_as_admin_in(&two.database, held)?;
        anyhow::ensure!(rows == [[Some("1".to_owned())]], "{rows:?}");
        Ok(())
    };
    two.standby.server().wait_until("reserved", reserved).expect("reserved again");
    assert!(reservation.lost().borrow().is_none());
}
