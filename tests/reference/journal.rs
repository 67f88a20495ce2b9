//! Both journals of the embedded store, in one sequence: they share a file and a writer.

use std::collections::BTreeSet;
use std::time::Duration;

use keybaton_adapters::audit::word_of;
use keybaton_messages::{
    DeploymentId, Epoch, EventKind, NodeId, PairId, PairTag, Rev, TaskEpoch, TaskKey, Timestamp,
    Version, VersionStatus,
};
use keybaton_ports::{
    CheckpointRef, CommitError, Entry, GrantError, NodeLife, Refusal, TaskError, TaskState,
    TaskWrite, Transaction, verify_chain,
};
use keybaton_rotation::{AuditKind, Class, CopyGrants, Gate, Guard, Owner, PairRecord, Pause};
use keybaton_tests::conformance::records::{audit_entry, node, pair, promoted};
use keybaton_tests::conformance::task_entries::{spec, task_of};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use crate::drive::{Doubt, Port, prove};
use crate::pairs::{self, Pairs, grant_id, txn, versions};
use crate::store::{FORGETS, Store};
use crate::tasks::{self, Tasks};

#[test]
fn reference_journal() {
    prove::<Journals>(Duration::from_secs(20));
}

/// The port's name here.
#[derive(Clone, Debug)]
pub struct Journals;

/// Both models.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pairs: Pairs,
    tasks: Tasks,
}

/// A call of either.
#[derive(Clone, Debug)]
pub enum Call {
    Pair(pairs::Call),
    Task(tasks::Call),
}

/// An answer of either.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Pair(pairs::Answer),
    Task(tasks::Answer),
}

/// What a transaction makes of the record.
#[derive(Clone, Debug)]
pub enum Change {
    /// Nothing but the revision.
    Touch,
    /// A new version with this key becomes the active one.
    Promote { key: u8, copies: bool },
    /// The active version is left, and nothing takes its place.
    Leave,
    /// The oldest version that is being left has ended.
    End,
    /// The gate is paused, or opened.
    Gate(bool),
    /// A new owner.
    TakeOver,
}

/// Which epoch and revision a transaction expects.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Right,
    OldRev,
    NewRev,
    OldEpoch,
    NewEpoch,
}

/// What is appended to a task.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Intent,
    Result,
    ResultWithCheckpoint,
    Checkpoint,
    Parked,
    Done,
}

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    Begin {
        node: u8,
    },
    Commit {
        pair: u8,
        node: u8,
        is_late: bool,
        change: Change,
        expect: Expect,
        guard: u8,
        fact: u8,
    },
    AskAgain {
        pair: u8,
    },
    Grant {
        pair: u8,
        node: u8,
        is_late: bool,
        back: u32,
    },
    Return {
        pair: u8,
        node: u8,
        is_other: bool,
    },
    Append {
        pair: u8,
        fact: u8,
    },
    Create {
        task: u8,
        input: u8,
    },
    Claim {
        task: u8,
    },
    Write {
        task: u8,
        kind: Kind,
        epoch: i8,
        expect: i8,
    },
    WriteAgain {
        task: u8,
    },
    Forget {
        task: u8,
    },
}

fn pair_of(n: u8) -> PairId {
    pair(["acme", "umbrella"][usize::from(n % 2)])
}

fn node_of(n: u8) -> NodeId {
    node(["n1", "n2"][usize::from(n % 2)])
}

fn task(n: u8) -> TaskKey {
    let (tenant, name) = [("acme", "t1"), ("acme", "t2"), ("umbrella", "t1")][usize::from(n % 3)];
    task_of(tenant, name)
}

fn changes() -> BoxedStrategy<Change> {
    prop_oneof![
        2 => Just(Change::Touch),
        4 => (1u8..60, any::<bool>()).prop_map(|(key, copies)| Change::Promote { key, copies }),
        1 => Just(Change::Leave),
        1 => Just(Change::End),
        1 => any::<bool>().prop_map(Change::Gate),
        1 => Just(Change::TakeOver),
    ]
    .boxed()
}

fn expects() -> BoxedStrategy<Expect> {
    prop_oneof![
        12 => Just(Expect::Right),
        1 => Just(Expect::OldRev),
        1 => Just(Expect::NewRev),
        1 => Just(Expect::OldEpoch),
        1 => Just(Expect::NewEpoch),
    ]
    .boxed()
}

/// Mostly no.
fn seldom() -> BoxedStrategy<bool> {
    prop_oneof![9 => Just(false), 1 => Just(true)].boxed()
}

