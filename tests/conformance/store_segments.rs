//! Rows of many tasks that one commit wrote lie in one value: they read back, suffer apart, and go
//! when nobody needs them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_ports::{Entry, TaskError, TaskState};
use keybaton_tests::conformance::task_entries::{
    Owner, result, result_with_checkpoint, state, task,
};
use keybaton_tests::fakes::disk::{Disk, Health};
use redb::{Database, DatabaseError};
use tempfile::TempDir;

use crate::store_rows::{Values, rewrite_entries};

/// Something done to values by hand, and what it is called.
type Change<T> = (&'static str, fn(&mut T));

/// A store on a disk that can be held, so that a test says who is written together with whom.
struct World {
    embedded: Embedded,
    disk: Arc<Disk>,
    /// Writes the row during whose commit the others gather.
    first: Owner,
    path: PathBuf,
    dir: TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("data");
        Self::open(dir, path, Disk::new()).await
    }

    async fn open(dir: TempDir, path: PathBuf, disk: Arc<Disk>) -> Self {
        let options = Options { backend: disk.source(), ..Options::default() };
        let key = MasterKey::from_bytes([7; 32]);
        let embedded = Embedded::open(&path, key, &options).expect("opened");
        let first = Owner::claim(&embedded.tasks, &task("first")).await;
        Self { embedded, disk, first, path, dir }
    }

    /// Ends, changes the values by hand, and begins again.
    async fn reopen_with(self, change: impl FnOnce(&mut Values)) -> Self {
        let Self { embedded, disk, first, path, dir } = self;
        drop((first, embedded));
        let database = closed(&path.join("keybaton.redb")).await;
        rewrite_entries(&database, change);
        drop(database);
        Self::open(dir, path, disk).await
    }

    /// Ends, begins again, and tells which values there were.
    async fn reopen(self) -> (Self, Values) {
        let mut seen = Values::new();
        let world = self.reopen_with(|values| seen.clone_from(values)).await;
        (world, seen)
    }

    async fn owners(&self, name: &str, count: usize) -> Vec<Owner> {
        let mut owners = Vec::new();
        for number in 0..count {
            let task = task(&format!("{name}-{number}"));
            owners.push(Owner::claim(&self.embedded.tasks, &task).await);
        }
        owners
    }

    /// Appends one entry of each of these tasks in one commit, behind a row of another task.
    async fn append_together(&mut self, owners: &mut [Owner], entry: &Entry) {
        self.disk.set(Health::Held);
        let write = self.first.write(self.first.rev, result(self.first.rev));
        let tasks = self.embedded.tasks.clone();
        let leading = tokio::spawn(async move { tasks.append(&write).await });
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || disk.wait_for_a_sync()).await.expect("a sync waits");
        let mut appends = Box::pin(join_all(owners.iter_mut().map(|it| it.append(entry.clone()))));
        assert!(futures::poll!(&mut appends).is_pending(), "the disk is held");
        self.disk.set(Health::Well);
        leading.await.expect("no panic").expect("appended");
        self.first.rev += 1;
        appends.await.into_iter().for_each(|appended| appended.expect("appended"));
    }

    /// As many commits, each of one row.
    async fn commit(&mut self, times: usize) {
        for _ in 0..times {
            self.first.append(result(self.first.rev)).await.expect("appended");
        }
    }
}

