//! The strings of the puppets: cues that a test hangs on a step, and what was seen of each step.
//!
//! **Invariant:** what a test waits for is a level, so that nothing is missed by looking late.

use std::collections::{HashMap, VecDeque};

use keybaton_messages::TaskKey;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::wait::soon;

/// What happens at one place of one step, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// The program's code panics.
    Panic,
    /// The step fails in a way that may be tried again.
    Again,
    /// The task cannot succeed.
    Fail,
    /// A person must look.
    Park,
    /// The step waits until [`Strings::release`] says that it may go on.
    Hold,
    /// As [`Cue::Hold`], and its code does not yield meanwhile: nobody can stop the step.
    Seize,
}

/// Where in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Before its deed.
    Before,
    /// After its deed, before its result is kept.
    After,
    /// While it is looked up whether the step took place.
    Look,
}

/// One passage of a task through a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The task's id.
    pub task: String,
    /// The step.
    pub n: u64,
    /// Where.
    pub place: Place,
    /// Whether the step was known to be a repetition.
    pub is_repeat: bool,
    /// The step's idempotency key.
    pub idem: [u8; 16],
}

type Hook = (String, u64, Place);

/// Everything that hangs on the puppets of one world. It outlives the node, as the world does.
pub struct Strings {
    cues: Mutex<HashMap<Hook, VecDeque<Cue>>>,
    seen: watch::Sender<Vec<Seen>>,
    released: watch::Sender<HashMap<String, u64>>,
}

impl Default for Strings {
    fn default() -> Self {
        Self {
            cues: Mutex::default(),
            seen: watch::channel(Vec::new()).0,
            released: watch::channel(HashMap::new()).0,
        }
    }
}

impl Strings {
    /// Hangs a cue on the next passage of `task` through `place` of step `n`; several wait in
    /// line, one for each passage.
    pub fn hang(&self, task: &str, n: u64, place: Place, cue: Cue) {
        let hook = (task.to_owned(), n, place);
        self.cues.lock().entry(hook).or_default().push_back(cue);
    }

    /// Lets `task` go on where it is held in any step up to `n`.
    pub fn release(&self, task: &str, n: u64) {
        self.released.send_modify(|released| {
            let up_to = released.entry(task.to_owned()).or_default();
            *up_to = (*up_to).max(n + 1);
        });
    }

    /// Lets everybody go on.
    pub fn release_all(&self) {
        let held: Vec<_> = self.seen.borrow().iter().map(|s| s.task.clone()).collect();
        self.released.send_modify(|released| {
            for task in held {
                released.insert(task, u64::MAX);
            }
        });
    }

    /// Waits until `task` came through `place` of step `n`.
    pub async fn came(&self, task: &str, n: u64, place: Place) {
        self.came_times(task, n, place, 1).await;
    }

    /// Waits until `task` came through `place` of step `n` so many times.
    pub async fn came_times(&self, task: &str, n: u64, place: Place, times: usize) {
        let is_it = |seen: &&Seen| seen.task == task && seen.n == n && seen.place == place;
        let mut seen = self.seen.subscribe();
        let came = seen.wait_for(|seen| seen.iter().filter(is_it).count() >= times);
        let what = format!("{task} at {place:?} of step {n}, {times} times");
        soon(&what, came).await.expect("the strings outlive the wait");
    }

    /// How often `task` came through `place` of step `n`.
    #[must_use]
    pub fn times(&self, task: &str, n: u64, place: Place) -> usize {
        let is_it = |seen: &&Seen| seen.task == task && seen.n == n && seen.place == place;
        self.seen.borrow().iter().filter(is_it).count()
    }

    /// Everything that was seen of `task`, in order.
    #[must_use]
    pub fn seen(&self, task: &str) -> Vec<Seen> {
        let seen = self.seen.borrow();
        seen.iter().filter(|s| s.task == task).cloned().collect()
    }

    /// A puppet comes through; `Some`: this happens to it. A hold is waited out here.
    pub(super) async fn pass(
        &self,
        task: &TaskKey,
        n: u64,
        place: Place,
        (is_repeat, idem): (bool, [u8; 16]),
    ) -> Option<Cue> {
        let task = task.task.as_str();
        let hook = (task.to_owned(), n, place);
        let cue = self.cues.lock().get_mut(&hook).and_then(VecDeque::pop_front);
        self.seen.send_modify(|seen| {
            seen.push(Seen { task: task.to_owned(), n, place, is_repeat, idem });
        });
        let mut released = self.released.subscribe();
        let go_on =
            released.wait_for(|released| released.get(task).is_some_and(|up_to| *up_to > n));
        // The sender is this object, which is borrowed here: the wait ends well.
        match cue {
            Some(Cue::Hold) => drop(go_on.await),
            Some(Cue::Seize) => {
                let runtime = tokio::runtime::Handle::current();
                drop(tokio::task::block_in_place(|| runtime.block_on(go_on)));
            }
            other => return other,
        }
        None
    }
}