fn off_by() -> BoxedStrategy<i8> {
    prop_oneof![10 => Just(0i8), 1 => Just(-1), 1 => Just(1)].boxed()
}

fn kinds() -> BoxedStrategy<Kind> {
    prop_oneof![
        Just(Kind::Intent),
        Just(Kind::Result),
        Just(Kind::ResultWithCheckpoint),
        Just(Kind::Checkpoint),
        Just(Kind::Parked),
        Just(Kind::Done),
    ]
    .boxed()
}

fn life_of(model: &Pairs, n: u8, is_late: bool) -> NodeLife {
    let mut life = model.life(&node_of(n));
    if is_late {
        life.incarnation.0 = life.incarnation.0.saturating_sub(1);
    }
    life
}

fn new_record(id: PairId, life: &NodeLife) -> PairRecord {
    let owner = Owner { node: life.node.clone(), incarnation: life.incarnation };
    let deployment = DeploymentId::from_digest(&[7; 16]);
    PairRecord::new(id, deployment, PairTag::from_digest(&[8; 16]), Class::A, owner)
}

/// Changes the record; says which grants are copied.
fn change(record: &mut PairRecord, change: &Change) -> Option<CopyGrants> {
    let left = record.active;
    match change {
        Change::Touch => {}
        Change::Promote { key, copies } => {
            let new = record.next_version;
            promoted(record, new.0, *key);
            return left.filter(|_| *copies).map(|from| CopyGrants { from, to: new });
        }
        Change::Leave => {
            record.gate = Gate::Paused(Pause::NoCredential);
            record.active = None;
            if let Some(entry) = left.and_then(|left| record.versions.get_mut(&left)) {
                entry.status = VersionStatus::Draining;
            }
        }
        Change::End => {
            let mut entries = record.versions.values_mut();
            if let Some(entry) = entries.find(|it| it.status == VersionStatus::Draining) {
                entry.status = VersionStatus::Revoked;
            }
        }
        Change::Gate(true) if record.active.is_some() => record.gate = Gate::Open,
        Change::Gate(_) => record.gate = Gate::Paused(Pause::Emptying),
        Change::TakeOver => record.epoch = record.epoch.next(),
    }
    None
}

fn transaction(model: &Pairs, op: &Op, n: u64) -> Transaction {
    let Op::Commit { pair, node, is_late, change: how, expect, guard, fact } = op else {
        unreachable!("only commits are transactions");
    };
    let (id, life) = (pair_of(*pair), life_of(model, *node, *is_late));
    let mut record = model.record(&id).cloned().unwrap_or_else(|| new_record(id, &life));
    let (epoch, rev) = (record.epoch, record.rev);
    let grants = change(&mut record, how);
    record.rev = rev.next();
    record.epoch = record.epoch.max(Epoch(1));
    let newest = record.versions.iter().next_back();
    let guards = match (guard, newest) {
        (1, _) => vec![Guard::NoGrants(record.active.unwrap_or(Version(1)))],
        (2, Some((version, _))) => vec![Guard::NoGrants(Version(version.0.max(2) - 1))],
        (3, Some((version, entry))) => entry
            .key_id
            .iter()
            .map(|key_id| Guard::KeyUnclaimed {
                version: *version,
                key_id: key_id.clone(),
                fp: entry.fp,
            })
            .collect(),
        _ => Vec::new(),
    };
    Transaction {
        id: txn(n),
        by: life,
        expect: match expect {
            Expect::Right => (epoch, rev),
            Expect::OldRev => (epoch, Rev(rev.0.wrapping_sub(1))),
            Expect::NewRev => (epoch, rev.next()),
            Expect::OldEpoch => (Epoch(epoch.0.wrapping_sub(1)), rev),
            Expect::NewEpoch => (epoch.next(), rev),
        },
        record,
        guards,
        grants,
        audit: vec![audit_entry(AuditKind::Promoted, &format!("fact {}", fact % 5))],
        outbox: vec![(EventKind::NewKeyReady, None, Some(Version(u32::from(*fact))))],
        published: fact.is_multiple_of(3).then_some(Rev(rev.0.saturating_sub(1))),
    }
}

