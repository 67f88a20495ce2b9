//! Rows of the embedded store that are not what was written: found, named, and nobody else's harm.

use std::path::{Path, PathBuf};

use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_messages::{GrantId, SecretVersion, Version};
use keybaton_ports::{CommitError, Denial, GrantError, Refusal, TaskError, TaskState};
use keybaton_rotation::AuditKind;
use keybaton_tests::conformance::records::{Writer, audit_entry, label, pair, promoted, record_in};
use keybaton_tests::conformance::secrets::{meta, secret};
use keybaton_tests::conformance::task_entries::{
    Owner, result, result_with_checkpoint, state, task,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Rows = Vec<(Vec<u8>, Vec<u8>)>;
type Spoil = fn(&mut Rows);

/// Values of the table of entries, each by the number of its first row.
pub(crate) type Values = Vec<(u64, Vec<u8>)>;

const ENTRIES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");

fn open(path: &Path) -> Embedded {
    let key = MasterKey::from_bytes([7; 32]);
    Embedded::open(path, key, &Options::default()).expect("opened")
}

/// A store with two tenants, in which everything has been written once.
async fn a_store() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let embedded = open(&path);
    let ours = Writer::provisioned(embedded.journal.clone(), "n1", pair("acme"), 1).await;
    ours.grant(1, 1).await.expect("granted");
    let mut theirs = Writer::with(embedded.journal.clone(), ours.life.clone(), pair("umbrella"));
    theirs.promote(1, 2).await;
    let audit = audit_entry(AuditKind::Ordered, "1");
    embedded.journal.append_audit(&pair("acme"), &audit).await.expect("appended");
    for (tenant, text) in [("acme", "sk-acme"), ("umbrella", "sk-umbrella")] {
        let meta = meta(&pair(tenant), Some(label(1)), "key_1");
        embedded.secrets.put(&meta, &secret(text)).await.expect("stored");
    }
    for name in ["t1", "t2"] {
        let mut owner = Owner::claim(&embedded.tasks, &task(name)).await;
        owner.append_all((0..4).map(result)).await;
    }
    (dir, path)
}

/// Rewrites the rows of one table by hand.
fn tamper(path: &Path, table: &'static str, change: impl FnOnce(&mut Rows)) {
    let definition: Bytes = TableDefinition::new(table);
    let database = Database::open(path.join("keybaton.redb")).expect("a database");
    let read = database.begin_read().expect("a read");
    let mut rows: Rows = read
        .open_table(definition)
        .expect("a table")
        .iter()
        .expect("rows")
        .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        .collect::<Result<_, _>>()
        .expect("rows");
    drop(read);
    change(&mut rows);
    let write = database.begin_write().expect("a write");
    write.delete_table(definition).expect("deleted");
    let mut open = write.open_table(definition).expect("a table");
    for (key, value) in &rows {
        open.insert(key.as_slice(), value.as_slice()).expect("inserted");
    }
    drop(open);
    write.commit().expect("committed");
}

fn tamper_entries(path: &Path, change: impl FnOnce(&mut Values)) {
    let database = Database::open(path.join("keybaton.redb")).expect("a database");
    rewrite_entries(&database, change);
}

/// Changes the values of the table of entries by hand.
pub(crate) fn rewrite_entries(database: &Database, change: impl FnOnce(&mut Values)) {
    let write = database.begin_write().expect("a write");
    let mut open = write.open_table(ENTRIES).expect("a table");
    let mut values: Values = open
        .iter()
        .expect("values")
        .map(|row| row.map(|(key, value)| (key.value(), value.value().to_vec())))
        .collect::<Result<_, _>>()
        .expect("values");
    change(&mut values);
    open.retain(|_, _| false).expect("emptied");
    for (first, value) in &values {
        open.insert(first, value.as_slice()).expect("inserted");
    }
    drop(open);
    write.commit().expect("committed");
}

