//! What is asked of both journals: operations in words that fit any state, and the calls that they
//! become in one.

use std::sync::Arc;

use keybaton_messages::{
    DeploymentId, Epoch, EventKind, NodeId, PairId, PairTag, Rev, TaskEpoch, TaskKey, Timestamp,
    Version, VersionStatus,
};
use keybaton_ports::{CheckpointRef, Entry, NodeLife, TaskState, TaskWrite, Transaction};
use keybaton_rotation::{AuditKind, Class, CopyGrants, Gate, Guard, Owner, PairRecord, Pause};
use keybaton_tests::conformance::records::{audit_entry, node, pair, promoted};
use keybaton_tests::conformance::task_entries::{spec, task_of};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use crate::pairs::{self, Pairs, grant_id, txn};
use crate::tasks::{self, Tasks};

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

pub fn pair_of(n: u8) -> PairId {
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

pub fn life_of(model: &Pairs, n: u8, is_late: bool) -> NodeLife {
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
        record: Arc::new(record),
        guards,
        grants,
        audit: vec![audit_entry(AuditKind::Promoted, &format!("fact {}", fact % 5))],
        outbox: vec![(EventKind::NewKeyReady, None, Some(Version(u32::from(*fact))))],
        published: fact.is_multiple_of(3).then_some(Rev(rev.0.saturating_sub(1))),
    }
}

pub fn pair_call(model: &Pairs, op: &Op, n: u64) -> pairs::Call {
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

pub fn task_call(model: &Tasks, op: &Op, n: u64) -> tasks::Call {
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

/// Operations worth trying, the interesting ones more often.
pub fn any_op() -> BoxedStrategy<Op> {
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