fn pair_call(model: &Pairs, op: &Op, n: u64) -> pairs::Call {
    match op {
        // A node begins to live before it does anything.
        Op::Commit { node, is_late: false, .. } | Op::Grant { node, is_late: false, .. }
            if !model.is_born(&node_of(*node)) =>
        {
            pairs::Call::Begin(node_of(*node))
        }
        Op::Begin { node } => pairs::Call::Begin(node_of(*node)),
        Op::AskAgain { pair } => match model.last(&pair_of(*pair)) {
            Some(last) => pairs::Call::Commit(Box::new(last.clone())),
            None => pairs::Call::Begin(node_of(*pair)),
        },
        Op::Grant { pair, node, is_late, back } => {
            let id = pair_of(*pair);
            let newest = model.record(&id).map_or(1, |record| record.next_version.0);
            let version = Version(newest.saturating_sub(1 + back % 3).max(1));
            pairs::Call::Grant(id, version, life_of(model, *node, *is_late), grant_id(n))
        }
        Op::Return { pair, node, is_other } => {
            let (id, node) = (pair_of(*pair), node_of(*node));
            let held = model.held(&id, &node);
            let (version, held) = held.unwrap_or((Version(1), grant_id(n)));
            let held = if *is_other { grant_id(n) } else { held };
            pairs::Call::Return(id, version, model.life(&node), held)
        }
        Op::Append { pair, fact } => {
            let entry = audit_entry(AuditKind::Ordered, &format!("fact {}", fact % 5));
            pairs::Call::Append(pair_of(*pair), entry)
        }
        commit => pairs::Call::Commit(Box::new(transaction(model, commit, n))),
    }
}

fn entry(kind: Kind, n: u64) -> Entry {
    let at = Timestamp(n);
    let bytes = n.to_be_bytes().to_vec();
    let sealed = CheckpointRef::Inline(bytes.clone());
    let result = |checkpoint| Entry::Result {
        n,
        idem: [1; 16],
        version: Some(Version(1)),
        outcome: bytes.clone(),
        checkpoint,
        at,
    };
    match kind {
        Kind::Intent => Entry::Intent { n, idem: [1; 16], version: Version(1), at },
        Kind::Result => result(None),
        Kind::ResultWithCheckpoint => result(Some(sealed)),
        Kind::Checkpoint => Entry::Checkpoint { n, checkpoint: sealed, at },
        Kind::Parked => Entry::State { state: TaskState::Parked("asks".into()), at },
        Kind::Done => Entry::State { state: TaskState::Done(bytes), at },
    }
}

fn task_call(model: &Tasks, op: &Op, n: u64) -> tasks::Call {
    let off = |number: u64, by: i8| number.saturating_add_signed(by.into());
    match op {
        Op::Create { task: key, input } => tasks::Call::Create(task(*key), spec(&[*input])),
        Op::Write { task: key, kind, epoch, expect } => {
            let (at, there) = model.at(&task(*key));
            tasks::Call::Append(TaskWrite {
                key: task(*key),
                epoch: TaskEpoch(off(at.0, *epoch)),
                expect: off(there, *expect),
                entry: entry(*kind, n),
            })
        }
        Op::WriteAgain { task: key } => match model.last(&task(*key)) {
            Some((epoch, entry)) => {
                let expect = model.at(&task(*key)).1 - 1;
                tasks::Call::Append(TaskWrite { key: task(*key), epoch, expect, entry })
            }
            None => tasks::Call::Claim(task(*key)),
        },
        Op::Forget { task: key } => tasks::Call::Forget(task(*key)),
        Op::Claim { task: key } => tasks::Call::Claim(task(*key)),
        other => unreachable!("{other:?} is about a pair"),
    }
}

/// Every life that is asked how its pairs stand: the present one and one before.
fn lives(model: &Pairs) -> Vec<NodeLife> {
    (0..2).flat_map(|n| [life_of(model, n, false), life_of(model, n, true)]).collect()
}

const IGNORES_REV: &str = "ignores the expected revision";
const IGNORES_GUARDS: &str = "ignores guards";
const RETURNS_ANY: &str = "returns the node's grant whatever its id";
const APPENDS_TWICE: &str = "appends an entry twice once there are three";

impl Port for Journals {
    type Op = Op;
    type Call = Call;
    type Answer = Answer;
    type View = (pairs::View, tasks::View);
    type Model = Model;
    type Memory = ();

