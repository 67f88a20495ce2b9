//! The audit trail: every key's beginning and end stand in it once, and it shows every change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keybaton::verify_audit;
use keybaton_tests::harness::{Role, World, plain_run, soon};
use serde_json::Value;

/// A world that has rotated twice with a lost answer in between, stopped; and its audit file.
async fn lived_in() -> (World, PathBuf) {
    let mut world = World::open().await;
    for tenant in ["acme", "globex"] {
        world.provision(tenant).await;
    }
    let handle = world.spawn("acme", "worker", Role::mixed(1, 4)).await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.arm("issue@acme:1=ack-lost");
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    soon("the worker", handle.join()).await.expect("done");
    world.debts_paid("acme").await;
    world.stop().await;
    let file = world.node_dir().join("audit.jsonl");
    (world, file)
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("an audit");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_begins_once_and_ends_once_in_the_audit() {
    let (world, file) = lived_in().await;
    let report = verify_audit(&world.node_dir(), None, None).await.expect("an audit");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.chains.len(), 2, "one chain for each pair");

    let mut begun: BTreeMap<String, u32> = BTreeMap::new();
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    for line in lines(&file) {
        let line: Value = serde_json::from_str(&line).expect("a line of JSON");
        let (kind, dedupe) = (line["kind"].as_str(), line["dedupe"].as_str());
        let key = || dedupe.expect("a dedupe").to_owned();
        match kind.expect("a kind") {
            "ISSUED" | "IMPORTED" | "RECONCILED" => *begun.entry(key()).or_default() += 1,
            "REVOKED" => *ended.entry(key()).or_default() += 1,
            _ => {}
        }
    }
    assert_eq!(begun.len(), 5, "two first keys, two new ones, one that got lost: {begun:?}");
    assert_eq!(ended.len(), 3, "the first of acme, the second, the lost one: {ended:?}");
    assert!(begun.values().chain(ended.values()).all(|times| *times == 1));
    assert!(ended.keys().all(|key| begun.contains_key(key)), "{begun:?} {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_the_audit_afterwards_shows() {
    let (world, file) = lived_in().await;
    let whole = std::fs::read(&file).expect("an audit");
    let lines = lines(&file);
    assert!(lines.len() > 20, "{} records", lines.len());
    let join = |lines: &[String]| (lines.join("\n") + "\n").into_bytes();
    let mut tampered: Vec<(String, Vec<u8>)> = Vec::new();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        // Another letter in the same place: the line stays a line.
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        tampered.push((format!("byte {at}"), bytes));
    }
    let mut missing = lines.clone();
    missing.remove(lines.len() / 2);
    tampered.push(("a record taken out".into(), join(&missing)));
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    tampered.push(("two records swapped".into(), join(&swapped)));
    let mut doubled = lines.clone();
    doubled.insert(5, lines[2].clone());
    tampered.push(("a record put in again".into(), join(&doubled)));
    tampered.push(("the beginning cut off".into(), join(&lines[1..])));
    tampered.push(("the last record cut off".into(), join(&lines[..lines.len() - 1])));
    tampered.push(("everything of one pair taken out".into(), {
        let others = lines.iter().filter(|line| !line.contains("globex"));
        join(&others.cloned().collect::<Vec<_>>())
    }));
    tampered.push(("the last line torn".into(), whole[..whole.len() - 7].to_vec()));
    let renamed = String::from_utf8(whole.clone()).expect("text").replace("globex", "acme");
    tampered.push(("one tenant's records as another's".into(), renamed.into_bytes()));

    let copy = world.path().join("copy.jsonl");
    let dir = world.node_dir();
    let found = |bytes: &[u8]| {
        std::fs::write(&copy, bytes).expect("written");
        verify_audit(&dir, Some(&copy), None)
    };
    let same = found(&whole).await.expect("readable");
    assert!(same.is_whole(), "an untouched copy is whole: {same:?}");
    for (what, bytes) in tampered {
        // A line that is no record any more is refused outright.
        if let Ok(report) = found(&bytes).await {
            assert!(!report.is_whole(), "{what} does not show");
        }
    }

    // The program says so with its exit code, and where.
    std::fs::write(&copy, join(&missing)).expect("written");
    let (dir, copy) = (world.node_dir().display().to_string(), copy.display().to_string());
    let verified = plain_run(["audit", "verify", "--data-dir", &dir, "--file", &copy]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.stdout.contains("BROKEN: "), "{verified:?}");
    let verified = plain_run(["audit", "verify", "--data-dir", &dir]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains("whole"), "{verified:?}");
}
