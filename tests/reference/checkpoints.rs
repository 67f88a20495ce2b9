//! The embedded checkpoint store and the pointers to it in the task journal, beside a list.
//!
//! A checkpoint counts once a row names it; the row is a compare-and-set on the task's entries.

use std::time::Duration;

use keybaton_messages::{Checkpoint, TaskEpoch, TaskKey, Timestamp};
use keybaton_ports::{CheckpointRef, Denial, Entry, Refusal, TaskError, TaskWrite};
use keybaton_tests::conformance::checkpoints::checkpoint;
use keybaton_tests::conformance::task_entries::{spec, task_of};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use crate::drive::{Doubt, Port, prove};
use crate::store::{FORGETS, Store};

#[test]
fn reference_checkpoints() {
    prove::<Checkpoints>(Duration::from_secs(12));
}

/// The port's name here.
#[derive(Clone, Debug)]
pub struct Checkpoints;

#[derive(Clone, Debug, Default)]
struct Task {
    is_there: bool,
    epoch: u64,
    entries: u64,
    /// Which checkpoints its rows named, oldest first.
    named: Vec<usize>,
    /// The write that came last: epoch and checkpoint.
    last: Option<(u64, usize)>,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    tasks: [Task; TASKS],
    put: Vec<Checkpoint>,
}

const TASKS: usize = 3;

fn task(n: usize) -> TaskKey {
    let (tenant, name) = [("acme", "t1"), ("umbrella", "t1"), ("acme", "t2")][n % TASKS];
    task_of(tenant, name)
}

/// An operation in words that fit any state.
#[derive(Clone, Debug)]
pub enum Op {
    Put { task: usize, size: u16 },
    Get { task: usize, which: usize },
    Point { task: usize, which: usize, epoch: i8, expect: i8 },
    Resume { task: usize },
    Delete { task: usize, which: usize },
}

/// An operation with its arguments.
#[derive(Clone, Debug)]
pub enum Call {
    /// `put`.
    Put(Checkpoint),
    /// `get` of a checkpoint, by its place among all that were put.
    Get(usize, usize),
    /// An entry of the task's journal that names a checkpoint.
    Point { task: usize, which: usize, epoch: u64, expect: u64 },
    /// Makes the task.
    Create(usize),
    /// Claims the task and opens what its newest row names.
    Resume(usize),
    /// `delete`, of one that no row names.
    Delete(usize, usize),
}

/// What it answers, errors in one word.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Put,
    Opened(Checkpoint),
    Corrupt,
    Pointed(Result<(), TaskError>),
    Resumed(u64, u64, Option<Checkpoint>),
    Done,
    Unknown,
    Busy,
    Other(String),
}

/// What each task's newest row names.
pub type View = Vec<Option<(u64, u64, Option<Checkpoint>)>>;

impl Model {
    fn newest(&self, n: usize) -> Option<Checkpoint> {
        self.tasks[n % TASKS].named.last().map(|which| self.put[*which].clone())
    }
}

const PREVIOUS: &str = "serves the previous checkpoint";
const BLIND: &str = "moves the pointer whatever was expected";
const SHORTENS: &str = "loses the end of a state";
const ANY_TASK: &str = "opens a checkpoint for any task";

impl Port for Checkpoints {
    type Op = Op;
    type Call = Call;
    type Answer = Answer;
    type View = View;
    type Model = Model;
    /// The references that were given out, in order.
    type Memory = Vec<CheckpointRef>;