    const CLAIM: &'static str = "reference-journal";
    const STATEMENT: &'static str = "the embedded journals of pairs and tasks answer and keep what \
        a model in memory does, in any order of operations, restarts and power cuts";
    const MUTANTS: &'static [&'static str] =
        &[FORGETS, IGNORES_REV, IGNORES_GUARDS, RETURNS_ANY, APPENDS_TWICE];

    fn ops() -> BoxedStrategy<Op> {
        let (p, n, t) = (|| 0u8..2, || 0u8..2, || 0u8..3);
        let commit = (p(), n(), seldom(), changes(), expects(), any::<u8>(), any::<u8>());
        prop_oneof![
            1 => n().prop_map(|node| Op::Begin { node }),
            8 => commit.prop_map(|(pair, node, is_late, change, expect, guard, fact)| {
                let guard = guard % 8;
                Op::Commit { pair, node, is_late, change, expect, guard, fact }
            }),
            2 => p().prop_map(|pair| Op::AskAgain { pair }),
            5 => (p(), n(), seldom(), 0u32..3).prop_map(|(pair, node, is_late, back)| {
                Op::Grant { pair, node, is_late, back: back.saturating_sub(1) }
            }),
            3 => (p(), n(), any::<bool>())
                .prop_map(|(pair, node, is_other)| Op::Return { pair, node, is_other }),
            1 => (p(), any::<u8>()).prop_map(|(pair, fact)| Op::Append { pair, fact }),
            2 => (t(), seldom()).prop_map(|(task, is_other)| {
                Op::Create { task, input: u8::from(is_other) }
            }),
            2 => t().prop_map(|task| Op::Claim { task }),
            8 => (t(), kinds(), off_by(), off_by()).prop_map(|(task, kind, epoch, expect)| {
                Op::Write { task, kind, epoch, expect }
            }),
            2 => t().prop_map(|task| Op::WriteAgain { task }),
            1 => t().prop_map(|task| Op::Forget { task }),
        ]
        .boxed()
    }

    fn call(model: &Model, op: &Op, n: u64) -> Call {
        match op {
            Op::Create { .. }
            | Op::Claim { .. }
            | Op::Write { .. }
            | Op::WriteAgain { .. }
            | Op::Forget { .. } => Call::Task(task_call(&model.tasks, op, n)),
            _ => Call::Pair(pair_call(&model.pairs, op, n)),
        }
    }

    fn expect(model: &mut Model, call: &Call) -> Answer {
        match call {
            Call::Pair(call) => Answer::Pair(model.pairs.expect(call)),
            Call::Task(call) => Answer::Task(model.tasks.expect(call)),
        }
    }

    fn view(model: &Model) -> Self::View {
        let pairs = [pair_of(0), pair_of(1)];
        (model.pairs.view(&pairs, &lives(&model.pairs)), model.tasks.view())
    }

    fn adopt(model: &mut Model, (pairs, _): &Self::View) {
        let lives = lives(&model.pairs);
        model.pairs.adopt(&lives, pairs);
    }

    fn is_open(model: &Model) -> bool {
        model.pairs.is_open()
    }

    fn doubt(answer: &Answer) -> Option<Doubt> {
        use {pairs::Answer as P, tasks::Answer as T};
        let (is_unknown, is_away) = match answer {
            Answer::Pair(P::Committed(Err(error))) => (
                matches!(error, CommitError::Unknown(_)),
                matches!(error, CommitError::Unavailable(_)),
            ),
            Answer::Pair(P::Standing(Err(error))) => (
                matches!(error, GrantError::Unknown(_)),
                matches!(error, GrantError::Unavailable(_)),
            ),
            Answer::Pair(P::Life(Err(error)) | P::Appended(Err(error))) => {
                (matches!(error, Refusal::Unknown { .. }), matches!(error, Refusal::Busy { .. }))
            }
            Answer::Task(
                T::Row(Err(error))
                | T::Claimed(Err(error))
                | T::Appended(Err(error))
                | T::Forgotten(Err(error)),
            ) => {
                (matches!(error, TaskError::Unknown(_)), matches!(error, TaskError::Unavailable(_)))
            }
            _ => (false, false),
        };
        match (is_unknown, is_away) {
            (true, _) => Some(Doubt::Unknown),
            (_, true) => Some(Doubt::Unavailable),
            _ => None,
        }
    }

    async fn ask(store: &Store, (): &mut (), call: &Call) -> Answer {
        match call {
            Call::Pair(call) => Answer::Pair(ask_pair(store, call).await),
            Call::Task(call) => Answer::Task(ask_task(store, call).await),
        }
    }

    async fn look(store: &Store, model: &Model, (): &()) -> Self::View {
        (look_at_pairs(store, &model.pairs).await, look_at_tasks(store).await)
    }
}

