//! Everything that is true at one moment of the world.

use keybaton_rotation::Timer;

use crate::book::{Move, RecRef};
use crate::config::Promise;
use crate::what::{KeyRef, V, What};

/// A set of versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Versions(u8);

impl Versions {
    pub(crate) fn has(self, v: V) -> bool {
        self.0 & (1 << v) != 0
    }

    pub(crate) fn put(&mut self, v: V) {
        self.0 |= 1 << v;
    }

    pub(crate) fn take(&mut self, v: V) {
        self.0 &= !(1 << v);
    }

    pub(crate) fn clear(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn all(self) -> impl Iterator<Item = V> {
        (0..8).filter(move |v| self.has(*v))
    }
}

/// A question of the owner that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// Can this attempt succeed at all?
    Preflight(V),
    /// What has the secret store under this version's label?
    Locate(V),
    /// Does the key of this version work, in this attempt?
    Probe(V, V),
    /// Revoke this key.
    Revoke(V, KeyRef),
    /// What stands under this version's label at the provider?
    Sweep(V),
    /// Destroy the secret of this version.
    Destroy(V),
    /// How many grants of this version are left?
    Count(V),
}

/// How far an issue call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Sent,
    /// The provider gave this key; its secret is in memory only.
    Answered(KeyRef),
    /// The secret store has it.
    Stored(KeyRef),
}

/// An issue call of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) v: V,
    pub(crate) stage: Stage,
}

/// A request that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wire {
    /// Issue a key under this version's label.
    Issue(V),
    /// Revoke this key.
    Revoke(KeyRef),
}

/// A key at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) at: KeyRef,
    pub(crate) is_alive: bool,
    /// The provider never accepts it.
    pub(crate) is_bad: bool,
    /// It died because we asked for it.
    pub(crate) is_killed: bool,
    /// The audit says that it may die although somebody holds it.
    pub(crate) is_forced: bool,
}

/// Behind which writes of others a copy of the record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Behind {
    pub(crate) rev: bool,
    pub(crate) epoch: bool,
}

/// The pair's actor in one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Actor {
    pub(crate) record: RecRef,
    pub(crate) behind: Behind,
    timers: u16,
}

impl Actor {
    pub(crate) fn new(record: RecRef) -> Self {
        Self { record, behind: Behind::default(), timers: 0 }
    }

    pub(crate) fn arm(&mut self, timer: Timer) {
        self.timers |= bit(timer);
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.timers &= !bit(timer);
    }

    pub(crate) fn disarm_all(&mut self) {
        self.timers = 0;
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.timers & bit(timer) != 0
    }
}

/// Every timer, in the order in which a world left in peace rings them.
pub(crate) const TIMERS: [Timer; 11] = [
    Timer::Retry,
    Timer::Settle,
    Timer::Probe,
    Timer::Soft,
    Timer::Overlap,
    Timer::Count,
    Timer::Owed,
    Timer::Hard,
    Timer::DrainMax,
    Timer::RevokeBy,
    Timer::Person,
];

fn bit(timer: Timer) -> u16 {
    TIMERS.iter().position(|t| *t == timer).map_or(0, |place| 1 << place)
}

/// One node: its process, its broker, its task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) is_alive: bool,
    /// It does not reach the store.
    pub(crate) is_cut: bool,
    /// It fenced itself: its lease has ended for it, nothing is used any more.
    pub(crate) is_fenced: bool,
    /// The version that its broker hands out.
    pub(crate) open: Option<V>,
    /// The version that its task holds.
    pub(crate) task: Option<V>,
    /// The broker asked for a grant, the store gave it, and the answer is on its way.
    pub(crate) granted: Option<V>,
    pub(crate) actor: Option<Actor>,
    pub(crate) questions: Vec<Question>,
    pub(crate) jobs: Vec<Job>,
    /// This node waited out the lease of the other one; whether that is still in the same life.
    pub(crate) waited: Option<bool>,
}

impl Node {
    /// Whether it may use credentials.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_alive && !self.is_fenced
    }

    pub(crate) fn ask(&mut self, question: Question) {
        if let Err(place) = self.questions.binary_search(&question) {
            self.questions.insert(place, question);
        }
    }

    pub(crate) fn forget(&mut self, question: Question) {
        self.questions.retain(|q| *q != question);
    }

    pub(crate) fn job(&self, v: V) -> Option<Stage> {
        self.jobs.iter().find(|job| job.v == v).map(|job| job.stage)
    }

    pub(crate) fn set_job(&mut self, v: V, stage: Stage) {
        self.end_job(v);
        self.jobs.push(Job { v, stage });
        self.jobs.sort_unstable();
    }

    pub(crate) fn end_job(&mut self, v: V) {
        self.jobs.retain(|job| job.v != v);
    }
}

