//! The queue in front of a database that others write to as well: whoever waits is written together
//! with everybody else who waits, in one transaction.
//!
//! **Invariant:** an operation that fails by itself does not take the others with it: after a
//! refusal by the server, each one is carried out alone.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_messages::{PairId, Rev};
use keybaton_ports::{CommitError, Denial, GrantError, Refusal, Standing, Transaction};
use keybaton_rotation::AuditEntry;
use tokio::sync::{mpsc, oneshot};

use crate::journals::book::{Book, Named};
use crate::journals::redb::pairs::Corrupt;
use crate::limits::WRITE_QUEUE_MAX;
use crate::store::{Down, is_time_stale};

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

/// One operation.
pub(super) enum Op {
    Commit(Box<Transaction>),
    Grant(Named),
    Return(Named),
    Audit(PairId, AuditEntry),
}

/// How it ended.
pub(super) enum Done {
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
    /// Applies it to what was read.
    pub(super) fn apply(&self, book: &mut Book) -> Done {
        match self {
            Self::Commit(transaction) => Done::Commit(book.commit(transaction)),
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

struct Job {
    op: Op,
    answer: oneshot::Sender<Done>,
}

/// Where operations are put.
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
    name: &'static str,
}

impl Queue {
    /// Starts the writer; it ends with the queue.
    pub(super) fn start<D: Database>(database: Arc<D>) -> Self {
        let (sender, mut jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while jobs.recv_many(&mut batch, D::BATCH_MAX).await > 0 {
                // The first one wakes this task. Whoever was answered a moment ago is about to ask
                // again, and goes with it.
                tokio::task::yield_now().await;
                while batch.len() < D::BATCH_MAX
                    && let Ok(job) = jobs.try_recv()
                {
                    batch.push(job);
                }
                carry_out(&*database, std::mem::take(&mut batch)).await;
            }
        });
        Self { jobs: sender, name: D::NAME }
    }

    /// Carries out an operation; it is carried out also when nobody waits for it any more.
    pub(super) async fn submit(&self, op: Op) -> Done {
        let (answer, done) = oneshot::channel();
        let lost = op.down(Down::Unknown(format!("the writer to {} ended", self.name)));
        if let Err(error) = self.jobs.try_send(Job { op, answer }) {
            let why = format!("too many operations wait for {}", self.name);
            return error.into_inner().op.down(Down::Unavailable(why));
        }
        done.await.unwrap_or(lost)
    }
}

async fn carry_out(database: &impl Database, jobs: Vec<Job>) {
    let ops: Vec<_> = jobs.iter().map(|job| &job.op).collect();
    let answers = match database.attempt(&ops, false).await {
        Ok(answers) => answers,
        Err(Failure::Down(down)) => ops.iter().map(|op| op.down(down.clone())).collect(),
        Err(Failure::Refused(_)) => {
            let mut answers = Vec::with_capacity(ops.len());
            for op in ops {
                answers.push(alone(database, op).await);
            }
            answers
        }
    };
    for (job, done) in jobs.into_iter().zip(answers) {
        // A caller that went away needs no answer.
        let _ = job.answer.send(done);
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
