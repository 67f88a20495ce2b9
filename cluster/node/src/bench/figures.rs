//! The definitions: what is computed from what was seen.
//!
//! The texts of [`DEFINITIONS`] are printed with every result; each function below is one of them.

use super::sighting::{Sighting, TaskSighting};
use super::spread::{Spread, Value};

/// What each figure means: its name and its definition.
pub const DEFINITIONS: [(&str, &str); 6] = [
    (
        "drain",
        "from the commit that makes the new version ACTIVE until nobody holds the old one (class \
         B: from the commit that shuts the gate); one value for each rotation",
    ),
    (
        "floor",
        "the longest time that a step or call under the old version went on after its closing: no \
         drain that interrupts nobody can be shorter",
    ),
    ("overhead", "drain - floor: what the machinery adds"),
    (
        "swap",
        "from the same commit until the task's first step under the new version; one value for \
         each task that was on the old version and went on",
    ),
    (
        "pause",
        "from the end of a task's last step under the old version to the start of its first under \
         the new one, its durable result included",
    ),
    (
        "revoke_lag",
        "from the moment when nobody held the old version until the provider's acknowledgement of \
         its revocation was durable (class B: none, issuing has ended the old key)",
    ),
];

/// How what did not end is counted.
pub const CENSORING: &str = "Whatever did not end while it was watched (a drain, a step, a pause) \
     is right-censored: it is counted with all the time that was waited for it, until the \
     deadline or an interruption. A percentile that such a value may move is a lower bound and \
     marked with >=.";

/// All values of a run, warm-up left out.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// See [`DEFINITIONS`].
    pub drain: Spread,
    /// See [`DEFINITIONS`].
    pub floor: Spread,
    /// See [`DEFINITIONS`].
    pub overhead: Spread,
    /// See [`DEFINITIONS`].
    pub swap: Spread,
    /// See [`DEFINITIONS`].
    pub pause: Spread,
    /// See [`DEFINITIONS`].
    pub revoke_lag: Spread,
}

impl Figures {
    /// Of the rotations that count.
    pub fn of(sightings: &[Sighting]) -> Self {
        let counted = || sightings.iter().filter(|it| !it.is_warm_up);
        let tasks = || counted().flat_map(|it| it.tasks.iter().map(move |task| (it, task)));
        Self {
            drain: Spread::of(counted().filter_map(drain)),
            floor: Spread::of(counted().filter_map(floor)),
            overhead: Spread::of(counted().filter_map(overhead)),
            swap: Spread::of(tasks().filter_map(|(it, task)| swap(it, task))),
            pause: Spread::of(tasks().filter_map(|(it, task)| pause(it, task))),
            revoke_lag: Spread::of(counted().filter_map(revoke_lag)),
        }
    }

