//! Opening the embedded store: what is refused, with which words, and that nothing is written.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keybaton_adapters::store::{MasterKey, Notice, OpenError};
use keybaton_adapters::{Embedded, Options};
use keybaton_ports::Secret;
use keybaton_tests::conformance::records::{Writer, pair};
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::TempDir;

const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn open(dir: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(dir, key(), &Options::default())
}

fn look(dir: &Path) -> Result<Embedded, OpenError> {
    let options = Options { create: false, ..Options::default() };
    Embedded::open(dir, key(), &options)
}

fn refusal(opened: Result<Embedded, OpenError>) -> OpenError {
    opened.err().expect("refused")
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), std::fs::read(path).expect("a file")))
        .collect()
}

fn a_store() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    drop(open(&path).expect("founded"));
    (dir, path)
}

#[test]
fn a_new_directory_is_closed_to_others() {
    let (_dir, path) = a_store();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    for file in files(&path).keys() {
        let mode = std::fs::metadata(file).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{}", file.display());
    }
}

#[test]
fn an_open_directory_is_noticed() {
    let (_dir, path) = a_store();
    assert_eq!(open(&path).expect("opened").notices, []);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let embedded = open(&path).expect("opened");
    assert!(matches!(embedded.notices.as_slice(), [Notice::DirectoryExposed { mode: 0o755, .. }]));
}

#[test]
fn a_second_process_is_refused_until_the_first_has_gone() {
    let (_dir, path) = a_store();
    let first = open(&path).expect("opened");
    for refused in [refusal(open(&path)), refusal(look(&path))] {
        assert!(matches!(refused, OpenError::Locked { .. }));
        let text = refused.to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("stop that one"), "{text}");
    }
    drop(first);
    assert!(open(&path).is_ok());
}

#[test]
fn a_directory_with_somebody_elses_files_is_left_alone() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "important").unwrap();
    let before = files(dir.path());
    for opened in [open(dir.path()), look(dir.path())] {
        let refused = refusal(opened);
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
        assert!(refused.to_string().contains("thesis.txt"), "{refused}");
    }
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_foreign_database_is_left_alone() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("keybaton.redb"), "SQLite format 3\0").unwrap();
    let before = files(dir.path());
    let refused = refusal(open(dir.path()));
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert_eq!(files(dir.path()), before);

    let dir = TempDir::new().unwrap();
    let database = Database::create(dir.path().join("keybaton.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let other: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
    write.open_table(other).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = refusal(open(dir.path()));
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
}

#[test]
fn a_store_whose_founding_was_cut_off_is_founded_anew() {
    for length in [0, 1, 4096, 65_536] {
        let dir = TempDir::new().unwrap();
        // The lock comes first, the database's own first bytes come last.
        std::fs::write(dir.path().join("keybaton.lock"), "").unwrap();
        std::fs::write(dir.path().join("keybaton.redb"), vec![0; length]).unwrap();
        let looked = refusal(look(dir.path()));
        assert!(matches!(looked, OpenError::Missing { .. }), "{length} bytes: {looked}");
        drop(open(dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
    }
}

#[test]
fn a_file_is_no_directory() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "text").unwrap();
    let refused = refusal(open(&path));
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"text");
}

#[test]
fn looking_founds_nothing() {
    let dir = TempDir::new().unwrap();
    for path in [dir.path().join("nothing"), dir.path().to_owned()] {
        let refused = refusal(look(&path));
        assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    }
    assert_eq!(files(dir.path()), BTreeMap::new());
}

#[tokio::test]
async fn another_master_key_is_refused_and_the_right_one_still_opens() {
    let (_dir, path) = a_store();
    let embedded = open(&path).expect("opened");
    let writer = Writer::provisioned(embedded.journal.clone(), "n1", pair("acme"), 1).await;
    let record = writer.record.clone();
    drop((writer, embedded));
    let wrong = MasterKey::from_bytes([8; 32]);
    let refused = refusal(Embedded::open(&path, wrong, &Options::default()));
    assert!(matches!(refused, OpenError::WrongKey { .. }), "{refused}");
    let embedded = open(&path).expect("opened");
    let stored = embedded.journal.load(&pair("acme")).await.unwrap();
    assert_eq!(stored.expect("written").record, record);
}

#[test]
fn a_newer_schema_is_refused() {
    let (_dir, path) = a_store();
    set_schema(&path, 3);
    let refused = refusal(open(&path));
    assert!(matches!(refused, OpenError::NewerSchema { found: 3, readable: 2, .. }), "{refused}");
}

#[tokio::test]
async fn a_store_of_the_first_schema_opens_and_is_raised() {
    let (_dir, path) = a_store();
    let embedded = open(&path).expect("opened");
    let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
    owner.append_all((0..3).map(result)).await;
    drop((owner, embedded));
    // A row that was written alone is what every row was then.
    set_schema(&path, 1);
    let embedded = open(&path).expect("opened");
    let claimed = embedded.tasks.claim(&task("t1")).await.expect("claimed");
    assert_eq!(claimed.entries, (0..3).map(result).collect::<Vec<_>>());
    drop(embedded);
    let database = Database::open(path.join("keybaton.redb")).unwrap();
    let read = database.begin_read().unwrap().open_table(META).unwrap();
    let schema = read.get(&b"schema"[..]).unwrap().expect("a row");
    assert_eq!(schema.value(), 2u32.to_be_bytes());
}

fn set_schema(path: &Path, schema: u32) {
    let database = Database::open(path.join("keybaton.redb")).expect("a database");
    let write = database.begin_write().expect("a write");
    let schema = schema.to_be_bytes();
    let mut meta = write.open_table(META).expect("a table");
    meta.insert(&b"schema"[..], schema.as_slice()).expect("written");
    drop(meta);
    write.commit().expect("committed");
}

#[test]
fn a_lost_or_emptied_database_is_not_taken_for_a_new_start() {
    let (_dir, path) = a_store();
    let database = path.join("keybaton.redb");
    let bytes = std::fs::read(&database).unwrap();
    std::fs::remove_file(&database).unwrap();
    let refused = refusal(open(&path));
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert!(!database.exists());
    std::fs::write(&database, "").unwrap();
    let refused = refusal(open(&path));
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    std::fs::write(&database, "not a database at all").unwrap();
    let refused = refusal(open(&path));
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    std::fs::write(&database, bytes).unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn a_store_whose_founding_was_cut_off_is_founded_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("data");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("keybaton.lock"), "").unwrap();
    std::fs::write(path.join("keybaton.redb"), "").unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn a_store_keeps_its_deployment_and_its_keys() {
    let (_dir, path) = a_store();
    let secret = Secret::new(b"sk-canary".to_vec()).expect("a key");
    let identity = |embedded: &Embedded| {
        let fp = embedded.fingerprint_key.fingerprint(&secret);
        (embedded.deployment.clone(), fp)
    };
    let first = identity(&open(&path).expect("opened"));
    assert_eq!(identity(&open(&path).expect("opened")), first);
    let (_other_dir, other) = a_store();
    assert_ne!(
        identity(&open(&other).expect("opened")),
        first,
        "another store under the same key is another deployment"
    );
}