    const CLAIM: &'static str = "reference-checkpoints";
    const STATEMENT: &'static str = "a task goes on from exactly the checkpoint that its newest \
        row names, in any order of operations, restarts and power cuts";
    const MUTANTS: &'static [&'static str] = &[FORGETS, PREVIOUS, BLIND, SHORTENS, ANY_TASK];

    fn ops() -> BoxedStrategy<Op> {
        let (t, w) = (|| 0usize..TASKS, || any::<usize>());
        let off = || prop_oneof![8 => Just(0i8), 1 => Just(-1), 1 => Just(1)];
        prop_oneof![
            4 => (t(), any::<u16>()).prop_map(|(task, size)| Op::Put { task, size }),
            2 => (t(), w()).prop_map(|(task, which)| Op::Get { task, which }),
            6 => (t(), w(), off(), off()).prop_map(|(task, which, epoch, expect)| {
                Op::Point { task, which, epoch, expect }
            }),
            3 => t().prop_map(|task| Op::Resume { task }),
            1 => (t(), w()).prop_map(|(task, which)| Op::Delete { task, which }),
        ]
        .boxed()
    }

    fn call(model: &Model, op: &Op, n: u64) -> Call {
        let new = |n: usize, size: u16| {
            let state: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
            Checkpoint { at: Timestamp(n as u64), ..checkpoint(&task(n), &state) }
        };
        let off = |number: u64, by: i8| number.saturating_add_signed(by.into());
        match *op {
            // Nothing is named before there is something to name.
            _ if model.put.is_empty() => Call::Put(new(0, 3)),
            Op::Put { task, size } => Call::Put(Checkpoint { step: n, ..new(task, size % 3000) }),
            Op::Get { task, which } => Call::Get(task, which % model.put.len()),
            Op::Point { task, which, epoch, expect } => {
                let there = &model.tasks[task];
                Call::Point {
                    task,
                    which: which % model.put.len(),
                    epoch: off(there.epoch, epoch),
                    expect: off(there.entries, expect),
                }
            }
            Op::Resume { task } if !model.tasks[task].is_there => Call::Create(task),
            Op::Resume { task } => Call::Resume(task),
            Op::Delete { task, which } => Call::Delete(task, which % model.put.len()),
        }
    }

    fn expect(model: &mut Model, call: &Call) -> Answer {
        match call {
            Call::Put(checkpoint) => {
                model.put.push(checkpoint.clone());
                Answer::Put
            }
            Call::Get(n, which) => match &model.put[*which] {
                checkpoint if checkpoint.task == task(*n) => Answer::Opened(checkpoint.clone()),
                _ => Answer::Corrupt,
            },
            Call::Point { task, which, epoch, expect } => {
                Answer::Pointed(model.tasks[*task].point(*which, *epoch, *expect))
            }
            Call::Create(n) => {
                model.tasks[*n].is_there = true;
                Answer::Done
            }
            Call::Resume(n) => {
                let task = &mut model.tasks[*n];
                task.epoch += 1;
                let (epoch, entries) = (task.epoch, task.entries);
                let newest = model.newest(*n);
                match newest.filter(|newest| newest.task != self::task(*n)) {
                    Some(_) => Answer::Corrupt,
                    None => Answer::Resumed(epoch, entries, model.newest(*n)),
                }
            }
            Call::Delete(..) => Answer::Done,
        }
    }

    fn view(model: &Model) -> View {
        let of = |n: usize| {
            let own = |it: &Checkpoint| it.task == task(n);
            let there = &model.tasks[n];
            there.is_there.then(|| (there.epoch, there.entries, model.newest(n).filter(own)))
        };
        (0..TASKS).map(of).collect()
    }

    fn doubt(answer: &Answer) -> Option<Doubt> {
        match answer {
            Answer::Unknown | Answer::Pointed(Err(TaskError::Unknown(_))) => Some(Doubt::Unknown),
            Answer::Busy | Answer::Pointed(Err(TaskError::Unavailable(_))) => {
                Some(Doubt::Unavailable)
            }
            _ => None,
        }
    }

    async fn ask(store: &Store, refs: &mut Vec<CheckpointRef>, call: &Call) -> Answer {
        let checkpoints = &store.embedded.checkpoints;
        match call {
            Call::Put(checkpoint) => match checkpoints.put(checkpoint).await {
                Ok(at) => {
                    refs.push(at);
                    Answer::Put
                }
                Err(refusal) => refused(&refusal),
            },
            Call::Get(n, which) => get(store, *n, &refs[*which]).await,
            Call::Point { task: n, which, epoch, expect } => {
                let checkpoint = refs[*which].clone();
                let entry = Entry::Checkpoint { n: *which as u64, checkpoint, at: Timestamp(1) };
                let mut write =
                    TaskWrite { key: task(*n), epoch: TaskEpoch(*epoch), expect: *expect, entry };
                let mut answer = store.embedded.tasks.append(&write).await;
                if store.is(BLIND) && answer == Err(TaskError::Conflict) {
                    let there = store.embedded.tasks.entries(&task(*n)).await.unwrap_or_default();
                    write.expect = there.len() as u64;
                    answer = store.embedded.tasks.append(&write).await;
                }
                Answer::Pointed(answer)
            }
            Call::Create(n) => {
                match store.embedded.tasks.create(&task(*n), &spec(b"input")).await {
                    Ok(_) => Answer::Done,
                    Err(error) => broken(&error),
                }
            }
            Call::Resume(n) => resume(store, *n).await,
            Call::Delete(n, which) => match checkpoints.delete(&task(*n), &refs[*which]).await {
                Ok(()) => Answer::Done,
                Err(refusal) => refused(&refusal),
            },
        }
    }

    async fn look(store: &Store, _: &Model, _: &Vec<CheckpointRef>) -> View {
        let rows = store.embedded.tasks.list(None).await.expect("the store can be read");
        let mut view = Vec::new();
        for n in 0..TASKS {
            let Some(row) = rows.iter().find(|row| row.key == task(n)) else {
                view.push(None);
                continue;
            };
            let newest = match newest(store, n).await {
                Some(at) => match get(store, n, &at).await {
                    Answer::Opened(checkpoint) => Some(checkpoint),
                    _ => None,
                },
                None => None,
            };
            view.push(Some((row.epoch.0, row.rev, newest)));
        }
        view
    }
}