fn count_entries(path: &Path) -> usize {
    let database = Database::open(path.join("keybaton.redb")).expect("a database");
    let read = database.begin_read().expect("a read");
    read.open_table(ENTRIES).expect("a table").iter().expect("rows").count()
}

fn is_corrupt<T>(answer: &Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Denied { denial: Denial::Corrupt, .. }))
}

/// Ways to spoil the first row without touching its key.
fn spoilings() -> Vec<(&'static str, Spoil)> {
    vec![
        ("a flipped bit", |rows| {
            let last = rows[0].1.len() - 1;
            rows[0].1[last] ^= 1;
        }),
        ("a flipped bit of the nonce", |rows| rows[0].1[10] ^= 1),
        ("cut short", |rows| rows[0].1.truncate(40)),
        ("nothing", |rows| rows[0].1.clear()),
        ("one byte more", |rows| rows[0].1.push(0)),
        ("a foreign value", |rows| rows[0].1 = b"{\"json\":1}".to_vec()),
        ("an unknown schema", |rows| rows[0].1[3] = 9),
        ("another master key", |rows| rows[0].1[4] ^= 1),
        ("another row's value", |rows| rows[0].1 = rows[1].1.clone()),
    ]
}

#[tokio::test]
async fn a_record_that_was_changed_is_refused_and_no_other_pair_suffers() {
    for (what, spoil) in spoilings() {
        let (_dir, path) = a_store().await;
        tamper(&path, "records", spoil);
        let embedded = open(&path);
        let journal = &embedded.journal;
        let loaded = journal.load(&pair("acme")).await;
        assert!(is_corrupt(&loaded), "{what}: {loaded:?}");
        let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
        let transaction = writer.next(|_| {});
        let committed = journal.commit(transaction).await;
        assert!(matches!(committed, Err(CommitError::Corrupt(_))), "{what}: {committed:?}");
        let granted = writer.grant(1, 5).await;
        assert!(matches!(granted, Err(GrantError::Corrupt(_))), "{what}");
        let pairs = journal.pairs().await.expect("read");
        let seen: Vec<_> = pairs.iter().map(|s| (&s.pair, s.has_work)).collect();
        assert_eq!(seen, [(&pair("acme"), true), (&pair("umbrella"), false)]);
        let mut other = Writer::with(journal.clone(), writer.life.clone(), pair("umbrella"));
        let stored = journal.load(&pair("umbrella")).await.expect("read");
        other.record = stored.expect("untouched").record;
        other.promote(2, 7).await;
    }
}

#[tokio::test]
async fn a_grant_or_a_claim_that_was_changed_is_refused() {
    let (_dir, path) = a_store().await;
    tamper(&path, "grants", |rows| rows[0].1[40] ^= 1);
    tamper(&path, "key_claims", |rows| {
        rows.iter_mut().for_each(|row| row.1[40] ^= 1);
    });
    let embedded = open(&path);
    let counted = embedded.journal.count_grants(&pair("acme"), Version(1)).await;
    assert!(is_corrupt(&counted));
    let life = embedded.journal.begin_life(&"n2".parse().expect("a node")).await.expect("a life");
    let mut writer = Writer::with(embedded.journal.clone(), life, pair("third"));
    let transaction = writer.next(|transaction| {
        promoted(record_in(transaction), 1, 1);
    });
    let committed = embedded.journal.commit(transaction).await;
    assert!(matches!(committed, Err(CommitError::Corrupt(_))), "{committed:?}");
    assert_eq!(embedded.journal.load(&pair("third")).await, Ok(None));
}

#[tokio::test]
async fn a_life_that_was_changed_does_not_begin_again_at_one() {
    let (_dir, path) = a_store().await;
    tamper(&path, "lives", |rows| rows[0].1[40] ^= 1);
    let embedded = open(&path);
    let node = "n1".parse().expect("a node");
    assert!(is_corrupt(&embedded.journal.begin_life(&node).await));
}

