//! The embedded store on a disk that fails, and in a process that is killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keybaton_adapters::store::{MasterKey, OpenError};
use keybaton_adapters::{Embedded, Options};
use keybaton_messages::Rev;
use keybaton_ports::{CommitError, TaskError, verify_chain};
use keybaton_rotation::AuditKind;
use keybaton_tests::conformance::records::{Writer, audit_entry, pair};
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use keybaton_tests::fakes::disk::{Disk, Health};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, key(), &Options::default()).expect("opened")
}

fn open_on(path: &Path, disk: &Arc<Disk>) -> Result<Embedded, OpenError> {
    let options = Options { backend: disk.source(), ..Options::default() };
    Embedded::open(path, key(), &options)
}

/// A pair and a task on a disk.
struct World {
    embedded: Embedded,
    writer: Writer,
    owner: Owner,
    disk: Arc<Disk>,
    path: PathBuf,
    _dir: TempDir,
}

async fn world() -> World {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let disk = Disk::new();
    let embedded = open_on(&path, &disk).expect("founded");
    let writer = Writer::provisioned(embedded.journal.clone(), "n1", pair("acme"), 1).await;
    let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
    owner.append(result(0)).await.expect("appended");
    World { embedded, writer, owner, disk, path, _dir: dir }
}

impl World {
    fn stopped(&self) -> Option<String> {
        self.embedded.stopped().borrow().clone()
    }
}

#[tokio::test]
async fn a_commit_that_failed_once_is_carried_out_again_on_the_reopened_database() {
    let mut world = world().await;
    world.disk.set(Health::OneBadWrite);
    let rev = world
        .writer
        .commit(|transaction| {
            transaction.audit = vec![audit_entry(AuditKind::Ordered, "1")];
        })
        .await;
    assert_eq!(rev, Rev(2));
    world.disk.set(Health::OneBadWrite);
    world.owner.append(result(1)).await.expect("appended");
    world.disk.set(Health::OneBadWrite);
    let owner = Owner::claim(&world.embedded.tasks, &task("t2")).await;
    assert_eq!(owner.epoch.0, 1);
    assert_eq!(world.stopped(), None);
    let journal = &world.embedded.journal;
    assert_eq!(journal.audit(&pair("acme"), 0).await.expect("read").len(), 1);
    assert_eq!(world.owner.entries().await, [result(0), result(1)]);
}

/// The walk over the rows that follows a failed commit meets tasks in the order of their names.
#[tokio::test]
async fn a_task_is_found_after_a_failed_commit_whatever_the_order_of_names() {
    let mut world = world().await;
    let mut earlier = Owner::claim(&world.embedded.tasks, &task("a")).await;
    world.disk.set(Health::OneBadWrite);
    world.owner.append(result(1)).await.expect("appended");
    earlier.append(result(0)).await.expect("appended");
    world.disk.set(Health::OneBadWrite);
    earlier.append(result(1)).await.expect("appended");
    assert_eq!(world.owner.entries().await, [result(0), result(1)]);
    assert_eq!(earlier.entries().await, [result(0), result(1)]);
}

#[tokio::test]
async fn a_full_disk_stops_the_store_and_what_was_acknowledged_is_there_afterwards() {
    for writes in [0, 1, 2, 3, 5, 8] {
        let mut world = world().await;
        world.disk.set(Health::FullAfter(writes));
        let mut acknowledged = Rev(1);
        let refusal = loop {
            let transaction = world.writer.next(|_| {});
            match world.writer.try_commit(transaction).await {
                Ok(rev) => acknowledged = rev,
                Err(refusal) => break refusal,
            }
        };
        assert!(
            matches!(refusal, CommitError::Unavailable(_) | CommitError::Unknown(_)),
            "{refusal:?}"
        );
        let why = world.stopped().expect("stopped");
        assert!(why.contains("check the disk"), "{why}");
        let after = world.owner.append(result(1)).await;
        assert!(matches!(after, Err(TaskError::Unavailable(_))), "{after:?}");
        let preflight = world.embedded.secrets.preflight(&pair("acme")).await;
        assert!(preflight.is_err());
        let World { embedded, writer, owner, path, _dir, .. } = world;
        drop((embedded, writer, owner));

        let embedded = open(&path);
        let stored = embedded.journal.load(&pair("acme")).await.expect("read");
        let rev = stored.expect("written").record.rev;
        let or_unknown = matches!(refusal, CommitError::Unknown(_)) && rev == acknowledged.next();
        assert!(rev == acknowledged || or_unknown, "{rev} {acknowledged}");
        let mut owner = Owner::claim(&embedded.tasks, &task("t1")).await;
        assert_eq!(owner.entries().await, [result(0)]);
        owner.append(result(1)).await.expect("appended");
    }
}