impl Task {
    fn point(&mut self, which: usize, epoch: u64, expect: u64) -> Result<(), TaskError> {
        if !self.is_there {
            return Err(TaskError::NotFound);
        }
        if epoch != self.epoch {
            return Err(TaskError::Fenced);
        }
        if expect == self.entries {
            self.entries += 1;
            self.named.push(which);
            self.last = Some((epoch, which));
            return Ok(());
        }
        let is_repeat =
            Some(expect) == self.entries.checked_sub(1) && self.last == Some((epoch, which));
        if is_repeat { Ok(()) } else { Err(TaskError::Conflict) }
    }
}

fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Denied { denial: Denial::Corrupt, .. } => Answer::Corrupt,
        Refusal::Unknown { .. } => Answer::Unknown,
        Refusal::Busy { .. } => Answer::Busy,
        other => Answer::Other(other.to_string()),
    }
}

fn broken(error: &TaskError) -> Answer {
    match error {
        TaskError::Unknown(_) => Answer::Unknown,
        TaskError::Unavailable(_) => Answer::Busy,
        error => Answer::Other(error.to_string()),
    }
}

async fn get(store: &Store, n: usize, at: &CheckpointRef) -> Answer {
    let checkpoints = &store.embedded.checkpoints;
    let mut opened = checkpoints.get(&task(n), at).await;
    if store.is(ANY_TASK) {
        for other in 0..TASKS {
            if opened.is_err() {
                opened = checkpoints.get(&task(other), at).await;
            }
        }
    }
    match opened {
        Ok(mut checkpoint) => {
            if store.is(SHORTENS) && checkpoint.state.len() > 2000 {
                checkpoint.state.truncate(2000);
            }
            Answer::Opened(checkpoint)
        }
        Err(refusal) => refused(&refusal),
    }
}

/// What the newest row names, read without a claim.
async fn newest(store: &Store, n: usize) -> Option<CheckpointRef> {
    let entries = store.embedded.tasks.entries(&task(n)).await.unwrap_or_default();
    let mut named = entries.into_iter().rev().filter_map(|entry| match entry {
        Entry::Checkpoint { checkpoint, .. } => Some(checkpoint),
        _ => None,
    });
    let newest = named.next();
    if store.is(PREVIOUS) { named.next().or(newest) } else { newest }
}

async fn resume(store: &Store, n: usize) -> Answer {
    let claimed = match store.embedded.tasks.claim(&task(n)).await {
        Ok(claimed) => claimed,
        Err(error) => return broken(&error),
    };
    let at = if store.is(PREVIOUS) { newest(store, n).await } else { claimed.checkpoint };
    let (epoch, rev) = (claimed.row.epoch.0, claimed.row.rev);
    match at {
        None => Answer::Resumed(epoch, rev, None),
        Some(at) => match get(store, n, &at).await {
            Answer::Opened(checkpoint) => Answer::Resumed(epoch, rev, Some(checkpoint)),
            other => other,
        },
    }
}