    /// With their names.
    pub fn named(&self) -> [(&'static str, &Spread); 6] {
        [
            ("drain", &self.drain),
            ("floor", &self.floor),
            ("overhead", &self.overhead),
            ("swap", &self.swap),
            ("pause", &self.pause),
            ("revoke_lag", &self.revoke_lag),
        ]
    }
}

/// From `from` to `to`, or as long as it was looked at.
fn span(from: u64, to: Option<u64>, looked: u64) -> Value {
    match to {
        Some(to) => Value::Exact(to.saturating_sub(from)),
        None => Value::AtLeast(looked.saturating_sub(from)),
    }
}

/// Drain latency; none for a rotation that never took the old version out of use.
pub fn drain(it: &Sighting) -> Option<Value> {
    Some(span(it.committed?, it.emptied, it.looked))
}

/// The longest remaining step at the closing.
pub fn floor(it: &Sighting) -> Option<Value> {
    let closed = it.closed.filter(|_| it.committed.is_some())?;
    let ended = |task: &TaskSighting| match (task.ended, it.emptied) {
        // Who takes a key for each call says that it has ended only after giving the key back: the
        // call was over by the time when nobody held the version any more.
        (Some(ended), Some(emptied)) if !task.keeps_key => Some(ended.min(emptied)),
        (ended, _) => ended,
    };
    let open = it
        .tasks
        .iter()
        .map(|task| (task.began, ended(task)))
        .filter(|(began, ended)| *began <= closed && ended.is_none_or(|ended| ended > closed));
    let remaining = open.map(|(_, ended)| span(closed, ended, it.looked));
    let longest = remaining.max_by_key(|value| (value.us(), value.is_censored()));
    Some(longest.unwrap_or(Value::Exact(0)))
}

/// Drain minus floor.
pub fn overhead(it: &Sighting) -> Option<Value> {
    let (drain, floor) = (drain(it)?, floor(it)?);
    Some(match (drain, floor) {
        (Value::Exact(drain), floor) => Value::Exact(drain.saturating_sub(floor.us())),
        // Every step has ended and somebody still holds the version.
        (Value::AtLeast(drain), Value::Exact(floor)) => Value::AtLeast(drain.saturating_sub(floor)),
        // A step goes on: nothing is known of what comes after it.
        (Value::AtLeast(_), Value::AtLeast(_)) => Value::AtLeast(0),
    })
}

/// Swap latency; none for a task that ended on the old version.
pub fn swap(it: &Sighting, task: &TaskSighting) -> Option<Value> {
    let committed = it.committed?;
    (!task.is_gone).then(|| span(committed, task.resumed, it.looked))
}

/// The pause of a hand-over; none for a task that ended on the old version. A task that never
/// reached a boundary is counted with all the time that was waited for it.
pub fn pause(it: &Sighting, task: &TaskSighting) -> Option<Value> {
    let committed = it.committed?;
    (!task.is_gone).then(|| match task.ended {
        Some(ended) => span(ended, task.resumed, it.looked),
        None => span(committed, None, it.looked),
    })
}

/// Revoke lag; none before the drain's end.
pub fn revoke_lag(it: &Sighting) -> Option<Value> {
    if it.is_without_revocation || it.committed.is_none() {
        return None;
    }
    Some(span(it.emptied?, it.acknowledged, it.looked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u32, began: u64, ended: Option<u64>, resumed: Option<u64>) -> TaskSighting {
        TaskSighting { task: number, keeps_key: true, began, ended, resumed, is_gone: false }
    }

    /// Committed at 1000, closed at 1010, two tasks in a step, one between two steps.
    fn history() -> Sighting {
        Sighting {
            committed: Some(1000),
            closed: Some(1010),
            emptied: Some(5030),
            acknowledged: Some(6030),
            looked: 7000,
            holders_at_close: 3,
            tasks: vec![
                task(1, 200, Some(3000), Some(3100)),
                task(2, 900, Some(5000), Some(5200)),
                task(3, 100, Some(990), Some(1200)),
            ],
            ..Sighting::default()
        }
    }

    #[test]
    fn each_figure_is_what_its_definition_says() {
        let it = history();
        assert_eq!(drain(&it), Some(Value::Exact(4030)), "commit to empty");
        assert_eq!(floor(&it), Some(Value::Exact(3990)), "the longest step after the closing");
        assert_eq!(overhead(&it), Some(Value::Exact(40)));
        assert_eq!(revoke_lag(&it), Some(Value::Exact(1000)));
        let swaps = it.tasks.iter().map(|task| swap(&it, task).map(Value::us));
        assert_eq!(swaps.collect::<Vec<_>>(), [Some(2100), Some(4200), Some(200)]);
        let pauses = it.tasks.iter().map(|task| pause(&it, task).map(Value::us));
        assert_eq!(pauses.collect::<Vec<_>>(), [Some(100), Some(200), Some(210)]);
    }

    #[test]
    fn a_task_that_never_reached_a_boundary_is_censored_at_the_last_look_and_not_left_out() {
        let mut it = history();
        it.tasks.push(task(4, 500, None, None));
        (it.emptied, it.acknowledged, it.looked) = (None, None, 61_000);
        assert_eq!(drain(&it), Some(Value::AtLeast(60_000)));
        assert_eq!(floor(&it), Some(Value::AtLeast(59_990)));
        assert_eq!(overhead(&it), Some(Value::AtLeast(0)), "nothing is known of it");
        assert_eq!(revoke_lag(&it), None, "it has not begun");
        let figures = Figures::of(&[it]);
        assert_eq!((figures.swap.len(), figures.swap.censored()), (4, 1));
        assert_eq!((figures.pause.len(), figures.pause.censored()), (4, 1));
        assert_eq!(figures.swap.at(1000), Some(Value::AtLeast(60_000)));
        assert_eq!(figures.pause.at(1000), Some(Value::AtLeast(60_000)));
        assert_eq!(figures.swap.at(500), Some(Value::Exact(2100)));
    }

    #[test]
    fn a_call_whose_end_was_told_after_its_key_was_given_back_leaves_the_closing_as_overhead() {
        let mut it = history();
        it.tasks = vec![TaskSighting { keeps_key: false, ..task(1, 200, Some(5100), Some(5200)) }];
        assert_eq!(floor(&it), Some(Value::Exact(4020)), "it held the key until 5030");
        assert_eq!(overhead(&it), Some(Value::Exact(10)), "from the commit to the closing");
    }

    #[test]
    fn a_holder_that_stays_after_its_step_is_overhead_and_no_floor() {
        let mut it = history();
        (it.emptied, it.acknowledged, it.looked) = (None, None, 61_000);
        assert_eq!(floor(&it), Some(Value::Exact(3990)));
        assert_eq!(overhead(&it), Some(Value::AtLeast(60_000 - 3990)));
    }

    #[test]
    fn a_task_that_ended_on_the_old_version_sets_the_floor_and_has_no_pause() {
        let mut it = history();
        it.tasks[1].resumed = None;
        it.tasks[1].is_gone = true;
        assert_eq!(floor(&it), Some(Value::Exact(3990)));
        let figures = Figures::of(&[it]);
        assert_eq!((figures.pause.len(), figures.swap.len(), figures.drain.len()), (2, 2, 1));
    }

    #[test]
    fn warm_up_is_not_counted_and_a_rotation_without_a_commit_has_no_drain() {
        let warm = Sighting { is_warm_up: true, ..history() };
        let never = Sighting { committed: None, ended: "refused: busy".into(), ..history() };
        let figures = Figures::of(&[warm, never]);
        assert!(figures.named().iter().all(|(_, it)| it.len() == 0));
    }

    #[test]
    fn a_step_that_begins_after_the_closing_is_no_floor() {
        let mut it = history();
        it.tasks = vec![task(1, 1011, Some(9000), None)];
        assert_eq!(floor(&it), Some(Value::Exact(0)));
    }
}
