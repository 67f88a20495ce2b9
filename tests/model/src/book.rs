//! The production rules, asked once for every record and input, and what they said.
//!
//! `step` is a pure function of record, input, policy and moment; the last two never change here,
//! so an answer is remembered. **Invariant:** nothing but [`keybaton_rotation::step`] decides.
//!
//! A record is kept in normal form: revision, epoch, moments and counters that only decide how long
//! something waits or what people read are set to one value, since time has no clock here. Who is
//! behind which revision is kept beside the record, by whoever holds a copy of it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use keybaton_messages::{Epoch, Incarnation, PairId, ProviderName, Rev, TenantId, VersionStatus};
use keybaton_rotation::{
    AuditKind, Class, Context, Decision, Due, Effect, Gate, Guard, OnStuck, Owner, PairRecord,
    Phase, Policy, Timer, step,
};
use rustc_hash::{FxHashMap, FxHasher};

use crate::config::{Config, Mutant};
use crate::limits::VERSIONS_MAX;
use crate::state::Question;
use crate::what::{KeyRef, NOW, Truth, V, What, deployment, node_id, small, tag, version};
use crate::words;

/// A record in normal form, with what the world asks of it again and again.
#[derive(Debug)]
pub(crate) struct Rec {
    pub(crate) record: PairRecord,
    hash: u64,
    status: [Option<VersionStatus>; VERSIONS_MAX as usize + 1],
    keys: [Option<KeyRef>; VERSIONS_MAX as usize + 1],
    /// The version that is handed out, if the gate is open.
    pub(crate) open: Option<V>,
    pub(crate) owner: u8,
    pub(crate) is_idle: bool,
}

/// A record, shared.
#[derive(Clone, Debug)]
pub(crate) struct RecRef(Arc<Rec>);

impl std::ops::Deref for RecRef {
    type Target = Rec;
    fn deref(&self) -> &Rec {
        &self.0
    }
}

impl PartialEq for RecRef {
    /// By hash, as the checker itself tells states apart.
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for RecRef {}

impl Hash for RecRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl RecRef {
    pub(crate) fn new(record: PairRecord) -> Self {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let mut status = [None; VERSIONS_MAX as usize + 1];
        let mut keys = [None; VERSIONS_MAX as usize + 1];
        for (v, entry) in &record.versions {
            let v = usize::from(small(*v));
            assert!(v <= usize::from(VERSIONS_MAX), "raise VERSIONS_MAX or lower the budget");
            status[v] = Some(entry.status);
            keys[v] = entry.key_id.as_ref().map(KeyRef::of);
        }
        let is_idle = record.rotation.as_ref().is_none_or(|r| r.phase.is_final());
        let rec = Rec {
            hash: hasher.finish(),
            status,
            keys,
            open: record.active.filter(|_| record.gate == Gate::Open).map(small),
            owner: u8::from(record.owner.node == node_id(1)),
            is_idle,
            record,
        };
        Self(Arc::new(rec))
    }
}

impl Rec {
    pub(crate) fn status(&self, v: V) -> Option<VersionStatus> {
        self.status[usize::from(v)]
    }

    pub(crate) fn key(&self, v: V) -> Option<KeyRef> {
        self.keys[usize::from(v)]
    }

    pub(crate) fn versions(&self) -> impl Iterator<Item = (V, VersionStatus)> {
        (1..=VERSIONS_MAX).filter_map(|v| Some((v, self.status(v)?)))
    }

    pub(crate) fn phase(&self) -> Option<&Phase> {
        self.record.rotation.as_ref().map(|r| &r.phase)
    }

    /// Whether another version than `v` claims `key`.
    pub(crate) fn is_claimed(&self, v: V, key: KeyRef) -> bool {
        key == KeyRef::Foreign
            || (1..=VERSIONS_MAX).any(|other| other != v && self.key(other) == Some(key))
    }
}

/// A condition of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    NoGrants(V),
    Unclaimed(V, KeyRef),
}

/// Something to do after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Arm(Timer),
    Issue(V),
    Ask(Question),
    AskPerson(V),
}