/// The database, as soon as the thread that committed last has let it go.
async fn closed(path: &Path) -> Database {
    let free = async {
        loop {
            match Database::open(path) {
                Err(DatabaseError::DatabaseAlreadyOpen) => tokio::task::yield_now().await,
                opened => return opened.expect("a database"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), free).await.expect("nobody has it")
}

/// The values that hold more than one row.
fn shared(values: &mut Values) -> Vec<&mut (u64, Vec<u8>)> {
    values.iter_mut().filter(|(_, value)| value[..2] != [0, 0]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_written_together_share_a_value_and_read_back() {
    let mut world = World::new().await;
    let mut owners = world.owners("t", 300).await;
    for n in 0..3 {
        world.append_together(&mut owners, &result(n)).await;
    }
    for owner in &owners {
        assert_eq!(owner.entries().await, (0..3).map(result).collect::<Vec<_>>());
    }
    drop(owners);
    let (world, mut values) = world.reopen().await;
    assert_eq!(shared(&mut values).len(), 3 * 2, "300 rows fill more than one value and not two");
    assert_eq!(values.len(), 3 + 3 * 2);
    for mut owner in world.owners("t", 300).await {
        assert_eq!((owner.epoch.0, owner.rev), (2, 3));
        owner.append(result(3)).await.expect("it goes on");
        assert_eq!(owner.entries().await, (0..4).map(result).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_any_size_read_back() {
    let mut world = World::new().await;
    let mut owners = world.owners("t", 12).await;
    let sizes = [0, 1, 100, 5_000, 20_000, 32_000, 40_000, 100_000, 31_000, 700, 8_000, 900_000];
    let entry = |size: usize, n| match result(n) {
        Entry::Result { n, idem, version, checkpoint, at, .. } => {
            let outcome = vec![7; size];
            Entry::Result { n, idem, version, outcome, checkpoint, at }
        }
        other => other,
    };
    for (n, size) in (0..).zip(sizes) {
        world.append_together(&mut owners, &entry(size, n)).await;
    }
    drop(owners);
    let (world, _) = world.reopen().await;
    let expected: Vec<_> = (0..).zip(sizes).map(|(n, size)| entry(size, n)).collect();
    for owner in world.owners("t", 12).await {
        assert!(owner.entries().await == expected, "{}", owner.key);
    }
}

/// Ways to damage one value of many rows, each with what it is called.
fn damages() -> [Change<Vec<u8>>; 7] {
    [
        ("fewer rows", |value| value[1] -= 1),
        ("more rows", |value| value[1] += 1),
        ("a lone row", |value| value[..2].fill(0)),
        ("an end astray", |value| value[5] ^= 1),
        ("an end far away", |value| value[2] ^= 0x80),
        ("cut short", |value| value.truncate(value.len() - 1)),
        ("one byte more", |value| value.push(0)),
    ]
}

/// Claims ten tasks that have these entries. Tells how many are corrupt.
async fn corrupt(world: &World, entries: &[Entry], what: &str) -> usize {
    let mut corrupt = 0;
    for number in 0..10 {
        match world.embedded.tasks.claim(&task(&format!("t-{number}"))).await {
            Ok(claimed) => assert_eq!(claimed.entries, entries, "{what}"),
            Err(TaskError::Corrupt(_)) => corrupt += 1,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    corrupt
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_was_damaged_makes_its_tasks_corrupt_and_no_other() {
    for ((what, damage), which) in damages().into_iter().flat_map(|it| [(it, 0), (it, 2)]) {
        let mut world = World::new().await;
        let mut owners = world.owners("t", 10).await;
        for n in 0..3 {
            world.append_together(&mut owners, &result(n)).await;
        }
        let mut other = Owner::claim(&world.embedded.tasks, &task("other")).await;
        other.append_all((0..3).map(result)).await;
        drop((owners, other));
        let world = world.reopen_with(|values| damage(&mut shared(values)[which].1)).await;
        let written: Vec<_> = (0..3).map(result).collect();
        assert!(corrupt(&world, &written, what).await > 0, "{what} of value {which}");
        let other = world.embedded.tasks.claim(&task("other")).await.expect("untouched");
        assert_eq!(other.entries, written, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_lie_in_another_place_make_their_tasks_corrupt() {
    let changes: [Change<Values>; 2] = [
        ("a row gone", |values| {
            let value = &mut shared(values)[0].1;
            let begin = value[2..6].to_vec();
            value[6..10].copy_from_slice(&begin);
        }),
        ("another value", |values| {
            let other = shared(values)[1].1.clone();
            shared(values)[0].1 = other;
        }),
    ];
    for (what, change) in changes {
        let mut world = World::new().await;
        let mut owners = world.owners("t", 10).await;
        for n in 0..3 {
            world.append_together(&mut owners, &result(n)).await;
        }
        drop(owners);
        let world = world.reopen_with(change).await;
        let written: Vec<_> = (0..3).map(result).collect();
        assert!(corrupt(&world, &written, what).await > 0, "{what}");
    }
}

/// Ten tasks with a checkpoint and entries behind it, each kind of which is one value.
async fn world_behind_checkpoints() -> World {
    let mut world = World::new().await;
    let mut owners = world.owners("t", 10).await;
    world.append_together(&mut owners, &result_with_checkpoint(0, b"state")).await;
    for n in 1..5 {
        world.append_together(&mut owners, &result(n)).await;
    }
    world
}

/// Nothing else of the tasks is given up for the gap, so that what is put back makes them whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_gone_takes_nothing_with_it() {
    let world = world_behind_checkpoints().await;
    let mut gone = None;
    let losing = |values: &mut Values| {
        let first = shared(values)[2].0;
        let at = values.iter().position(|(row, _)| *row == first).expect("it is there");
        gone = Some(values.remove(at));
    };
    let mut world = world.reopen_with(losing).await;
    world.commit(3).await;
    let written: Vec<_> = (1..5).map(result).collect();
    assert_eq!(corrupt(&world, &written, "gone").await, 10);
    let world = world.reopen_with(|values| values.extend(gone)).await;
    assert_eq!(corrupt(&world, &written, "put back").await, 0);
}

/// Whoever has a copy of what was damaged can put it back: nothing else was given up meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_takes_nothing_with_it() {
    for (what, damage) in damages() {
        let world = world_behind_checkpoints().await;
        let mut intact = Vec::new();
        let damaging = |values: &mut Values| {
            let value = &mut shared(values)[2].1;
            intact.clone_from(value);
            damage(value);
        };
        let mut world = world.reopen_with(damaging).await;
        world.commit(3).await;
        let written: Vec<_> = (1..5).map(result).collect();
        assert!(corrupt(&world, &written, what).await > 0, "{what}");
        let damaged = |value: &Vec<u8>| {
            let mut damaged = intact.clone();
            damage(&mut damaged);
            damaged == *value
        };
        let mending = |values: &mut Values| {
            let found = values.iter_mut().find(|(_, value)| damaged(value));
            found.expect("what was damaged is left alone").1.clone_from(&intact);
        };
        let world = world.reopen_with(mending).await;
        assert_eq!(corrupt(&world, &written, what).await, 0, "{what}");
    }
}

/// Twenty tasks go on for a long time; others have written with them at the begin, and rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_nobody_needs_go_and_take_nothing_with_them() {
    let mut world = World::new().await;
    let early = state(TaskState::Parked("early".into()));
    let mut owners = world.owners("busy", 20).await;
    owners.extend(world.owners("idle", 5).await);
    world.append_together(&mut owners, &early).await;
    world.append_together(&mut owners, &result(0)).await;
    owners.extend(world.owners("resting", 15).await);
    world.append_together(&mut owners, &result(1)).await;
    drop(owners.split_off(20));
    for n in 2..600 {
        world.append_together(&mut owners, &result(n)).await;
    }
    world.append_together(&mut owners, &result_with_checkpoint(600, b"state")).await;
    world.commit(5).await;

    // Each of the twenty has 602 rows and needs 257, and the first one for its state. Nobody else has
    // rows in those 345 values but in the first three: one in five of the second, half of the third.
    let (kept, key) = (owners[0].entries().await.len(), owners[0].key.clone());
    assert_eq!(kept, 257);
    drop(owners);
    let (world, mut values) = world.reopen().await;
    let shared = shared(&mut values);
    assert_eq!(shared.len(), 602 - 345 + 3);
    assert!(3 * shared[1].1.len() < shared[0].1.len(), "the second was written anew");
    assert!(shared[2].1.len() > shared[0].1.len(), "the third is as it was");

    let claimed = world.embedded.tasks.claim(&key).await.expect("claimed");
    assert_eq!(claimed.row.state, TaskState::Parked("early".into()));
    assert!(claimed.checkpoint.is_some());
    assert_eq!(claimed.row.rev, 602);
    for owner in world.owners("idle", 5).await {
        assert_eq!(owner.entries().await, [early.clone(), result(0), result(1)]);
    }
    for owner in world.owners("resting", 15).await {
        assert_eq!(owner.entries().await, [result(1)]);
    }
}

/// What was dead among others that were not is known to be dead after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_rows_are_found_again_and_go_with_their_neighbours() {
    let mut world = World::new().await;
    let mut owners = world.owners("busy", 10).await;
    owners.extend(world.owners("ends", 10).await);
    world.append_together(&mut owners, &result(0)).await;
    let ends = owners.split_off(10);
    for n in 1..600 {
        world.append_together(&mut owners, &result(n)).await;
    }
    world.append_together(&mut owners, &result_with_checkpoint(600, b"state")).await;
    world.commit(5).await;
    drop((owners, ends));
    let (world, mut values) = world.reopen().await;
    assert_eq!(shared(&mut values).len(), 601 - 344 + 1, "half of one value rests");

    for mut owner in world.owners("ends", 10).await {
        owner.append(state(TaskState::Cancelled)).await.expect("appended");
        world.embedded.tasks.forget(&owner.key).await.expect("forgotten");
    }
    let mut world = world;
    world.commit(2).await;
    let (world, mut values) = world.reopen().await;
    assert_eq!(shared(&mut values).len(), 601 - 344);
    for owner in world.owners("busy", 10).await {
        assert_eq!(owner.rev, 601);
        assert_eq!(owner.entries().await.len(), 257);
    }
}