async fn ask_pair(store: &Store, call: &pairs::Call) -> pairs::Answer {
    let journal = &store.embedded.journal;
    match call {
        pairs::Call::Begin(node) => pairs::Answer::Life(journal.begin_life(node).await),
        pairs::Call::Commit(transaction) => {
            let mut transaction = transaction.as_ref().clone();
            if store.is(IGNORES_GUARDS) {
                transaction.guards.clear();
            }
            let mut answer = journal.commit(transaction.clone()).await;
            if answer == Err(CommitError::Conflict) && store.is(IGNORES_REV) {
                let there = journal.load(&transaction.record.pair).await;
                let there = there.ok().flatten().map_or(Rev(0), |stored| stored.record.rev);
                (transaction.expect.1, transaction.record.rev) = (there, there.next());
                answer = journal.commit(transaction).await;
            }
            pairs::Answer::Committed(answer)
        }
        pairs::Call::Grant(pair, version, life, id) => {
            pairs::Answer::Standing(by_version(journal.grant(pair, *version, life, *id).await))
        }
        pairs::Call::Return(pair, version, life, id) => {
            let mut id = *id;
            if store.is(RETURNS_ANY)
                && let Ok(standing) = journal.standing(pair, life).await
                && let Some(row) = standing.grants.iter().find(|row| row.version == *version)
            {
                id = row.id;
            }
            let answer = journal.return_grant(pair, *version, life, id).await;
            pairs::Answer::Standing(by_version(answer))
        }
        pairs::Call::Append(pair, entry) => {
            pairs::Answer::Appended(journal.append_audit(pair, entry).await)
        }
    }
}

/// The contract does not say in which order a standing's grants come.
fn by_version(
    mut answer: Result<keybaton_ports::Standing, GrantError>,
) -> Result<keybaton_ports::Standing, GrantError> {
    match &mut answer {
        Ok(standing) => standing.grants.sort_by_key(|row| row.version),
        Err(GrantError::Refused(standing)) => standing.grants.sort_by_key(|row| row.version),
        Err(_) => {}
    }
    answer
}

async fn ask_task(store: &Store, call: &tasks::Call) -> tasks::Answer {
    let journal = &store.embedded.tasks;
    match call {
        tasks::Call::Create(key, spec) => tasks::Answer::Row(journal.create(key, spec).await),
        tasks::Call::Claim(key) => tasks::Answer::Claimed(journal.claim(key).await),
        tasks::Call::Append(write) => {
            let answer = journal.append(write.clone()).await;
            if answer == Ok(()) && store.is(APPENDS_TWICE) {
                let entries = journal.entries(&write.key).await.unwrap_or_default();
                if entries.len() > 2 {
                    let again = TaskWrite { expect: entries.len() as u64, ..write.clone() };
                    // It was wrong either way.
                    let _ = journal.append(again).await;
                }
            }
            tasks::Answer::Appended(answer)
        }
        tasks::Call::Forget(key) => tasks::Answer::Forgotten(journal.forget(key).await),
    }
}

async fn look_at_pairs(store: &Store, model: &Pairs) -> pairs::View {
    let journal = &store.embedded.journal;
    let mut view = pairs::View {
        listed: journal.pairs().await.expect("the store can be read"),
        pairs: std::collections::BTreeMap::new(),
    };
    for id in [pair_of(0), pair_of(1)] {
        let stored = journal.load(&id).await.expect("the store can be read");
        let mut standings = Vec::new();
        for life in lives(model) {
            standings.push(by_version(journal.standing(&id, &life).await));
        }
        let mut counts = Vec::new();
        for version in versions(stored.as_ref().map(|stored| &stored.record)) {
            counts.push(journal.count_grants(&id, version).await.expect("the store can be read"));
        }
        let outbox = journal.outbox(&id).await.expect("the store can be read");
        let facts = facts(store, &id).await;
        view.pairs.insert(id, pairs::PairView { stored, standings, counts, facts, outbox });
    }
    view
}

async fn facts(store: &Store, id: &PairId) -> Result<BTreeSet<(String, String)>, String> {
    let records = store.embedded.journal.audit(id, 0).await.map_err(|error| error.to_string())?;
    verify_chain(&store.embedded.audit_key, id, &records).map_err(|error| error.to_string())?;
    let facts: BTreeSet<_> =
        records.iter().map(|record| (record.kind.clone(), record.dedupe.clone())).collect();
    if facts.len() == records.len() { Ok(facts) } else { Err("a fact stands twice".into()) }
}

async fn look_at_tasks(store: &Store) -> tasks::View {
    let journal = &store.embedded.tasks;
    let mut rows = journal.list(None).await.expect("the store can be read");
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut entries = Vec::new();
    for row in &rows {
        entries.push(journal.entries(&row.key).await.expect("the store can be read"));
    }
    tasks::View { rows, entries }
}

#[test]
fn kinds_of_the_audit_are_words() {
    assert_eq!(word_of(AuditKind::Granted), "GRANTED");
    assert_eq!(word_of(AuditKind::GrantReturned), "GRANT_RETURNED");
}
