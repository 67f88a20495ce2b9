//! Operations on pairs, as a database carries them out that others write to as well.
//!
//! **Invariant:** an operation that fails by itself does not take the others with it: after a
//! refusal by the server, each one is carried out alone.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use keybaton_messages::{PairId, Rev};
use keybaton_ports::{CommitError, Denial, GrantError, Refusal, Standing, Transaction};
use keybaton_rotation::AuditEntry;

use crate::journals::book::{Book, Named};
use crate::journals::redb::pairs::Corrupt;
use crate::journals::redb::rows::seal_record;
use crate::queue::{Queue, Writer};
use crate::store::{Down, Sealer, is_time_stale};

/// Carries out operations in one transaction.
pub(super) trait Database: Send + Sync + 'static {
    /// What it is called.
    const NAME: &'static str;

    /// Most operations that one transaction carries.
    const BATCH_MAX: usize;

    /// Reads what the operations name, applies them in order and writes what they changed, all of
    /// it or nothing. `is_thorough`: also what the database itself would refuse is looked up, so
    /// that the refusal can be told.
    fn attempt(
        &self,
        ops: &[&Op],
        is_thorough: bool,
    ) -> impl Future<Output = Result<Vec<Done>, Failure>> + Send;
}

/// Why a transaction as a whole was not written, or nobody knows.
pub(super) enum Failure {
    Down(Down),
    /// A constraint or the comparison with what was read.
    Refused(String),
}

/// A transaction and its record, sealed by whoever asks: what a batch has to do while others wait
/// is short.
pub(crate) struct SealedCommit {
    pub(super) transaction: Transaction,
    pub(super) sealed: Bytes,
}

/// One operation.
pub(crate) enum Op {
    Commit(Box<SealedCommit>),
    Grant(Named),
    Return(Named),
    Audit(PairId, AuditEntry),
}

/// How it ended.
pub(crate) enum Done {
    Commit(Result<Rev, CommitError>),
    Standing(Result<Standing, GrantError>),
    Audit(Result<(), Refusal>),
}

impl Done {
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Commit(answer) => answer.is_err(),
            Self::Standing(answer) => answer.is_err(),
            Self::Audit(answer) => answer.is_err(),
        }
    }
}

impl Op {
    fn pair(&self) -> &PairId {
        match self {
            Self::Commit(commit) => &commit.transaction.record.pair,
            Self::Grant(named) | Self::Return(named) => &named.pair,
            Self::Audit(pair, _) => pair,
        }
    }

    /// Applies it to what was read.
    pub(super) fn apply(&self, book: &mut Book) -> Done {
        match self {
            Self::Commit(commit) => Done::Commit(book.commit(commit)),
            Self::Grant(named) => Done::Standing(book.grant(named)),
            Self::Return(named) => Done::Standing(book.return_grant(named)),
            Self::Audit(pair, entry) => Done::Audit(
                book.append_audit(pair, entry)
                    .map_err(|Corrupt(why)| Refusal::denied(Denial::Corrupt, why)),
            ),
        }
    }

    fn down(&self, down: Down) -> Done {
        match self {
            Self::Commit(_) => Done::Commit(Err(down.into())),
            Self::Grant(_) | Self::Return(_) => Done::Standing(Err(down.into())),
            Self::Audit(..) => Done::Audit(Err(down.into())),
        }
    }

    fn corrupt(&self, why: String) -> Done {
        match self {
            Self::Commit(_) => Done::Commit(Err(CommitError::Corrupt(why))),
            Self::Grant(_) | Self::Return(_) => Done::Standing(Err(GrantError::Corrupt(why))),
            Self::Audit(..) => Done::Audit(Err(Refusal::denied(Denial::Corrupt, why))),
        }
    }
}

impl<D: Database> Writer for D {
    const NAME: &'static str = D::NAME;
    const BATCH_MAX: usize = D::BATCH_MAX;
    type Op = Op;
    type Key = PairId;
    type Answer = Done;

    fn key(op: &Op) -> &PairId {
        op.pair()
    }

    async fn carry_out(&self, ops: &[&Op]) -> Vec<Done> {
        match self.attempt(ops, false).await {
            Ok(answers) => answers,
            Err(Failure::Down(down)) => ops.iter().map(|op| op.down(down.clone())).collect(),
            Err(Failure::Refused(_)) => {
                let mut answers = Vec::with_capacity(ops.len());
                for op in ops {
                    answers.push(alone(self, op).await);
                }
                answers
            }
        }
    }
}

impl Queue<Op, Done> {
    pub(super) fn commit(
        &self,
        sealer: &Sealer,
        transaction: Transaction,
    ) -> impl Future<Output = Result<Rev, CommitError>> + Send + use<> {
        let sealed = seal_record(sealer, transaction.id, &transaction.record);
        let done = sealed.map(|sealed| {
            self.submit(Op::Commit(Box::new(SealedCommit { transaction, sealed: sealed.into() })))
        });
        async move {
            match done?.await? {
                Done::Commit(answer) => answer,
                _ => unreachable!("a commit is answered as one"),
            }
        }
    }

    /// Takes or returns a grant.
    pub(super) async fn standing(&self, op: Op) -> Result<Standing, GrantError> {
        match self.submit(op).await? {
            Done::Standing(answer) => answer,
            _ => unreachable!("what is done to a grant is answered with a standing"),
        }
    }

    pub(super) async fn append_audit(
        &self,
        pair: PairId,
        entry: AuditEntry,
    ) -> Result<(), Refusal> {
        match self.submit(Op::Audit(pair, entry)).await? {
            Done::Audit(answer) => answer,
            _ => unreachable!("an entry is answered as one"),
        }
    }
}

/// Carries out one operation that the server may refuse. A second try sees what another node
/// wrote in the meantime.
async fn alone(database: &impl Database, op: &Op) -> Done {
    const TRIES_MAX: usize = 3;
    let mut refused = String::new();
    for _ in 0..TRIES_MAX {
        match database.attempt(&[op], true).await {
            Ok(mut answers) => {
                return answers.pop().unwrap_or_else(|| op.corrupt("there is no answer".into()));
            }
            Err(Failure::Down(down)) => return op.down(down),
            Err(Failure::Refused(why)) => refused = why,
        }
    }
    op.corrupt(format!("refused to write: {refused}"))
}

/// The high-water mark of the clock, which is stored with whatever else is written.
pub(super) struct Marks(AtomicU64);

impl Marks {
    pub(super) fn new(stored_ms: u64) -> Self {
        Self(AtomicU64::new(stored_ms))
    }

    pub(super) fn stale(&self, now_ms: u64) -> Option<u64> {
        is_time_stale(self.0.load(Ordering::Relaxed), now_ms).then_some(now_ms)
    }

    pub(super) fn written(&self, now_ms: Option<u64>) {
        if let Some(now_ms) = now_ms {
            self.0.fetch_max(now_ms, Ordering::Relaxed);
        }
    }
}
