//! The writer's promises to callers that come, wait and go away.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::*;
use crate::store::backend::file_source;
use crate::store::{Rows, Table};

fn store(dir: &Path) -> Arc<Store> {
    let dir = DataDir::take(&dir.join("data"), true).unwrap();
    let database = Database::open(dir.database(), file_source()).unwrap();
    Arc::new(Store::new(dir, database, Vec::new()).unwrap())
}

/// Writes one row; the answer says whether it was there already.
struct Note(&'static str);

impl Work for Note {
    type Answer = bool;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<bool, Fault> {
        let key = self.0.as_bytes();
        let was_there = tables.get(Table::Meta, key)?.is_some();
        tables.insert(Table::Meta, key, b"noted")?;
        Ok(was_there)
    }
}

fn is_noted(store: &Store, word: &str) -> bool {
    let found = store.read(|reader| reader.get(Table::Meta, word.as_bytes()));
    found.unwrap().is_some()
}

/// Holds the writer up inside an operation until it is let go.
struct Slow {
    began: Arc<Barrier>,
    goes_on: Arc<Barrier>,
}

impl Work for Slow {
    type Answer = ();

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.began.wait();
        self.goes_on.wait();
        tables.insert(Table::Meta, b"slow", b"noted")
    }
}

/// Queues behind a commit that is under way, then lets that one go on.
async fn behind_a_commit<T>(store: &Arc<Store>, queue: impl FnOnce() -> T) -> T {
    let (began, goes_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let slow = Slow { began: Arc::clone(&began), goes_on: Arc::clone(&goes_on) };
    let leading = Arc::clone(store);
    let leader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(leading.submit(slow))
    });
    began.wait();
    let queued = queue();
    goes_on.wait();
    leader.join().unwrap().unwrap();
    queued
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_own_operation_along_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (second, third) = behind_a_commit(&store, || {
        let first = store.submit(Note("first"));
        let second = store.submit(Note("second"));
        let third = store.submit(Note("third"));
        drop(first);
        (second, third)
    })
    .await;
    assert_eq!(third.await, Ok(false), "though nobody polls the second");
    assert_eq!(second.await, Ok(false));
    assert!(!is_noted(&store, "first"));
    assert!(is_noted(&store, "second") && is_noted(&store, "third"));
}

#[tokio::test]
async fn a_whole_queue_that_goes_away_leaves_the_store_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    behind_a_commit(&store, || {
        let gone: Vec<_> = (0..10).map(|_| store.submit(Note("gone"))).collect();
        drop(gone);
    })
    .await;
    assert_eq!(store.submit(Note("next")).await, Ok(false));
    assert!(!is_noted(&store, "gone"));
}

#[tokio::test]
async fn one_batch_carries_everybody_who_waits() {
    struct Count(Arc<AtomicUsize>);
    impl Resident for Count {
        fn committed(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn reload(&self, _reader: &mut Reader) -> Result<(), Fault> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::take(&dir.path().join("data"), true).unwrap();
    let database = Database::open(data.database(), file_source()).unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    let residents: Vec<Arc<dyn Resident>> = vec![Arc::new(Count(Arc::clone(&commits)))];
    let store = Arc::new(Store::new(data, database, residents).unwrap());
    let waiting = behind_a_commit(&store, || {
        (0..100).map(|_| store.submit(Note("same"))).collect::<Vec<_>>()
    })
    .await;
    let answers = futures::future::join_all(waiting).await;
    let new = answers.iter().filter(|answer| **answer == Ok(false)).count();
    assert_eq!(new, 1, "operations of one batch see each other, in order");
    assert_eq!(commits.load(Ordering::SeqCst), 2, "the slow one, and the batch");
}

#[tokio::test]
async fn an_operation_that_panics_stops_the_store_and_wedges_nobody() {
    struct Panics;
    impl Work for Panics {
        type Answer = ();

        fn apply(&mut self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
            panic!("a fault of ours");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let leading = Arc::clone(&store);
    let bad = std::thread::spawn(move || drop(leading.submit(Panics)));
    assert!(bad.join().is_err());
    let later = store.submit(Note("later")).await;
    assert!(matches!(later, Err(Down::Unavailable(_))), "{later:?}");
    assert!(store.stopped().borrow().is_some());
}