/// What the rules decided.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) record: Option<RecRef>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) copies: Option<(V, V)>,
    pub(crate) acts: Vec<Act>,
    pub(crate) forced: Vec<KeyRef>,
    pub(crate) is_start: bool,
    /// Revision and epoch went up as they must.
    pub(crate) is_monotone: bool,
}

/// The answer of the rules; `None`: they call the input impossible.
pub(crate) type Answer = Option<Arc<Move>>;

/// What the rules said so far.
#[derive(Debug)]
pub(crate) struct Book {
    policy: Policy,
    mutant: Mutant,
    pages: Vec<RwLock<FxHashMap<(RecRef, What), Answer>>>,
}

const PAGES: usize = 32;

impl Book {
    pub(crate) fn new(config: &Config) -> Self {
        let policy = Policy {
            // One Dead may be a key that is not known everywhere yet; two are a bad key.
            probe_tries: 2,
            // The end of the drain wants the old key back already; the hard deadline only pages.
            on_stuck: OnStuck::Wait,
            ..Policy::default()
        };
        let pages = (0..PAGES).map(|_| RwLock::default()).collect();
        Self { policy, mutant: config.mutant, pages }
    }

    /// What the rules make of this.
    pub(crate) fn step(&self, before: &RecRef, what: What) -> Answer {
        let mut hasher = FxHasher::default();
        what.hash(&mut hasher);
        let page = usize::try_from((before.hash ^ hasher.finish()) % PAGES as u64).unwrap_or(0);
        let key = (before.clone(), what);
        if let Some(answer) = self.pages[page].read().expect("no panic inside").get(&key) {
            return answer.clone();
        }
        let context = Context { now: NOW, jitter: 0, policy: &self.policy };
        let answer = step(&before.record, what.input(&self.policy), &context)
            .ok()
            .map(|decision| Arc::new(self.digest(before, what, decision)));
        self.pages[page].write().expect("no panic inside").insert(key, answer.clone());
        answer
    }

    /// How many different questions the rules were asked, and the phases in which.
    pub(crate) fn asked(&self) -> (usize, BTreeSet<&'static str>) {
        let mut questions = 0;
        let mut phases = BTreeSet::new();
        for page in &self.pages {
            let page = page.read().expect("no panic inside");
            questions += page.len();
            phases.extend(page.keys().filter_map(|(record, _)| record.phase().map(words::name)));
        }
        (questions, phases)
    }

    fn digest(&self, before: &RecRef, what: What, decision: Decision) -> Move {
        let decision = self.spoil(before, what, decision);
        let is_start = matches!(what, What::Started(_));
        let old = &before.record;
        let is_monotone = decision.record.as_ref().is_none_or(|new| {
            let epoch = if is_start { old.epoch.next() } else { old.epoch };
            new.rev == old.rev.next()
                && new.epoch == epoch
                && new.next_version >= old.next_version
                && new.next_rotation >= old.next_rotation
        });
        let forced = decision.audit.iter().filter(|entry| {
            entry.kind == AuditKind::ForcedRevoke && self.mutant != Mutant::ForcedInSilence
        });
        Move {
            forced: forced.filter_map(|e| e.key_id.as_ref()).map(KeyRef::of).collect(),
            record: decision.record.map(|record| RecRef::new(normal(record))),
            conditions: decision.guards.iter().map(condition).collect(),
            copies: decision.grants.map(|c| (small(c.from), small(c.to))),
            acts: decision.effects.iter().filter_map(act).collect(),
            is_start,
            is_monotone,
        }
    }

