//! Listens to the agents: which step began and ended under which version, and when.
//!
//! Only what a rotation needs is kept: each task's present step, and its last one under a version
//! that it has left.
//!
//! **Invariant:** a task that was on a version stands in exactly one sighting of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::sighting::TaskSighting;
use super::times::micros;

/// A tenant's version.
type Held = (u32, u32);

/// What all agents of a run report to.
pub struct Recorder {
    origin: Instant,
    tasks: DashMap<u32, Present>,
    steps: AtomicU64,
    /// Tasks that have left a version, until somebody asks.
    left: Mutex<HashMap<Held, Vec<TaskSighting>>>,
}

/// A step.
#[derive(Clone, Copy)]
struct Step {
    version: u32,
    began: u64,
    ended: Option<u64>,
}

/// Where a task stands.
struct Present {
    tenant: u32,
    keeps_key: bool,
    step: Step,
    before: Option<Step>,
    is_gone: bool,
}

impl Recorder {
    /// One that counts from now.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            tasks: DashMap::new(),
            steps: AtomicU64::new(0),
            left: Mutex::default(),
        }
    }

    /// Microseconds from the beginning of the run to this moment.
    pub fn moment(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.origin))
    }

    /// Microseconds from the beginning of the run to now.
    pub fn now(&self) -> u64 {
        self.moment(Instant::now())
    }

    /// A step begins; the version is what the task holds, or is about to take for its call.
    pub fn begins(&self, task: u32, tenant: u32, keeps_key: bool, version: u32) {
        let now = self.now();
        let step = Step { version, began: now, ended: None };
        let mut place = match self.tasks.entry(task) {
            Entry::Occupied(place) => place.into_ref(),
            Entry::Vacant(place) => {
                let first = Present { tenant, keeps_key, step, before: None, is_gone: false };
                place.insert(first);
                return;
            }
        };
        let before = place.step;
        place.before = Some(before);
        place.step = step;
        if before.version != version {
            let seen = sighting(task, &place, before, Some(now));
            self.leave((tenant, before.version), seen);
        }
    }

    /// The step ended; the version is the one that it used.
    pub fn ends(&self, task: u32, version: u32) {
        let now = self.now();
        let Some(mut place) = self.tasks.get_mut(&task) else { return };
        self.steps.fetch_add(1, Ordering::Relaxed);
        place.step.ended = Some(now);
        if place.step.version == version {
            return;
        }
        // The version was closed between the look at it and the call.
        place.step.version = version;
        let (before, began) = (place.before, place.step.began);
        if let Some(before) = before.filter(|before| before.version != version) {
            let seen = sighting(task, &place, before, Some(began));
            self.leave((place.tenant, before.version), seen);
        }
    }

    /// The task needs no key any more.
    pub fn gone(&self, task: u32) {
        if let Some(mut place) = self.tasks.get_mut(&task) {
            place.is_gone = true;
        }
    }

    /// How many tasks have begun a step.
    pub fn begun(&self) -> usize {
        self.tasks.len()
    }

    /// Steps that ended, over all tasks.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// How many tasks are on a version and will use another one.
    pub fn still_on(&self, tenant: u32, version: u32) -> usize {
        let is_on = |it: &Present| it.tenant == tenant && it.step.version == version && !it.is_gone;
        self.tasks.iter().filter(|task| is_on(task.value())).count()
    }

    /// Every task that was on the version when, or after, it was left; they are forgotten here.
    pub fn take(&self, tenant: u32, version: u32, committed: u64) -> Vec<TaskSighting> {
        let mut seen = self.left.lock().remove(&(tenant, version)).unwrap_or_default();
        self.tasks.retain(|task, place| {
            if place.tenant != tenant || place.step.version != version {
                return true;
            }
            if !place.is_gone || place.step.ended.is_none_or(|ended| ended >= committed) {
                seen.push(sighting(*task, place, place.step, None));
            }
            !place.is_gone
        });
        seen.sort_unstable_by_key(|it| it.task);
        seen
    }

    fn leave(&self, held: Held, seen: TaskSighting) {
        self.left.lock().entry(held).or_default().push(seen);
    }
}

fn sighting(task: u32, place: &Present, step: Step, resumed: Option<u64>) -> TaskSighting {
    TaskSighting {
        task,
        keeps_key: place.keeps_key,
        began: step.began,
        // A step that broke off and was begun again has ended by then.
        ended: step.ended.or(resumed),
        resumed,
        is_gone: place.is_gone && resumed.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(seen: &[TaskSighting]) -> Vec<(u32, bool, bool, bool)> {
        seen.iter()
            .map(|it| (it.task, it.ended.is_some(), it.resumed.is_some(), it.is_gone))
            .collect()
    }

    #[test]
    fn a_task_that_went_on_one_that_ended_and_one_that_is_stuck_are_each_seen_once() {
        let recorder = Recorder::new();
        for task in 1..=3 {
            recorder.begins(task, 0, true, 1);
        }
        recorder.begins(9, 1, true, 1);
        recorder.ends(1, 1);
        recorder.begins(1, 0, true, 2);
        recorder.ends(2, 1);
        recorder.gone(2);
        assert_eq!(recorder.still_on(0, 1), 1);
        let seen = recorder.take(0, 1, 0);
        let expected = [(1, true, true, false), (2, true, false, true), (3, false, false, false)];
        assert_eq!(versions(&seen), expected);
        assert_eq!(recorder.begun(), 3, "the one that ended is forgotten");
        assert_eq!(recorder.still_on(1, 1), 1, "another tenant's version 1 is another one");
    }

    #[test]
    fn a_version_that_was_closed_before_the_call_was_not_used() {
        let recorder = Recorder::new();
        recorder.begins(1, 0, false, 1);
        recorder.ends(1, 1);
        recorder.begins(1, 0, false, 1);
        recorder.ends(1, 2);
        let seen = recorder.take(0, 1, 0);
        assert_eq!(versions(&seen), [(1, true, true, false)]);
        assert!(seen[0].resumed >= seen[0].ended);
        assert!(recorder.take(0, 2, 0).iter().all(|it| it.resumed.is_none()));
    }

    #[test]
    fn who_ended_before_the_version_was_left_was_not_on_it() {
        let recorder = Recorder::new();
        recorder.begins(1, 0, false, 1);
        recorder.ends(1, 1);
        recorder.gone(1);
        assert!(recorder.take(0, 1, u64::MAX).is_empty());
    }
}
