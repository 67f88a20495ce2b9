//! Bad input, bad directories, bad configuration: each is refused with a line that says what to
//! do next, and nothing on disk has changed.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keybaton::{Node, OrderError, Policy, SpawnError, read_status};
use keybaton_rotation::{OnStuck, Reason, Want};
use keybaton_tests::harness::{
    Deed, Ended, PROVIDER, Puppet, Role, Setup, World, plain_run, policy, soon,
};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

/// Every file below a directory, but for the lock and the socket of a living process.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return files;
    };
    for entry in entries {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            files.extend(contents(&path));
        } else if kind.is_file() {
            let raw = || std::fs::read(&path).expect("a readable file");
            let bytes = rows(&path).unwrap_or_else(raw);
            files.insert(path, bytes);
        }
    }
    files
}

/// Every row of a database that nobody has open: the database library keeps books of its own in
/// the file whenever it is opened, also when nothing is written.
fn rows(path: &Path) -> Option<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "redb") {
        return None;
    }
    let database = redb::Database::open(path).ok()?;
    let reading = database.begin_read().ok()?;
    let mut all = Vec::new();
    for table in reading.list_tables().ok()? {
        let name = table.name().to_owned();
        all.extend(name.as_bytes());
        let by_bytes: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(&name);
        let by_number: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(&name);
        if let Ok(table) = reading.open_table(by_bytes) {
            for row in table.iter().ok()? {
                let (key, value) = row.ok()?;
                all.extend([key.value(), value.value()].concat());
            }
        } else {
            for row in reading.open_table(by_number).ok()?.iter().ok()? {
                let (key, value) = row.ok()?;
                all.extend([&key.value().to_be_bytes(), value.value()].concat());
            }
        }
    }
    Some(all)
}

/// An error and what is behind it, as the program prints it.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// A directory in which a node has lived: two keys, one of them revoked.
async fn lived_in() -> World {
    let mut world = World::open().await;
    world.provision("acme").await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.stop().await;
    world
}

/// The node does not start, says this, and leaves everything as it was; nor does a look.
async fn refused(world: &mut World, what: &str, remedy: &str) {
    refused_as(world, what, remedy, remedy).await;
}

async fn refused_as(world: &mut World, what: &str, remedy: &str, remedy_of_look: &str) {
    let before = contents(world.path());
    let builder = world.builder();
    let error = world.start_as(builder).await.expect_err(what);
    let line = told(&error);
    assert!(line.contains(remedy), "{what}: {line}");
    assert!(!line.contains('\n'), "{what}: one line: {line}");
    demand_same(what, &before, &contents(world.path()));

    // The program says the same, with its own exit code.
    let dir = world.node_dir().display().to_string();
    let looked = plain_run(["status", "--data-dir", &dir]);
    demand_refused(what, &looked, remedy_of_look);
    demand_same(what, &before, &contents(world.path()));
}

fn demand_same(
    what: &str,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) {
    let names = before.keys().chain(after.keys());
    let changed: Vec<_> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "{what}: something has changed on disk: {changed:?}");
}