    /// The mutants that change what was decided.
    fn spoil(&self, before: &RecRef, what: What, mut decision: Decision) -> Decision {
        let old = &before.record;
        match (self.mutant, &mut decision.record) {
            (Mutant::PromoteInTwoWrites, Some(record)) => {
                let was = old.active.filter(|was| record.active.is_some_and(|new| new > *was));
                if let Some(entry) = was.and_then(|was| record.versions.get_mut(&was)) {
                    entry.status = VersionStatus::Active;
                    decision.effects.clear();
                }
            }
            (Mutant::RollBackAfterRevokePending, _) if what == What::RollBack => {
                let Some(Phase::Revoking { old: doomed, .. }) = before.phase() else {
                    return decision;
                };
                let mut record = old.clone();
                record.rev = old.rev.next();
                if let Some(new) = old.active.and_then(|new| record.versions.get_mut(&new)) {
                    new.status = VersionStatus::Draining;
                }
                if let Some(entry) = record.versions.get_mut(doomed) {
                    entry.status = VersionStatus::Active;
                }
                record.active = Some(*doomed);
                decision.record = Some(record);
            }
            _ => {}
        }
        decision
    }

    /// The record of a pair whose first key, v1, is active; made by the rules themselves.
    pub(crate) fn first_key(&self, class: Class) -> RecRef {
        let tenant = TenantId::new("acme").expect("a name");
        let provider = ProviderName::new("fake").expect("a name");
        let owner = Owner { node: node_id(0), incarnation: Incarnation(0) };
        let pair = PairId::new(tenant, provider);
        let fresh = PairRecord::new(pair, deployment(), tag(), class, owner);
        let first = What::Issued(1, KeyRef::Own(1));
        let script = [
            What::Started(0),
            What::Provision,
            What::Ring(Timer::Retry),
            What::Ready(1, false),
            first,
            What::Probed(1, 2, Truth::Alive),
        ];
        let mut record = RecRef::new(normal(fresh));
        for what in script {
            let decided = self.step(&record, what).expect("a first key is possible");
            record = decided.record.clone().unwrap_or(record);
        }
        assert_eq!(record.open, Some(1), "v1 is handed out");
        record
    }
}

fn condition(guard: &Guard) -> Condition {
    match guard {
        Guard::NoGrants(v) => Condition::NoGrants(small(*v)),
        Guard::KeyUnclaimed { version, key_id, .. } => {
            Condition::Unclaimed(small(*version), KeyRef::of(key_id))
        }
    }
}

/// What the world does about an effect. Hints, pages and replies change nothing here.
fn act(effect: &Effect) -> Option<Act> {
    let act = match effect {
        Effect::Arm(timer, _) | Effect::ArmFor(timer, _) => match timer {
            // A rotation by time is a trigger, and triggers have their own budget.
            Timer::Rotate => return None,
            timer => Act::Arm(*timer),
        },
        Effect::Issue { version, .. } => Act::Issue(small(*version)),
        Effect::Ask { version, .. } => Act::AskPerson(small(*version)),
        Effect::Preflight { attempt } => Act::Ask(Question::Preflight(small(*attempt))),
        Effect::Locate { version, .. } => Act::Ask(Question::Locate(small(*version))),
        Effect::Probe { version, attempt, .. } => {
            Act::Ask(Question::Probe(small(*version), small(*attempt)))
        }
        Effect::Revoke { version, key_id, .. } => {
            Act::Ask(Question::Revoke(small(*version), KeyRef::of(key_id)))
        }
        Effect::Sweep { label } => Act::Ask(Question::Sweep(labelled(label.as_str()))),
        Effect::Destroy { version, .. } => Act::Ask(Question::Destroy(small(*version))),
        Effect::Count { version } => Act::Ask(Question::Count(small(*version))),
        Effect::Close { .. }
        | Effect::Signal { .. }
        | Effect::Cut { .. }
        | Effect::Witness
        | Effect::Publish
        | Effect::Page(_)
        | Effect::Reply(_) => return None,
    };
    Some(act)
}

fn labelled(label: &str) -> V {
    let label = (1..=VERSIONS_MAX).find(|v| {
        keybaton_messages::Label::new(&deployment(), &tag(), version(*v)).as_str() == label
    });
    label.expect("a label of ours")
}

