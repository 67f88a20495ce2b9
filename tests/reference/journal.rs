//! Both journals of the embedded store, in one sequence: they share a file and a writer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keybaton_adapters::audit::word_of;
use keybaton_messages::{PairId, Rev};
use keybaton_ports::{
    CommitError, GrantError, NodeLife, Refusal, Standing, TaskError, TaskWrite, verify_chain,
};
use keybaton_rotation::AuditKind;
use proptest::prelude::BoxedStrategy;

use crate::drive::{Doubt, Port, prove};
use crate::operations::{Op, any_op, life_of, pair_call, pair_of, task_call};
use crate::pairs::{self, Pairs, versions};
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
        any_op()
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
                transaction.expect.1 = there;
                Arc::make_mut(&mut transaction.record).rev = there.next();
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
fn by_version(mut answer: Result<Standing, GrantError>) -> Result<Standing, GrantError> {
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
            let answer = journal.append(write).await;
            if answer == Ok(()) && store.is(APPENDS_TWICE) {
                let entries = journal.entries(&write.key).await.unwrap_or_default();
                if entries.len() > 2 {
                    let again = TaskWrite { expect: entries.len() as u64, ..write.clone() };
                    // It was wrong either way.
                    let _ = journal.append(&again).await;
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
        for version in versions(stored.as_ref().map(|stored| stored.record.as_ref())) {
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