#[tokio::test]
async fn an_audit_record_that_was_changed_is_refused() {
    let (_dir, path) = a_store().await;
    tamper(&path, "audit", |rows| rows.swap_values(0, 1));
    let embedded = open(&path);
    assert!(is_corrupt(&embedded.journal.audit(&pair("acme"), 0).await));
}

#[tokio::test]
async fn an_audit_that_was_cut_off_at_its_end_is_refused() {
    let (_dir, path) = a_store().await;
    tamper(&path, "audit", |rows| drop(rows.pop()));
    let embedded = open(&path);
    assert!(is_corrupt(&embedded.journal.audit(&pair("acme"), 0).await));
}

#[tokio::test]
async fn a_secret_that_was_changed_or_moved_is_never_handed_out() {
    for (what, spoil) in spoilings() {
        let (_dir, path) = a_store().await;
        tamper(&path, "secrets", |rows| {
            // The counters stand apart; the secrets of both tenants remain.
            rows.retain(|(key, _)| !key.ends_with(&[0; 8]));
            spoil(rows);
        });
        let embedded = open(&path);
        let secrets = &embedded.secrets;
        let read = secrets.read(&pair("acme"), SecretVersion(1)).await;
        assert!(is_corrupt(&read), "{what}");
        let found = secrets.find(&pair("acme"), &label(1)).await;
        assert!(is_corrupt(&found), "{what}");
        let theirs = secrets.read(&pair("umbrella"), SecretVersion(1)).await;
        let theirs = theirs.expect("untouched").secret;
        assert!(theirs.is_same(&secret("sk-umbrella")), "{what}");
    }
}