/// See the head of this file.
fn normal(mut record: PairRecord) -> PairRecord {
    // Unlike any wait that the rules set, so that a wait that they set again is noticed.
    let wait = Duration::from_millis(1);
    let due = Due { at: NOW + wait, wait };
    record.rev = Rev(1);
    record.epoch = Epoch(1);
    record.owner.incarnation = Incarnation(0);
    record.triggers.clear();
    record.failures = 0;
    record.next_rotate_at = None;
    for obligation in &mut record.obligations {
        obligation.tries = 0;
        obligation.due = due;
    }
    record.obligations.sort_by_key(|o| (o.debt.version(), format!("{:?}", o.debt)));
    if let Some(queued) = &mut record.queued {
        queued.revoke_by = queued.revoke_by.map(|_| due);
    }
    if let Some(rotation) = &mut record.rotation {
        rotation.refused = 0;
        rotation.error = None;
        rotation.revoke_by = rotation.revoke_by.map(|_| due);
        rotation.drain_max = rotation.drain_max.map(|_| due);
        match &mut rotation.phase {
            Phase::Queued { retry: at }
            | Phase::AwaitingPerson { until: at, .. }
            | Phase::Settling { until: at, .. }
            | Phase::Overlap { until: at, .. }
            | Phase::Emptying { hard: at, .. }
            | Phase::Checkpointing { hard: at, .. } => *at = due,
            Phase::Draining { soft, hard, .. } => (*soft, *hard) = (due, due),
            _ => {}
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO_DRAINING: [What; 5] = [
        What::Rotate,
        What::Ring(Timer::Retry),
        What::Ready(2, false),
        What::Issued(2, KeyRef::Own(2)),
        What::Probed(2, 3, Truth::Alive),
    ];
    const TO_BURNED: [What; 5] = [
        What::Rotate,
        What::Ring(Timer::Retry),
        What::Ready(2, false),
        What::Unknown(2),
        What::Located(2, None),
    ];

    /// Plays `script` on records as they are and in normal form, and compares what is decided.
    fn play(class: Class, script: &[What]) {
        let book = Book::new(&Config::new(class));
        let mut raw = book.first_key(class).record.clone();
        for what in script {
            let context = Context { now: NOW, jitter: 0, policy: &book.policy };
            let decided = step(&raw, what.input(&book.policy), &context).expect("possible");
            let expected = book.digest(&RecRef::new(raw.clone()), *what, decided.clone());
            let found = book.step(&RecRef::new(normal(raw.clone())), *what).expect("possible");
            assert_eq!(found.record, expected.record, "{what:?}");
            assert_eq!(found.conditions, expected.conditions, "{what:?}");
            assert_eq!(found.acts, expected.acts, "{what:?}");
            raw = decided.record.unwrap_or(raw);
        }
    }

    #[test]
    fn a_record_in_normal_form_is_decided_on_as_the_one_that_it_stands_for() {
        let mut whole = TO_DRAINING.to_vec();
        whole.extend([
            What::Started(1),
            What::Ring(Timer::Soft),
            What::Counted(1, 1),
            What::Counted(1, 0),
            What::Ring(Timer::Overlap),
            What::MaybeRevoked(1),
            What::Ring(Timer::Owed),
            What::Revoked(1),
            What::Destroyed(1),
        ]);
        play(Class::A, &whole);
        let mut burned = TO_BURNED.to_vec();
        burned.extend([
            What::Ring(Timer::Owed),
            What::Swept(2, Some(KeyRef::Own(2)), false),
            What::Ring(Timer::Retry),
            What::Unready(3),
            What::Ring(Timer::Retry),
            What::Started(0),
            What::Revoked(2),
            What::Swept(2, None, true),
            What::Emergency,
            What::Ring(Timer::RevokeBy),
        ]);
        play(Class::A, &burned);
        let emptied = [
            What::Rotate,
            What::Ring(Timer::Retry),
            What::Ready(2, false),
            What::Counted(1, 0),
            What::Unknown(2),
            What::Located(2, None),
            What::Started(1),
            What::Ring(Timer::Settle),
            What::Probed(1, 3, Truth::Unknown),
            What::Ring(Timer::Probe),
            What::Probed(1, 3, Truth::Alive),
            What::Destroyed(2),
        ];
        play(Class::B, &emptied);
    }
}