#[tokio::test]
async fn nothing_is_written_after_a_sync_that_failed() {
    let mut world = world().await;
    world.disk.set(Health::NoSync);
    let transaction = world.writer.next(|_| {});
    let refused = world.writer.try_commit(transaction).await;
    assert!(matches!(refused, Err(CommitError::Unknown(_))), "{refused:?}");
    world.disk.set(Health::Well);
    let syncs = world.disk.syncs();
    let transaction = world.writer.next(|_| {});
    let refused = world.writer.try_commit(transaction).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert!(world.stopped().expect("stopped").contains("sync"));
    assert_eq!(world.disk.syncs(), syncs);
}

#[tokio::test]
async fn everybody_in_a_batch_that_failed_is_answered() {
    let world = world().await;
    let mut owners = Vec::new();
    for n in 0..40 {
        owners.push(Owner::claim(&world.embedded.tasks, &task(&format!("b{n}"))).await);
    }
    world.disk.set(Health::Gone);
    let appends: Vec<_> = owners
        .into_iter()
        .map(|mut owner| tokio::spawn(async move { owner.append(result(0)).await }))
        .collect();
    for append in appends {
        let answer = append.await.expect("no panic");
        assert!(
            matches!(answer, Err(TaskError::Unavailable(_) | TaskError::Unknown(_))),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_take_nobody_else_with_them() {
    let world = world().await;
    let tasks = world.embedded.tasks.clone();
    let mut owners = Vec::new();
    for n in 0..60 {
        owners.push(Owner::claim(&tasks, &task(&format!("c{n}"))).await);
    }
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..20 {
        let mut staying = Vec::new();
        for mut owner in owners {
            let leaves = random.random_bool(0.5);
            let append = tokio::spawn(async move {
                owner.append(result(round)).await.expect("appended");
                owner
            });
            if leaves {
                let yields = random.random_range(0..3);
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                append.abort();
            }
            staying.push((leaves, append));
        }
        owners = Vec::new();
        for (n, (leaves, append)) in staying.into_iter().enumerate() {
            match append.await {
                Ok(owner) => owners.push(owner),
                Err(_) => {
                    assert!(leaves, "nobody waits for ever, and nobody panics");
                    owners.push(Owner::claim(&tasks, &task(&format!("c{n}"))).await);
                }
            }
        }
    }
    for owner in owners {
        assert_eq!(owner.entries().await.len() as u64, owner.rev);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = world().await;
        for n in 1..random.random_range(2..12) {
            world.owner.append(result(n)).await.expect("appended");
        }
        let acknowledged = world.owner.rev;
        // One more write begins, and the power goes before its last sync.
        world.disk.set(Health::NoSync);
        let unsure = world.owner.append(result(acknowledged)).await;
        assert!(unsure.is_err(), "seed {seed}");
        let database = world.path.join("keybaton.redb");
        world.disk.cut_power(&database, || random.random_bool(0.5));
        let World { embedded, writer, owner, path, _dir, .. } = world;
        drop((embedded, writer, owner));
        let embedded = open(&path);
        let owner = Owner::claim(&embedded.tasks, &task("t1")).await;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&owner.rev),
            "seed {seed}: {} of {acknowledged}",
            owner.rev
        );
        let expected: Vec<_> = (0..owner.rev).map(result).collect();
        assert_eq!(owner.entries().await, expected, "seed {seed}");
    }
}

/// The variable that makes this test binary a victim that writes until it is killed.
const VICTIM: &str = "KEYBATON_TEST_VICTIM";

/// Not a test by itself: what [`a_killed_process_loses_nothing_that_it_acknowledged`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else {
        return;
    };
    let embedded = open(Path::new(&path));
    let tasks = embedded.tasks.clone();
    let mut writer = Writer::begin(embedded.journal.clone(), "n1", pair("acme")).await;
    if let Some(stored) = embedded.journal.load(&pair("acme")).await.expect("read") {
        writer.record = stored.record;
    }
    for n in 0..4u64 {
        let tasks = tasks.clone();
        tokio::spawn(async move {
            let mut owner = Owner::claim(&tasks, &task(&format!("t{n}"))).await;
            loop {
                owner.append(result(owner.rev)).await.expect("appended");
                println!("task {n} {}", owner.rev);
            }
        });
    }
    loop {
        let next = writer.record.rev.next();
        let mut transaction = writer.next(|transaction| {
            transaction.audit = vec![audit_entry(AuditKind::Ordered, &next.to_string())];
        });
        embedded.entropy.fill(&mut transaction.id.0);
        let rev = writer.try_commit(transaction).await.expect("committed");
        println!("pair {}", rev.0);
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let mut acknowledged = [0u64; 5];
    for round in 0..8 {
        kill_one(&path, 40 + 17 * round, &mut acknowledged);
        let embedded = open(&path);
        for (n, acknowledged) in (0..4).zip(acknowledged) {
            let rows = embedded.tasks.entries(&task(&format!("t{n}"))).await;
            let entries = rows.unwrap_or_default();
            assert!(entries.len() as u64 >= acknowledged, "round {round}");
            let expected: Vec<_> = (0..entries.len() as u64).map(result).collect();
            assert!(entries == expected, "round {round}");
        }
        check_pair(&embedded, acknowledged[4]).await;
    }
    assert!(acknowledged.iter().all(|n| *n > 0), "{acknowledged:?}");
}

