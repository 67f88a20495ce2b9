//! The audit file: what a crash leaves, and that no tampering stays unseen.

use std::path::{Path, PathBuf};

use keybaton_adapters::audit::{AuditFileError, ChainReport, JsonlSink, verify_file};
use keybaton_ports::{AuditKey, AuditSink};
use keybaton_tests::conformance::audit::{audit_key, chain};
use tempfile::TempDir;

/// A file with two chains.
async fn a_file() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let sink = JsonlSink::open(&path).expect("a new file");
    sink.ship(&chain("acme", 4)).await.expect("shipped");
    sink.ship(&chain("umbrella", 2)).await.expect("shipped");
    (dir, path)
}

/// How many records of each chain stand there whole; none if anything is wrong.
fn whole(path: &Path) -> Option<Vec<u64>> {
    let (reports, is_torn) = verify_file(path, &audit_key()).ok()?;
    let is_whole = |report: &ChainReport| report.broken.is_none();
    (!is_torn && reports.iter().all(is_whole))
        .then(|| reports.iter().map(|report| report.records).collect())
}

#[tokio::test]
async fn an_untouched_file_verifies_and_tells_the_ends_of_its_chains() {
    let (_dir, path) = a_file().await;
    let (reports, is_torn) = verify_file(&path, &audit_key()).expect("a file");
    assert!(!is_torn);
    let ends: Vec<_> = reports.iter().map(|r| (r.records, r.head)).collect();
    assert_eq!(ends, [(4, chain("acme", 4)[3].hash), (2, chain("umbrella", 2)[1].hash)]);
    let (reports, _) = verify_file(&path, &AuditKey::new([6; 32])).expect("a file");
    let first_bad = reports[0].broken.as_ref().map(|broken| broken.seq);
    assert_eq!(first_bad, Some(1), "under another key nothing verifies");
}

#[tokio::test]
async fn every_changed_byte_is_seen() {
    let (_dir, path) = a_file().await;
    let bytes = std::fs::read(&path).expect("a file");
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        std::fs::write(&path, &changed).expect("written");
        assert_eq!(whole(&path), None, "byte {place}");
    }
}

#[tokio::test]
async fn every_lost_swapped_or_doubled_line_is_seen() {
    let (_dir, path) = a_file().await;
    let text = std::fs::read_to_string(&path).expect("a file");
    let lines: Vec<_> = text.lines().collect();
    let broken = |lines: &[&str]| {
        std::fs::write(&path, lines.join("\n") + "\n").expect("written");
        whole(&path).is_none()
    };
    // The last line of a chain can go unseen in the file alone: the head tells it.
    for place in [0, 1, 2, 4] {
        let mut lost = lines.clone();
        lost.remove(place);
        assert!(broken(&lost), "line {place} lost");
    }
    for place in 0..5 {
        let mut swapped = lines.clone();
        swapped.swap(place, place + 1);
        let is_one_chain = place != 3;
        assert_eq!(broken(&swapped), is_one_chain, "line {place} swapped");
        let mut doubled = lines.clone();
        doubled.insert(place, lines[place]);
        assert!(broken(&doubled), "line {place} doubled");
    }
    let mut cut = lines.clone();
    cut.pop();
    std::fs::write(&path, cut.join("\n") + "\n").expect("written");
    let (reports, _) = verify_file(&path, &audit_key()).expect("a file");
    assert_ne!(reports[1].head, chain("umbrella", 2)[1].hash);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_seen_and_written_again() {
    let (_dir, path) = a_file().await;
    let bytes = std::fs::read(&path).expect("a file");
    let last =
        bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("several lines")
            + 1;
    for length in [last + 1, last + 50, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("written");
        let (_, is_torn) = verify_file(&path, &audit_key()).expect("a file");
        assert!(is_torn, "cut at {length}");
        let sink = JsonlSink::open(&path).expect("opened");
        sink.ship(&chain("umbrella", 2)).await.expect("shipped");
        assert_eq!(whole(&path), Some(vec![4, 2]));
        assert_eq!(std::fs::read(&path).expect("a file"), bytes);
    }
}

#[tokio::test]
async fn a_file_that_is_opened_again_is_continued() {
    let (_dir, path) = a_file().await;
    let sink = JsonlSink::open(&path).expect("opened");
    sink.ship(&chain("acme", 6)).await.expect("shipped");
    assert_eq!(whole(&path), Some(vec![6, 2]));
}

#[tokio::test]
async fn a_line_in_the_middle_that_is_no_record_is_named() {
    let (_dir, path) = a_file().await;
    let text = std::fs::read_to_string(&path).expect("a file");
    let mut lines: Vec<_> = text.lines().collect();
    for foreign in ["", "{}", "[]", "\u{0}", r#"{"tenant":"../x"}"#] {
        lines.insert(2, foreign);
        std::fs::write(&path, lines.join("\n") + "\n").expect("written");
        lines.remove(2);
        let verified = verify_file(&path, &audit_key()).map(drop);
        assert!(matches!(verified, Err(AuditFileError::Line { line: 3, .. })), "{foreign:?}");
        assert!(JsonlSink::open(&path).is_err(), "it is not built upon");
    }
}
