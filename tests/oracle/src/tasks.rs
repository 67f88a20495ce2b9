//! What the tasks' journals claim: S6, each step exactly once, and no task dropped.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::calls::Calls;
use crate::error::OracleError;
use crate::findings::Findings;
use crate::lines::HasSchema;
use crate::names::{Names, TaskKey};
use crate::rules::Rules;

/// One line of the export.
#[derive(Deserialize)]
pub(crate) struct TaskLine {
    schema: u32,
    tenant: String,
    task: String,
    state: State,
    steps_expected: Option<u64>,
    entries: Vec<EntryLine>,
    #[serde(rename = "output")]
    _output: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    Parked,
    Done,
    Failed,
    Cancelled,
}

#[derive(Deserialize)]
struct EntryLine {
    entry: EntryKind,
    n: Option<u64>,
    idem: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryKind {
    Intent,
    Result,
    Checkpoint,
    State,
}

impl HasSchema for TaskLine {
    fn schema(&self) -> u32 {
        self.schema
    }
}

/// Which step numbers have a result: all below a number, and some above it.
#[derive(Default)]
struct Steps {
    below: u64,
    above: BTreeSet<u64>,
}

impl Steps {
    /// Returns whether `n` is new.
    fn insert(&mut self, n: u64) -> bool {
        if self.contains(n) {
            return false;
        }
        self.above.insert(n);
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }

    fn contains(&self, n: u64) -> bool {
        n < self.below || self.above.contains(&n)
    }

    /// One more than the highest step with a result.
    fn end(&self) -> u64 {
        self.above.last().map_or(self.below, |last| last + 1)
    }
}

struct TaskFacts {
    state: State,
    steps: Steps,
    lost: BTreeSet<u64>,
}

/// All tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    all: HashMap<TaskKey, TaskFacts>,
    in_order: Vec<TaskKey>,
    doubled: u64,
    compacted: u64,
    /// What was found while reading, in words.
    broken: Findings,
}

/// What the journals told.
pub(crate) struct Told {
    pub(crate) tasks: u64,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) compacted: u64,
}

impl Tasks {
    /// Takes one line.
    pub(crate) fn add(
        &mut self,
        names: &mut Names,
        number: u64,
        line: TaskLine,
    ) -> Result<(), OracleError> {
        let shown = format!("{}/{}", line.tenant, line.task);
        let wrong = |what| OracleError::Senseless { file: "tasks", line: number, what };
        let key = (names.of(&line.tenant), names.of(&line.task));
        let (steps, intents) = self.read(&shown, &line.entries).map_err(wrong)?;
        if let Some(expected) = line.steps_expected.filter(|&expected| steps.end() > expected) {
            let end = steps.end();
            self.broken.add("S6", || {
                format!("{shown} has a result of step {}, its program has {expected}", end - 1)
            });
        }
        let expected = line.steps_expected.unwrap_or_else(|| steps.end());
        let missing = (steps.below..expected).chain(intents).filter(|&n| !steps.contains(n));
        let lost = missing.collect();
        if self.all.insert(key, TaskFacts { state: line.state, steps, lost }).is_some() {
            return Err(wrong(format!("task {shown} stands there twice: export once")));
        }
        self.in_order.push(key);
        Ok(())
    }

    /// Reads one task's entries; returns its results and the steps that it had begun.
    fn read(&mut self, shown: &str, entries: &[EntryLine]) -> Result<(Steps, Vec<u64>), String> {
        let mut steps = Steps::default();
        let mut intents = Vec::new();
        let mut idems: HashMap<u64, &str> = HashMap::new();
        let mut broken = |what: String| self.broken.add("S6", || format!("{shown} {what}"));
        let mut last = None;
        let mut has_begun = false;
        for entry in entries {
            if entry.entry == EntryKind::State {
                continue;
            }
            let n = entry.n.ok_or_else(|| format!("an entry of {shown} has no `n`"))?;
            match entry.entry {
                // Entries before the first one kept were compacted into this checkpoint.
                EntryKind::Checkpoint if !has_begun => {
                    self.compacted += n.saturating_sub(steps.below);
                    steps.below = steps.below.max(n);
                }
                EntryKind::Checkpoint | EntryKind::State => {}
                EntryKind::Intent if steps.contains(n) => {
                    self.doubled += 1;
                    broken(format!("began step {n} again after its result"));
                }
                EntryKind::Intent => intents.push(n),
                EntryKind::Result if !steps.insert(n) => {
                    self.doubled += 1;
                    broken(format!("has two results of step {n}"));
                }
                EntryKind::Result if last.is_some_and(|last| n < last) => {
                    broken(format!("has its result of step {n} after a later one's"));
                }
                EntryKind::Result => last = Some(n),
            }
            has_begun |= entry.entry != EntryKind::Checkpoint;
            let idem = entry.idem.as_deref().filter(|_| entry.entry != EntryKind::Checkpoint);
            if let Some(idem) = idem {
                let first = *idems.entry(n).or_insert(idem);
                if first != idem {
                    self.doubled += 1;
                    broken(format!("used two idempotency keys for step {n}"));
                }
            }
        }
        Ok((steps, intents))
    }

    /// Whether this step has a result.
    pub(crate) fn has_result(&self, task: TaskKey, step: u64) -> bool {
        self.all.get(&task).is_some_and(|facts| facts.steps.contains(step))
    }

    /// Counts, and says what was dropped or lost. Steps of calls that died with a killed process
    /// must have been repeated or resumed like all others.
    pub(crate) fn judge(
        &mut self,
        rules: &Rules,
        names: &Names,
        calls: &Calls<'_>,
        findings: &mut Findings,
    ) -> Told {
        findings.absorb(std::mem::take(&mut self.broken));
        for (task, step) in calls.steps_cut_by_kill() {
            if let Some(facts) = self.all.get_mut(&task)
                && !facts.steps.contains(step)
            {
                facts.lost.insert(step);
            }
        }
        let cancelled: HashSet<_> =
            rules.cancelled.iter().map(|name| (name.tenant.as_str(), name.task.as_str())).collect();
        let (mut dropped, mut lost) = (0, 0);
        for &task in &self.in_order {
            let facts = &self.all[&task];
            let named = (names.text(task.0), names.text(task.1));
            if facts.state == State::Cancelled && cancelled.contains(&named) {
                continue;
            }
            if facts.state != State::Done {
                dropped += 1;
                let state = facts.state;
                findings.add("S6", || format!("{} is not done, it is {state:?}", names.task(task)));
            }
            if let Some(first) = facts.lost.first() {
                let count = facts.lost.len();
                lost += count as u64;
                findings.add("S6", || {
                    format!("{} lacks {count} results, the first of step {first}", names.task(task))
                });
            }
        }
        let mut known = self.all.len() as u64;
        for task in calls.tasks_seen().into_iter().filter(|task| !self.all.contains_key(task)) {
            (known, dropped) = (known + 1, dropped + 1);
            findings.add("S6", || format!("{} made calls and has no journal", names.task(task)));
        }
        if let Some(missing) = rules.tasks_expected.and_then(|all| all.checked_sub(known))
            && missing > 0
        {
            (known, dropped) = (known + missing, dropped + missing);
            findings.add("S6", || format!("{missing} spawned tasks left no trace"));
        }
        Told { tasks: known, dropped, lost, doubled: self.doubled, compacted: self.compacted }
    }
}