/// Record and audit moved together, and the chain is whole.
async fn check_pair(embedded: &Embedded, acknowledged: u64) {
    let journal = &embedded.journal;
    let stored = journal.load(&pair("acme")).await.expect("read");
    let rev = stored.map_or(0, |stored| stored.record.rev.0);
    assert!(rev >= acknowledged, "{rev} {acknowledged}");
    let mut records = Vec::new();
    loop {
        let page = journal.audit(&pair("acme"), records.len() as u64).await.expect("read");
        if page.is_empty() {
            break;
        }
        records.extend(page);
    }
    assert_eq!(records.len() as u64, rev);
    let verified = verify_chain(&embedded.audit_key, &pair("acme"), &records);
    assert_eq!(verified, Ok(()));
}

/// Lets a victim write until it has said `lines` lines, kills it, and notes what it said.
fn kill_one(path: &Path, lines: usize, acknowledged: &mut [u64; 5]) {
    let binary = std::env::current_exe().expect("this binary");
    let mut victim = Command::new(binary)
        .args(["--exact", "store_disk::victim", "--nocapture"])
        .env(VICTIM, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a victim");
    let output = victim.stdout.take().expect("piped");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut said = 0;
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let words: Vec<_> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().ok();
        let seen = match words[..] {
            ["task", n, rev] => number(n).zip(number(rev)),
            ["pair", rev] => number(rev).map(|rev| (4, rev)),
            _ => None,
        };
        if let Some((place, rev)) = seen {
            let place = usize::try_from(place).expect("one of five");
            acknowledged[place] = acknowledged[place].max(rev);
            said += 1;
        }
        if said == lines || Instant::now() > deadline {
            // SIGKILL; what it said before is still in the pipe, and read.
            victim.kill().expect("killed");
        }
    }
    victim.wait().expect("gone");
    assert!(said >= lines, "the victim wrote {said} lines");
}