#[tokio::test]
async fn an_entry_that_was_changed_moved_or_lost_makes_its_task_corrupt_and_no_other() {
    type Change = fn(&mut Values);
    let changes: [(&str, Change); 6] = [
        ("a flipped bit", |rows| rows[1].1[90] ^= 1),
        ("another index", |rows| rows[1].1[7] = 3),
        ("another step's value", |rows| rows[1].1 = rows[2].1.clone()),
        ("another task's value", |rows| rows[1].1 = rows[5].1.clone()),
        ("a hole", |rows| drop(rows.remove(1))),
        ("a pointer astray", |rows| {
            let last = rows[2].1.len() - 1;
            rows[2].1[last] ^= 0x40;
        }),
    ];
    for (what, change) in changes {
        let (_dir, path) = a_store().await;
        tamper_entries(&path, change);
        let embedded = open(&path);
        let claimed = embedded.tasks.claim(&task("t1")).await;
        assert!(matches!(claimed, Err(TaskError::Corrupt(_))), "{what}: {claimed:?}");
        if what != "another task's value" {
            let other = embedded.tasks.claim(&task("t2")).await.expect("untouched");
            assert_eq!(other.entries, (0..4).map(result).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_claim_that_was_changed_makes_its_task_corrupt_and_leaves_it_out_of_the_list() {
    let (_dir, path) = a_store().await;
    tamper(&path, "task_claims", |rows| rows[0].1[7] = 0);
    let embedded = open(&path);
    let claimed = embedded.tasks.claim(&task("t1")).await;
    assert!(matches!(claimed, Err(TaskError::Corrupt(_))), "{claimed:?}");
    let rows = embedded.tasks.list(None).await.expect("read");
    let keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
    assert_eq!(keys, [task("t2")]);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (_dir, path) = a_store().await;
    let embedded = open(&path);
    let journal = &embedded.journal;
    let before = (
        journal.load(&pair("acme")).await.expect("read"),
        journal.audit(&pair("acme"), 0).await.expect("read"),
    );
    assert!(before.0.is_some());
    let kinds: Vec<_> = before.1.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(kinds, ["GRANTED", "ORDERED"]);
    drop(embedded);
    let embedded = open(&path);
    let journal = &embedded.journal;
    let after = (
        journal.load(&pair("acme")).await.expect("read"),
        journal.audit(&pair("acme"), 0).await.expect("read"),
    );
    assert_eq!(after, before);
    let counted = journal.count_grants(&pair("acme"), Version(1)).await;
    assert_eq!(counted, Ok(1), "the life goes on until a new one begins");
    let life = journal.begin_life(&"n1".parse().expect("a node")).await;
    assert_eq!(life.expect("a life").incarnation.0, 2);
    let counted = journal.count_grants(&pair("acme"), Version(1)).await;
    assert_eq!(counted, Ok(0));
    let read = embedded.secrets.read(&pair("acme"), SecretVersion(1)).await;
    assert!(read.expect("stored").secret.is_same(&secret("sk-acme")));
    let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
    assert_eq!((owner.epoch.0, owner.rev), (2, 4));
    owner.append(result(4)).await.expect("appended");
}

#[tokio::test]
async fn a_grant_and_its_return_are_audited() {
    let (_dir, path) = a_store().await;
    let embedded = open(&path);
    let mut writer = Writer::begin(embedded.journal.clone(), "n1", pair("acme")).await;
    let stored = embedded.journal.load(&pair("acme")).await.expect("read");
    writer.record = stored.expect("written").record;
    writer.grant(1, 7).await.expect("granted");
    writer.promote(2, 9).await;
    writer.return_grant(1, GrantId([7; 16])).await.expect("returned");
    let records = embedded.journal.audit(&pair("acme"), 2).await.expect("read");
    let seen: Vec<_> =
        records.iter().map(|record| (record.kind.as_str(), record.dedupe.as_str())).collect();
    let id = "07".repeat(16);
    assert_eq!(seen, [("GRANTED", id.as_str()), ("GRANT_RETURNED", &id)]);
    assert!(records[0].body.contains(r#""node":"n1""#), "{}", records[0].body);
}

#[tokio::test]
async fn entries_far_behind_a_checkpoint_are_pruned_and_the_task_goes_on() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let embedded = open(&path);
    let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
    owner.append(state(TaskState::Parked("early".into()))).await.expect("appended");
    for n in 0..1500 {
        let entry = if n % 50 == 49 { result_with_checkpoint(n, b"state") } else { result(n) };
        owner.append(entry).await.expect("appended");
    }
    let kept = owner.entries().await.len();
    assert!((256..768).contains(&kept), "{kept}");
    drop(embedded);
    let (rev, key) = (owner.rev, owner.key.clone());
    drop(owner);
    let stored = count_entries(&path);
    assert!((kept..900).contains(&stored), "{stored}");
    let embedded = open(&path);
    let claimed = embedded.tasks.claim(&key).await.expect("claimed");
    assert_eq!(claimed.row.rev, rev);
    assert_eq!(
        claimed.row.state,
        TaskState::Parked("early".into()),
        "the row that tells the state is kept"
    );
    assert_eq!(claimed.entries, []);
    assert!(claimed.checkpoint.is_some());
}

#[tokio::test]
async fn entries_of_a_forgotten_task_are_pruned_also_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let embedded = open(&path);
    let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
    owner.append_all((0..300).map(result)).await;
    owner.append(state(TaskState::Cancelled)).await.expect("appended");
    embedded.tasks.forget(&owner.key).await.expect("forgotten");
    drop((owner, embedded));
    assert_eq!(count_entries(&path), 301);
    let embedded = open(&path);
    for _ in 0..3 {
        Owner::claim(&embedded.tasks, &task("t2")).await;
    }
    drop(embedded);
    assert_eq!(count_entries(&path), 0);
}

trait SwapValues {
    fn swap_values(&mut self, a: usize, b: usize);
}

impl SwapValues for Rows {
    fn swap_values(&mut self, a: usize, b: usize) {
        let value = std::mem::take(&mut self[a].1);
        self[a].1 = std::mem::replace(&mut self[b].1, value);
    }
}