/// A commit of which nobody knows whether it was written.
#[derive(Clone, Debug)]
pub(crate) struct Floating {
    /// What the owner had read.
    pub(crate) before: RecRef,
    pub(crate) what: What,
    pub(crate) decided: std::sync::Arc<Move>,
    pub(crate) behind: Behind,
}

impl PartialEq for Floating {
    fn eq(&self, other: &Self) -> bool {
        (&self.before, self.what, self.behind) == (&other.before, other.what, other.behind)
    }
}

impl Eq for Floating {}

impl std::hash::Hash for Floating {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.before, self.what, self.behind).hash(state);
    }
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The record in the store.
    pub(crate) store: RecRef,
    /// The one before, where the store may forget.
    pub(crate) before: Option<RecRef>,
    pub(crate) floating: Option<Floating>,
    /// Grants of each node's present life.
    pub(crate) grants: [Versions; 2],
    /// Fence rows.
    pub(crate) fences: [bool; 2],
    pub(crate) keys: Vec<Key>,
    pub(crate) wires: Vec<Wire>,
    /// Under which label which key's secret lies.
    pub(crate) secrets: Vec<(V, KeyRef)>,
    /// Persons who were asked and have not answered.
    pub(crate) asked: Versions,
    /// Keys that persons created and have not submitted.
    pub(crate) created: Vec<(V, KeyRef)>,
    pub(crate) nodes: [Node; 2],
    pub(crate) faults: u8,
    pub(crate) triggers: u8,
    pub(crate) emergencies: u8,
    pub(crate) orders: u8,
    /// The first promise that broke.
    pub(crate) broken: Option<Promise>,
}

impl State {
    pub(crate) fn node(&self, n: u8) -> &Node {
        &self.nodes[usize::from(n)]
    }

    pub(crate) fn node_mut(&mut self, n: u8) -> &mut Node {
        &mut self.nodes[usize::from(n)]
    }

    pub(crate) fn grants(&self, n: u8) -> Versions {
        self.grants[usize::from(n)]
    }

    pub(crate) fn grants_mut(&mut self, n: u8) -> &mut Versions {
        &mut self.grants[usize::from(n)]
    }

    pub(crate) fn is_row_fenced(&self, n: u8) -> bool {
        self.fences[usize::from(n)]
    }

    pub(crate) fn key(&self, at: KeyRef) -> Option<&Key> {
        self.keys.iter().find(|key| key.at == at)
    }

    pub(crate) fn key_mut(&mut self, at: KeyRef) -> Option<&mut Key> {
        self.keys.iter_mut().find(|key| key.at == at)
    }

    pub(crate) fn is_live(&self, at: KeyRef) -> bool {
        self.key(at).is_some_and(|key| key.is_alive)
    }

    /// Grants of a version that are left.
    pub(crate) fn count(&self, v: V) -> u8 {
        self.grants.iter().map(|grants| u8::from(grants.has(v))).sum()
    }

    pub(crate) fn secret(&self, v: V) -> Option<KeyRef> {
        self.secrets.iter().find(|(label, _)| *label == v).map(|(_, key)| *key)
    }

    pub(crate) fn put_secret(&mut self, v: V, key: KeyRef) {
        if self.secret(v).is_none() {
            self.secrets.push((v, key));
            self.secrets.sort_unstable();
        }
    }

    pub(crate) fn put_wire(&mut self, wire: Wire) {
        if let Err(place) = self.wires.binary_search(&wire) {
            self.wires.insert(place, wire);
        }
    }

    pub(crate) fn take_wire(&mut self, wire: Wire) {
        self.wires.retain(|w| *w != wire);
    }

    /// Whether a request to issue under this label may still reach the provider.
    pub(crate) fn may_be_issued(&self, v: V) -> bool {
        self.wires.contains(&Wire::Issue(v))
            || self.nodes.iter().any(|node| node.job(v).is_some())
            || self.asked.has(v)
            || self.created.iter().any(|(label, _)| *label == v)
    }

    pub(crate) fn break_promise(&mut self, promise: Promise) {
        self.broken.get_or_insert(promise);
    }
}
