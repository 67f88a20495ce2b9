//! The queue in front of a database that others write to as well: whoever waits is written together
//! with everybody else who waits, in one transaction.
//!
//! ```text
//!   callers ──► waiting ──┬─► batch: prepared here ──► written there ──┬──► answers
//!                         └─► another one, of other pairs ─────────────┘
//! ```
//!
//! While the database works on one batch, the next one is prepared; a lone operation does not wait
//! for company.
//!
//! **Invariant:** an operation that fails by itself does not take the others with it: after a
//! refusal by the server, each one is carried out alone.
//! **Invariant:** of one pair, nothing is on its way in two batches, and nothing overtakes.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_messages::{PairId, Rev};
use keybaton_ports::{CommitError, Denial, GrantError, Refusal, Standing, Transaction};
use keybaton_rotation::AuditEntry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::journals::book::{Book, Named};
use crate::journals::redb::pairs::Corrupt;
use crate::limits::{BATCH_WORTH_SPLITTING, WRITE_QUEUE_MAX};
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
    fn pair(&self) -> &PairId {
        match self {
            Self::Commit(transaction) => &transaction.record.pair,
            Self::Grant(named) | Self::Return(named) => &named.pair,
            Self::Audit(pair, _) => pair,
        }
    }

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
        let (sender, jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        tokio::spawn(write_all(database, jobs));
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

/// Carries out what comes, until nobody can ask any more and everything is answered.
async fn write_all<D: Database>(database: Arc<D>, mut jobs: mpsc::Receiver<Job>) {
    let mut waiting = Waiting::default();
    let mut under_way = JoinSet::new();
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        let room = D::BATCH_MAX.saturating_sub(waiting.jobs.len());
        tokio::select! {
            got = jobs.recv_many(&mut waiting.jobs, room), if is_open && room > 0 => is_open = got > 0,
            Some(ended) = under_way.join_next() => waiting.end(ended),
        }
        // The first one wakes this task. Whoever was answered a moment ago is about to ask again,
        // and goes with it.
        tokio::task::yield_now().await;
        while waiting.jobs.len() < D::BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            waiting.jobs.push(job);
        }
        while let Some(batch) = waiting.next_batch(under_way.len()) {
            let database = Arc::clone(&database);
            under_way.spawn(async move {
                let pairs: Pairs = batch.iter().map(|job| job.op.pair().clone()).collect();
                carry_out(&*database, batch).await;
                pairs
            });
        }
    }
}

type Pairs = HashSet<PairId>;

/// What waits to be carried out.
#[derive(Default)]
struct Waiting {
    /// In the order in which they came.
    jobs: Vec<Job>,
    /// Pairs of the batches that are under way.
    away: Pairs,
}

impl Waiting {
    /// What goes next, beside so many batches that are under way.
    fn next_batch(&mut self, under_way: usize) -> Option<Vec<Job>> {
        let Self { jobs, away } = self;
        let free = jobs.iter().filter(|job| !away.contains(job.op.pair())).count();
        let mut left = match under_way {
            // Half of it is prepared while the other half is written.
            0 if free >= BATCH_WORTH_SPLITTING => free.div_ceil(2),
            0 => free,
            // A batch costs a round trip and a sync: few wait for more.
            1 if free >= BATCH_WORTH_SPLITTING / 2 && free >= away.len() / 2 => free,
            _ => 0,
        };
        let goes = |job: &mut Job| {
            let goes = left > 0 && !away.contains(job.op.pair());
            left -= usize::from(goes);
            goes
        };
        let batch: Vec<_> = jobs.extract_if(.., goes).collect();
        away.extend(batch.iter().map(|job| job.op.pair().clone()));
        (!batch.is_empty()).then_some(batch)
    }

