//! The queue in front of the database: whoever waits is written together with everybody else who
//! waits, in one transaction.
//!
//! **Invariant:** an operation that fails by itself does not take the others with it: after a
//! refusal by the server, each one is carried out alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_messages::{PairId, Rev};
use keybaton_ports::{Clock, CommitError, Denial, GrantError, Refusal, Standing, Transaction};
use keybaton_rotation::AuditEntry;
use tokio::sync::{mpsc, oneshot};

use crate::journals::postgres::Shared;
use crate::journals::postgres::book::{Book, Named};
use crate::journals::postgres::read::read;
use crate::journals::postgres::rows::signed;
use crate::journals::postgres::write::{End, write};
use crate::journals::redb::pairs::Corrupt;
use crate::limits::{POSTGRES_BATCH_MAX, WRITE_QUEUE_MAX};
use crate::postgres::{discard, is_refused_write, why};
use crate::store::{Down, is_time_stale};

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

impl Op {
    fn apply(&self, book: &mut Book) -> Done {
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
pub(super) struct Queue(mpsc::Sender<Job>);

impl Queue {
    /// Starts the writer; it ends with the queue.
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let (sender, mut jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while jobs.recv_many(&mut batch, POSTGRES_BATCH_MAX).await > 0 {
                carry_out(&shared, std::mem::take(&mut batch)).await;
            }
        });
        Self(sender)
    }

    /// Carries out an operation; it is carried out also when nobody waits for it any more.
    pub(super) async fn submit(&self, op: Op) -> Done {
        let (answer, done) = oneshot::channel();
        let lost = op.down(Down::Unknown("the writer to postgres ended".into()));
        if let Err(error) = self.0.try_send(Job { op, answer }) {
            let why = "too many operations wait for postgres";
            return error.into_inner().op.down(Down::Unavailable(why.into()));
        }
        done.await.unwrap_or(lost)
    }
}

async fn carry_out(shared: &Shared, jobs: Vec<Job>) {
    let ops: Vec<_> = jobs.iter().map(|job| &job.op).collect();
    let answers = match attempt(shared, &ops, false).await {
        Ok(answers) => answers,
        Err(Failure::Down(down)) => ops.iter().map(|op| op.down(down.clone())).collect(),
        Err(Failure::Refused(_)) => {
            let mut answers = Vec::with_capacity(ops.len());
            for op in ops {
                answers.push(alone(shared, op).await);
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
async fn alone(shared: &Shared, op: &Op) -> Done {
    const TRIES_MAX: usize = 3;
    let mut refused = String::new();
    for _ in 0..TRIES_MAX {
        match attempt(shared, &[op], true).await {
            Ok(mut answers) => {
                return answers.pop().unwrap_or_else(|| op.corrupt("there is no answer".into()));
            }
            Err(Failure::Down(down)) => return op.down(down),
            Err(Failure::Refused(why)) => refused = why,
        }
    }
    op.corrupt(format!("refused to write: {refused}"))
}

/// Why a transaction as a whole was not written, or nobody knows.
enum Failure {
    Down(Down),
    /// A constraint or the comparison with what was read.
    Refused(String),
}

impl Failure {
    fn not_written(error: &tokio_postgres::Error) -> Self {
        if is_refused_write(error) {
            Self::Refused(why(error))
        } else {
            Self::Down(Down::Unavailable(why(error)))
        }
    }
}

async fn attempt(shared: &Shared, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
    let pool = &shared.pool;
    let client = pool.take().await.map_err(Failure::Down)?;
    let found = pool.in_time(read(&client, shared, ops.iter().copied(), is_thorough)).await;
    let mut book = match found {
        Some(Ok(book)) => book,
        Some(Err(error)) => {
            discard(client);
            return Err(Failure::not_written(&error));
        }
        None => {
            discard(client);
            return Err(Failure::Down(Down::Unavailable(pool.silence())));
        }
    };
    let answers: Vec<_> = ops.iter().map(|op| op.apply(&mut book)).collect();
    let doubts = pool.doubts();
    let now = shared.marks.stale(shared.clock.now().0);
    let end = pool.in_time(write(&client, &shared.sealer, &book, now.map(signed))).await;
    match end {
        Some(Ok(End::Committed)) if pool.doubts() == doubts => {
            shared.marks.written(now);
            Ok(answers)
        }
        Some(Ok(End::Committed)) => {
            let why = "the wait for the standby was cut short; only the primary has it for sure";
            Err(Failure::Down(Down::Unknown(why.into())))
        }
        Some(Ok(End::Not(error))) => {
            discard(client);
            Err(Failure::not_written(&error))
        }
        Some(Ok(End::Unknown(error))) => {
            discard(client);
            Err(Failure::Down(Down::Unknown(why(&error))))
        }
        Some(Err(Corrupt(why))) => {
            discard(client);
            Err(Failure::Refused(why))
        }
        None => {
            discard(client);
            Err(Failure::Down(Down::Unknown(pool.silence())))
        }
    }
}

/// The high-water mark of the clock, which is stored with whatever else is written.
pub(super) struct Marks(AtomicU64);

impl Marks {
    pub(super) fn new(stored_ms: u64) -> Self {
        Self(AtomicU64::new(stored_ms))
    }

    fn stale(&self, now_ms: u64) -> Option<u64> {
        is_time_stale(self.0.load(Ordering::Relaxed), now_ms).then_some(now_ms)
    }

    fn written(&self, now_ms: Option<u64>) {
        if let Some(now_ms) = now_ms {
            self.0.fetch_max(now_ms, Ordering::Relaxed);
        }
    }
}