fn demand_refused(what: &str, ended: &Ended, remedy: &str) {
    assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
    assert!(ended.stderr.contains(remedy), "{what}: {ended:?}");
    assert!(ended.stdout.is_empty(), "{what}: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_could_be_paths_or_look_alikes_get_nowhere() {
    let world = World::open().await;
    let long = "a".repeat(10_000);
    let bad = [
        "",
        ".",
        "..",
        "../x",
        "..%2f",
        "%2e%2e",
        "a/b",
        "a\\b",
        "a\0b",
        " a",
        "a ",
        "ACME",
        "\u{422}\u{415}\u{41d}\u{410}\u{41d}\u{422}",
        "e\u{301}",
        "\u{e9}",
        "\u{202e}emca",
        "🔑",
        "secret/data",
        "a\r\nx-injected: 1",
        "a\u{1b}[31m",
        long.as_str(),
    ];
    let before = contents(&world.node_dir());
    for name in bad {
        let node = world.node();
        let role = || Role::of([Deed::Nothing]);
        let tenant = node.spawn::<Puppet>(name, PROVIDER, "t", role()).await;
        let task = node.spawn::<Puppet>("acme", PROVIDER, name, role()).await;
        for refused in [tenant.err(), task.err()] {
            let error = refused.unwrap_or_else(|| panic!("{name:?} is taken"));
            assert!(matches!(error, SpawnError::Name(_)), "{name:?}: {error}");
            let line = told(&error);
            assert!(line.contains("use 1 to 63 of a-z"), "{line}");
            assert!(line.len() < 400, "a long name is cut short: {line}");
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "nothing is smuggled: {line:?}");
        }
        let provider = node.rotate("acme", name, "why not").await;
        assert!(matches!(provider, Err(OrderError::Name(_))), "{name:?}");
        assert!(node.credential("acme", PROVIDER, name).is_err(), "{name:?}");
        assert!(node.provision(name, PROVIDER).await.is_err(), "{name:?}");
    }
    let unknown = world.node().rotate("acme", "gemini", "why not").await;
    let line = told(&unknown.expect_err("not configured"));
    assert!(line.contains("NodeBuilder::provider"), "{line}");
    demand_same("nobody wrote anything down", &before, &contents(&world.node_dir()));
    assert_eq!(world.simulator().snapshot().keys_made, 0, "and nobody asked for a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trigger_ids_and_reasons_are_bounded() {
    let world = World::open().await;
    world.provision("acme").await;
    let pair = world.pair("acme");
    let want =
        |reason: &str| Want::Rotate { target: None, reason: Reason::Requested(reason.to_owned()) };
    for id in ["", "a b", "a\nb", &"x".repeat(129), "\u{202e}"] {
        let refused = world.node().trigger(&pair, id, want("no")).await;
        assert!(matches!(refused, Err(OrderError::Name(_))), "{id:?}");
    }
    let key = world.node().import("acme", PROVIDER, "a b\n", some_key()).await;
    assert!(matches!(key, Err(OrderError::Name(_))), "a key id is checked too");
    let endless = "why ".repeat(100_000);
    let rotation = world.node().rotate("acme", PROVIDER, &endless).await;
    let rotation = rotation.expect("a long reason is cut short, not refused");
    world.complete(&rotation).await;
    let audit = std::fs::read_to_string(world.node_dir().join("audit.jsonl")).expect("an audit");
    assert!(audit.lines().all(|line| line.len() < 4_096), "no line grew with it");
}

fn some_key() -> keybaton::Secret {
    let secret = keybaton::Secret::new(b"sk-svcacct-0123456789abcdef0123456789".to_vec());
    secret.map_err(|refusal| refusal.to_string()).expect("a key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_is_left_alone() {
    let mut world = lived_in().await;
    let database = world.node_dir().join("keybaton.redb");
    let whole = std::fs::read(&database).expect("a database");
    let mut damaged = whole.clone();
    damaged[..9].copy_from_slice(b"not redb.");
    std::fs::write(&database, damaged).expect("written");
    refused(&mut world, "a wrong beginning", "restore the directory from a backup").await;

    std::fs::remove_file(&database).expect("removed");
    refused(&mut world, "a missing database", "restore the directory from a backup").await;

    std::fs::write(&database, []).expect("written");
    refused_loosely(&mut world, "an empty database").await;

    std::fs::write(&database, &whole).expect("written");
    world.start().await;
}

/// As `refused`, where the database library may have written its own header.
async fn refused_loosely(world: &mut World, what: &str) {
    let builder = world.builder();
    let error = world.start_as(builder).await.expect_err(what);
    let line = told(&error);
    assert!(line.contains("restore the directory from a backup"), "{what}: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_directory_is_not_touched() {
    let mut world = World::open().await;
    world.stop().await;
    std::fs::remove_dir_all(world.node_dir()).expect("removed");
    std::fs::create_dir(world.node_dir()).expect("made");
    std::fs::write(world.node_dir().join("thesis.tex"), "years of work").expect("written");
    let name_another = "name the directory of a node that has run";
    refused_as(&mut world, "a foreign directory", "choose an empty directory", name_another).await;
    std::fs::remove_file(world.path().join("node.master-key")).expect("removed");
    refused_as(&mut world, "no key yet", "choose an empty directory", name_another).await;

    std::fs::remove_dir_all(world.node_dir()).expect("removed");
    std::fs::write(world.node_dir(), "a file").expect("written");
    refused_as(&mut world, "a file", "choose an empty directory", name_another).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_directory_asks_for_the_newer_program() {
    let mut world = lived_in().await;
    let path = world.node_dir().join("keybaton.redb");
    let database = redb::Database::open(&path).expect("nobody has it");
    let meta: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
    let writing = database.begin_write().expect("a writer");
    {
        let mut table = writing.open_table(meta).expect("a table");
        let newer = u32::MAX.to_be_bytes();
        table.insert(b"schema".as_slice(), newer.as_slice()).expect("a row");
    }
    writing.commit().expect("written");
    drop(database);
    refused(&mut world, "a newer schema", "run the newer keybaton").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_missing_or_exposed_master_key_opens_nothing() {
    let mut world = lived_in().await;
    let key = world.path().join("node.master-key");
    let right = std::fs::read(&key).expect("a key beside the directory");
    let replace = |bytes: &[u8], mode| {
        let _ = std::fs::remove_file(&key);
        std::fs::write(&key, bytes).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    replace(&[7; 32], 0o400);
    refused(&mut world, "a wrong key", "use the key it was created with").await;
    replace(b"password", 0o400);
    refused(&mut world, "no key at all", "needs 32 bytes").await;
    replace(&right, 0o444);
    refused(&mut world, "a key for everybody", "chmod 400").await;
    let _ = std::fs::remove_file(&key);
    let looked = plain_run(["status", "--data-dir", &world.node_dir().display().to_string()]);
    demand_refused("a missing key", &looked, "check that it exists");
    replace(&right, 0o400);
    world.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_master_key_is_not_replaced_by_a_new_one() {
    let mut world = lived_in().await;
    let key = world.path().join("node.master-key");
    std::fs::remove_file(&key).expect("removed");
    let before = contents(&world.node_dir());
    let builder = world.builder();

    let error = world.start_as(builder).await.expect_err("nothing can be opened");

    let line = told(&error);
    assert!(line.contains("master key"), "{line}");
    assert!(!key.exists(), "a new key would only hide that the old one is gone");
    demand_same("a lost key", &before, &contents(&world.node_dir()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_at_a_time_works_on_a_directory() {
    let mut world = World::open().await;
    world.provision("acme").await;
    let second = world.builder().start().await;
    let line = told(&second.err().expect("it is taken"));
    assert!(line.contains("in use by another keybaton process; stop that one"), "{line}");
    // The first one noticed nothing.
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.stop().await;
    world.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_contradicts_itself_is_refused_with_both_values() {
    let mut world = World::open().await;
    world.stop().await;
    let secs = Duration::from_secs;
    let cases: [(&str, Policy); 6] = [
        ("soft_deadline", Policy { soft_deadline: secs(3_600), ..policy() }),
        ("hard_deadline", Policy { hard_deadline: Duration::ZERO, ..policy() }),
        ("overlap", Policy { overlap: Duration::MAX, ..policy() }),
        ("interval", Policy { interval: Some(secs(1)), ..policy() }),
        ("on_stuck", Policy { on_stuck: OnStuck::Reopen, ..policy() }),
        ("sweep_horizon", Policy { settle: secs(7_200), ..policy() }),
    ];
    for (named, bad) in cases {
        world.setup = Setup { policy: bad, ..Setup::default() };
        let before = contents(world.path());
        let builder = world.builder();
        let error = world.start_as(builder).await.expect_err(named);
        let line = told(&error);
        assert!(line.contains(named) && line.contains(PROVIDER), "{named}: {line}");
        demand_same(&format!("{named}: nothing has changed"), &before, &contents(world.path()));
    }
    world.setup = Setup::default();
    world.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_never_used_has_no_status() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (missing, empty) = (dir.path().join("missing"), dir.path().join("empty"));
    std::fs::create_dir(&empty).expect("made");
    for path in [&missing, &empty] {
        let error = soon("an answer", read_status(path, None)).await.expect_err("nothing is there");
        let line = told(&error);
        assert!(line.contains("name the directory of a node that has run"), "{line}");
        let shown = path.display().to_string();
        let looked = plain_run(["status", "--data-dir", &shown]);
        demand_refused("an unused directory", &looked, "name the directory of a node");
        let verified = plain_run(["audit", "verify", "--data-dir", &shown]);
        demand_refused("an unused directory", &verified, "name the directory of a node");
    }
    assert!(!missing.exists(), "a look makes nothing");
    assert!(contents(&empty).is_empty(), "a look leaves nothing");
    assert!(!dir.path().join("missing.master-key").exists());
}

#[test]
fn the_command_line_refuses_what_it_does_not_know_and_says_what_it_does() {
    let cases: [(&[&str], &str); 9] = [
        (&["demo", "--task", "8"], "--tasks"),
        (&["demo", "--tasks", "0"], "8..=20000"),
        (&["demo", "--tasks", "many"], "invalid value"),
        (&["demo", "--fault", "gremlins"], "ack-lost"),
        (&["demo", "--provider-class", "c"], "possible values: a, b"),
        (&["demo", "--simulator", "http://127.0.0.1:1"], "--simulator-dir"),
        (&["rotate"], "unrecognized subcommand"),
        (&["status"], "--data-dir"),
        (&["simulator", "--dir", "d", "--fault", "issue:0=quota"], "fault"),
    ];
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (args, remedy) in cases {
        let ended = plain_run(args);
        demand_refused(&args.join(" "), &ended, remedy);
    }
    let logs = plain_run(["status", "--data-dir", "d", "--log", "=loud=="]);
    demand_refused("--log", &logs, "use error, warn, info, debug or trace");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let blocked = plain_run(["simulator", "--dir", &file.join("d").display().to_string()]);
    demand_refused("a directory below a file", &blocked, "cannot");
}

#[test]
fn a_demo_goes_on_only_as_what_it_was() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("demo").display().to_string();
    let first = plain_run(["demo", "--tasks", "8", "-o", "json", "--data-dir", &data]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let before = contents(dir.path());

    let other = plain_run(["demo", "--tasks", "9", "-o", "json", "--data-dir", &data]);

    demand_refused("another number of agents", &other, "give the same ones, or another");
    demand_same("nothing has changed", &before, &contents(dir.path()));
}

#[test]
fn a_demo_does_not_move_into_somebody_elses_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("thesis.tex"), "years of work").expect("written");
    let before = contents(dir.path());
    let data = dir.path().display().to_string();

    let refused = plain_run(["demo", "--tasks", "8", "-o", "json", "--data-dir", &data]);

    demand_refused("a foreign directory", &refused, "choose an empty directory");
    demand_same("nothing has changed", &before, &contents(dir.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_answers_nonsense_never_gets_a_key_promoted() {
    let answers = [
        "html-body",
        "empty-body",
        "huge-body",
        "key-newline",
        "key-nul",
        "key-non-ascii",
        "key-empty",
        "key-long",
        "id-missing",
        "duplicate-id",
    ];
    let world = World::open().await;
    world.provision("acme").await;
    for answer in answers {
        world.arm(&format!("issue@acme:1={answer}"));
        let rotation = world.rotate("acme").await;
        world.complete(&rotation).await;
    }
    world.debts_paid("acme").await;
    assert_eq!(world.simulator().snapshot().keys_alive, 1, "whatever was made is revoked");
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_name_is_a_name_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let home = dir.path().join("node");
    let error = Node::builder(&home).node("../me").start().await.err().expect("a bad name");
    assert!(told(&error).contains("use 1 to 63"), "{}", told(&error));
    assert!(!home.exists(), "nothing was made");
}