    /// A batch is answered.
    fn end(&mut self, ended: Result<Pairs, JoinError>) {
        match ended {
            Ok(pairs) => pairs.iter().for_each(|pair| drop(self.away.take(pair))),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use keybaton_messages::{GrantId, NodeId, Version};
    use keybaton_ports::NodeLife;
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    /// The n-th operation, on this pair.
    fn op(pair: usize, n: u8) -> Op {
        let pair =
            PairId::new(format!("t{pair}").parse().expect("a name"), "p".parse().expect("a name"));
        let node = NodeId::new("one").expect("a name");
        let life = NodeLife { node, incarnation: Default::default() };
        Op::Return(Named { pair, version: Version(1), life, id: GrantId([n; 16]) })
    }

    fn job(op: Op) -> Job {
        Job { op, answer: oneshot::channel().0 }
    }

    fn number(op: &Op) -> u8 {
        match op {
            Op::Return(named) => named.id.0[0],
            _ => unreachable!("there are no others here"),
        }
    }

    /// Writes a batch when it is allowed to, and demands that of no pair two are written at once.
    struct Slow {
        allowed: Semaphore,
        at_work: Mutex<HashSet<PairId>>,
        written: Mutex<Vec<(PairId, u8)>>,
        most_at_once: Mutex<(usize, usize)>,
    }

    impl Slow {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                allowed: Semaphore::new(0),
                at_work: Mutex::default(),
                written: Mutex::default(),
                most_at_once: Mutex::default(),
            })
        }
    }

    impl Database for Slow {
        const NAME: &'static str = "slow";
        const BATCH_MAX: usize = 64;

        async fn attempt(&self, ops: &[&Op], _: bool) -> Result<Vec<Done>, Failure> {
            let pairs: HashSet<_> = ops.iter().map(|op| op.pair().clone()).collect();
            {
                let (mut at_work, mut most) = (self.at_work.lock(), self.most_at_once.lock());
                assert!(pairs.is_disjoint(&at_work), "two batches have the same pair");
                at_work.extend(pairs.iter().cloned());
                most.0 += 1;
                most.1 = most.1.max(most.0);
            }
            self.allowed.acquire().await.expect("open").forget();
            self.at_work.lock().retain(|pair| !pairs.contains(pair));
            self.most_at_once.lock().0 -= 1;
            self.written.lock().extend(ops.iter().map(|op| (op.pair().clone(), number(op))));
            Ok(ops.iter().map(|_| Done::Audit(Ok(()))).collect())
        }
    }

    #[tokio::test]
    async fn two_batches_are_under_way_and_of_no_pair_anything_overtakes() {
        const PAIRS: usize = 40;
        const EACH: u8 = 5;
        let slow = Slow::new();
        let queue = Queue::start(Arc::clone(&slow));
        let asked = (0..EACH).flat_map(|n| (0..PAIRS).map(move |pair| op(pair, n)));
        let asked: Vec<_> = asked.map(|op| queue.submit(op)).collect();
        let allow = async {
            // Whatever can be under way has begun by then.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            slow.allowed.add_permits(PAIRS * usize::from(EACH));
        };

        let (answers, ()) = tokio::join!(futures::future::join_all(asked), allow);

        assert!(answers.iter().all(|done| matches!(done, Done::Audit(Ok(())))));
        assert_eq!(slow.most_at_once.lock().1, 2);
        let written = slow.written.lock();
        assert_eq!(written.len(), PAIRS * usize::from(EACH), "each once");
        for (pair, _) in written.iter().take(PAIRS) {
            let order: Vec<_> =
                written.iter().filter(|(of, _)| of == pair).map(|(_, n)| *n).collect();
            assert_eq!(order, [0, 1, 2, 3, 4], "{pair}");
        }
    }

    #[test]
    fn many_go_as_two_and_few_wait_for_more_unless_they_are_all() {
        let sizes = |waiting: &mut Waiting, under_way| {
            waiting.next_batch(under_way).map(|batch| batch.len())
        };
        let mut waiting = Waiting::default();
        waiting.jobs.extend((0..BATCH_WORTH_SPLITTING - 1).map(|pair| job(op(pair, 0))));
        assert_eq!(sizes(&mut waiting, 0), Some(BATCH_WORTH_SPLITTING - 1), "one batch");
        waiting.jobs.push(job(op(100, 0)));
        assert_eq!(sizes(&mut waiting, 1), None, "a lone one waits for the batch or for more");
        assert_eq!(sizes(&mut waiting, 0), Some(1), "or until nothing is under way");
        waiting.away.clear();

        waiting.jobs.extend((0..41).map(|pair| job(op(pair, 0))));
        assert_eq!(sizes(&mut waiting, 0), Some(21));
        assert_eq!(sizes(&mut waiting, 1), Some(20));
        waiting.jobs.extend((0..41).map(|pair| job(op(pair, 1))));
        assert_eq!(sizes(&mut waiting, 1), None, "all of their pairs are away");
        assert_eq!(sizes(&mut waiting, 2), None);
        waiting.end(Ok((0..21).map(|pair| op(pair, 0).pair().clone()).collect()));
        assert_eq!(sizes(&mut waiting, 1), Some(21), "those that came back go");
        assert_eq!(waiting.jobs.len(), 20);
    }
}
