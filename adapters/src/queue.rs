//! The queue in front of a database that others write to as well: whoever waits is written together
//! with everybody else who waits, in one transaction.
//!
//! ```text
//!   callers ──► waiting ──┬─► batch: prepared here ──► written there ──┬──► answers
//!                         └─► another one, of other keys ──────────────┘
//! ```
//!
//! While the database works on one batch, the next one is prepared, once half of those are back who
//! ask at once; a lone operation does not wait for company. An operation's key is what it changes: a
//! pair, a task, a checkpoint.
//!
//! **Invariant:** of one key, nothing is on its way in two batches, and nothing overtakes.

use std::collections::HashSet;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::limits::{
    BATCH_BYTES_MAX, BATCH_WORTH_SPLITTING, COMPANY_WAIT_MAX, CROWD_FORGOTTEN_IN, WRITE_QUEUE_MAX,
};
use crate::store::Down;

/// Carries out operations together.
pub(crate) trait Writer: Send + Sync + 'static {
    /// What it writes to.
    const NAME: &'static str;

    /// Most operations that are carried out together.
    const BATCH_MAX: usize;

    /// One operation.
    type Op: Send + Sync + 'static;

    /// What it changes.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// How it ended.
    type Answer: Send + 'static;

    fn key(op: &Self::Op) -> &Self::Key;

    /// About how much it writes, if that is ever much.
    fn bytes(_op: &Self::Op) -> usize {
        0
    }

    /// Carries them out; the answers come in the same order.
    fn carry_out(&self, ops: &[&Self::Op]) -> impl Future<Output = Vec<Self::Answer>> + Send;
}

struct Job<Op, Answer> {
    op: Op,
    answer: oneshot::Sender<Answer>,
}

/// Where operations are put.
pub(crate) struct Queue<Op, Answer> {
    jobs: mpsc::Sender<Job<Op, Answer>>,
    name: &'static str,
}

impl<Op: Send + Sync + 'static, Answer: Send + 'static> Queue<Op, Answer> {
    /// Starts the writer's work; it ends with the queue.
    pub(crate) fn start<W>(writer: Arc<W>) -> Self
    where
        W: Writer<Op = Op, Answer = Answer>,
    {
        let (sender, jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        tokio::spawn(write_all(writer, jobs));
        Self { jobs: sender, name: W::NAME }
    }

    /// Carries out an operation; from this call on it is carried out also when nobody waits for it.
    ///
    /// # Errors
    /// When too many wait, or nobody can tell how it ended.
    pub(crate) fn submit(
        &self,
        op: Op,
    ) -> impl Future<Output = Result<Answer, Down>> + Send + use<Op, Answer> {
        // Not part of what waits: an operation is large, and a future is moved about.
        let (answer, done) = oneshot::channel();
        let sent = self.jobs.try_send(Job { op, answer }).map_err(|error| match error {
            TrySendError::Closed(_) => Down::Unavailable(ended(self.name)),
            TrySendError::Full(_) => {
                Down::Unavailable(format!("too many operations wait for {}", self.name))
            }
        });
        let name = self.name;
        async move {
            sent?;
            done.await.map_err(|_| Down::Unknown(ended(name)))
        }
    }
}

fn ended(name: &str) -> String {
    format!("the writer to {name} ended")
}

type JobOf<W> = Job<<W as Writer>::Op, <W as Writer>::Answer>;
type Keys<W> = HashSet<<W as Writer>::Key, RandomState>;

/// Carries out what comes, until nobody can ask any more and everything is answered.
async fn write_all<W: Writer>(writer: Arc<W>, mut jobs: mpsc::Receiver<JobOf<W>>) {
    let mut waiting = Waiting::<W>::default();
    let mut under_way = JoinSet::new();
    let mut company = pin!(sleep_until(waiting.since));
    let (mut came, mut is_open) = (Vec::new(), true);
    while is_open || !under_way.is_empty() {
        let room = W::BATCH_MAX.saturating_sub(waiting.len());
        tokio::select! {
            got = jobs.recv_many(&mut came, room), if is_open && room > 0 => is_open = got > 0,
            Some(ended) = under_way.join_next() => waiting.end(ended),
            () = &mut company, if waiting.is_for_company() => waiting.crowd = 0,
        }
        // The first one wakes this task. Whoever was answered a moment ago is about to ask again,
        // and goes with it.
        tokio::task::yield_now().await;
        while waiting.len() + came.len() < W::BATCH_MAX
            && let Ok(job) = jobs.try_recv()
        {
            came.push(job);
        }
        waiting.add(came.drain(..));
        let since = waiting.since;
        while let Some(batch) = waiting.next_batch(under_way.len()) {
            under_way.spawn(write(Arc::clone(&writer), batch));
        }
        if waiting.since != since {
            company.as_mut().reset(waiting.since + COMPANY_WAIT_MAX);
        }
    }
}

async fn write<W: Writer>(writer: Arc<W>, batch: Vec<JobOf<W>>) -> Vec<W::Key> {
    let ops: Vec<_> = batch.iter().map(|job| &job.op).collect();
    let answers = writer.carry_out(&ops).await;
    let keys = ops.into_iter().map(|op| W::key(op).clone()).collect();
    for (job, answer) in batch.into_iter().zip(answers) {
        // A caller that went away needs no answer.
        let _ = job.answer.send(answer);
    }
    keys
}

/// What waits to be carried out.
struct Waiting<W: Writer> {
    /// What can go, in the order in which it came.
    free: Vec<JobOf<W>>,
    /// What waits for an operation of its key that is under way.
    behind: Vec<JobOf<W>>,
    /// What the batches change that are under way.
    away: Keys<W>,
    /// How many asked at once lately, up to what one batch carries: when a batch goes, those that
    /// were answered a moment ago are neither here nor away.
    crowd: usize,
    /// When the last batch went.
    since: Instant,
}

impl<W: Writer> Default for Waiting<W> {
    fn default() -> Self {
        Self {
            free: Vec::new(),
            behind: Vec::new(),
            away: Keys::<W>::default(),
            crowd: 0,
            since: Instant::now(),
        }
    }
}

impl<W: Writer> Waiting<W> {
    fn len(&self) -> usize {
        self.free.len() + self.behind.len()
    }

    fn add(&mut self, came: impl Iterator<Item = JobOf<W>>) {
        for job in came {
            let is_free = !self.away.contains(W::key(&job.op));
            let these = if is_free { &mut self.free } else { &mut self.behind };
            these.push(job);
        }
    }

    /// What goes next, beside so many batches that are under way.
    fn next_batch(&mut self, under_way: usize) -> Option<Vec<JobOf<W>>> {
        let (free, crowd) = (self.free.len(), self.crowd);
        let most = match under_way {
            // Everybody is here: half of them are prepared while the other half is written.
            0 if free >= BATCH_WORTH_SPLITTING.max(crowd) => free.div_ceil(2),
            0 => free,
            // A batch costs a round trip and a sync: few wait until half of everybody is here.
            1 if free >= (BATCH_WORTH_SPLITTING / 2).max(crowd / 2) => free,
            _ => 0,
        };
        let goes = self.fitting(most);
        if goes == 0 {
            return None;
        }
        let now = free + self.away.len();
        self.since = Instant::now();
        self.crowd = now.max(crowd - crowd / CROWD_FORGOTTEN_IN).min(W::BATCH_MAX);
        let rest = self.free.split_off(goes);
        let batch = std::mem::take(&mut self.free);
        self.away.extend(batch.iter().map(|job| W::key(&job.op).clone()));
        self.add(rest.into_iter());
        Some(batch)
    }

    /// How many of the free ones one batch has room for, up to so many.
    fn fitting(&self, most: usize) -> usize {
        let mut bytes = 0;
        let fits = |job: &&JobOf<W>| {
            let has_room = bytes < BATCH_BYTES_MAX;
            bytes += W::bytes(&job.op);
            has_room
        };
        self.free.iter().take(most).take_while(fits).count()
    }

    /// Whether somebody waits who would go if the crowd were forgotten.
    fn is_for_company(&self) -> bool {
        self.crowd > 0 && !self.free.is_empty()
    }

    /// A batch is answered.
    fn end(&mut self, ended: Result<Vec<W::Key>, JoinError>) {
        match ended {
            Ok(keys) => keys.iter().for_each(|key| drop(self.away.take(key))),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        let behind = std::mem::take(&mut self.behind);
        self.add(behind.into_iter());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    /// The n-th operation on this key.
    type Numbered = (usize, u8);

    /// As the number of an operation: three of them are too much for one batch.
    const LARGE: u8 = u8::MAX;

    fn job(key: usize, n: u8) -> JobOf<Slow> {
        Job { op: (key, n), answer: oneshot::channel().0 }
    }

    /// Writes a batch when it is allowed to, and demands that of no key two are written at once.
    struct Slow {
        allowed: Semaphore,
        at_work: Mutex<HashSet<usize>>,
        written: Mutex<Vec<Numbered>>,
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

    impl Writer for Slow {
        const NAME: &'static str = "slow";
        const BATCH_MAX: usize = 64;
        type Op = Numbered;
        type Key = usize;
        type Answer = Numbered;

        fn key((key, _): &Numbered) -> &usize {
            key
        }

        fn bytes((_, n): &Numbered) -> usize {
            if *n == LARGE { BATCH_BYTES_MAX / 2 } else { 1 }
        }

        async fn carry_out(&self, ops: &[&Numbered]) -> Vec<Numbered> {
            let keys: HashSet<_> = ops.iter().map(|op| op.0).collect();
            {
                let (mut at_work, mut most) = (self.at_work.lock(), self.most_at_once.lock());
                assert!(keys.is_disjoint(&at_work), "two batches have the same key");
                at_work.extend(&keys);
                most.0 += 1;
                most.1 = most.1.max(most.0);
            }
            self.allowed.acquire().await.expect("open").forget();
            self.at_work.lock().retain(|key| !keys.contains(key));
            self.most_at_once.lock().0 -= 1;
            self.written.lock().extend(ops.iter().copied());
            ops.iter().map(|op| **op).collect()
        }
    }

    #[tokio::test]
    async fn two_batches_are_under_way_and_of_no_key_anything_overtakes() {
        // As many as a batch has room for: operations of one key never go beside each other.
        const KEYS: usize = Slow::BATCH_MAX;
        const EACH: u8 = 5;
        let slow = Slow::new();
        let queue = Queue::start(Arc::clone(&slow));
        let asked: Vec<_> = (0..EACH).flat_map(|n| (0..KEYS).map(move |key| (key, n))).collect();
        let answers = asked.iter().map(|op| queue.submit(*op));
        let allow = async {
            // Whatever can be under way has begun by then.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            slow.allowed.add_permits(KEYS * usize::from(EACH));
        };

        let (answers, ()) = tokio::join!(futures::future::join_all(answers), allow);

        let answers: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
        assert_eq!(answers, asked, "each has its own answer");
        assert_eq!(slow.most_at_once.lock().1, 2);
        let written = slow.written.lock();
        assert_eq!(written.len(), asked.len(), "each once");
        for key in 0..KEYS {
            let order: Vec<_> =
                written.iter().filter(|(of, _)| *of == key).map(|(_, n)| *n).collect();
            assert_eq!(order, [0, 1, 2, 3, 4], "{key}");
        }
    }

    #[test]
    fn many_go_as_two_and_few_wait_for_more_unless_they_are_all() {
        let sizes = |waiting: &mut Waiting<Slow>, under_way| {
            waiting.next_batch(under_way).map(|batch| batch.len())
        };
        let mut waiting = Waiting::default();
        waiting.add((0..BATCH_WORTH_SPLITTING - 1).map(|key| job(key, 0)));
        assert_eq!(sizes(&mut waiting, 0), Some(BATCH_WORTH_SPLITTING - 1), "one batch");
        waiting.add([job(100, 0)].into_iter());
        assert_eq!(sizes(&mut waiting, 1), None, "a lone one waits for the batch or for more");
        assert_eq!(sizes(&mut waiting, 0), Some(1), "or until nothing is under way");
        waiting.end(Ok((0..=100).collect()));

        waiting.add((0..41).map(|key| job(key, 0)));
        assert_eq!(sizes(&mut waiting, 0), Some(21));
        assert_eq!(sizes(&mut waiting, 1), Some(20));
        waiting.add((0..41).map(|key| job(key, 1)));
        assert_eq!(sizes(&mut waiting, 1), None, "all of their keys are away");
        assert_eq!(sizes(&mut waiting, 2), None);
        waiting.end(Ok((0..21).collect()));
        assert_eq!(sizes(&mut waiting, 1), Some(21), "those that came back go");
        assert_eq!(waiting.len(), 20);
    }

    #[test]
    fn beside_another_batch_goes_half_of_a_crowd_until_it_is_forgotten() {
        let next = |waiting: &mut Waiting<Slow>, under_way| {
            waiting.next_batch(under_way).map(|batch| batch.iter().map(|job| job.op.0).collect())
        };
        let come = |waiting: &mut Waiting<Slow>, keys: std::ops::Range<usize>| {
            waiting.add(keys.map(|key| job(key, 0)));
        };
        let mut waiting = Waiting::default();
        come(&mut waiting, 0..60);
        let first: Vec<usize> = next(&mut waiting, 0).expect("half");
        let second: Vec<usize> = next(&mut waiting, 1).expect("the other half");
        assert_eq!((first.len(), second.len()), (30, 30));

        waiting.end(Ok(first));
        come(&mut waiting, 0..29);
        assert_eq!(next(&mut waiting, 1), None, "the thirtieth is about to come back");
        come(&mut waiting, 29..30);
        let first = next(&mut waiting, 1).expect("all are back");
        assert_eq!(first.len(), 30);

        waiting.end(Ok(first));
        waiting.end(Ok(second));
        come(&mut waiting, 0..40);
        let whole = next(&mut waiting, 0).expect("nothing is under way");
        assert_eq!(whole.len(), 40, "twenty are about to come: they go beside it");
        waiting.end(Ok(whole));
        for _ in 0..CROWD_FORGOTTEN_IN {
            come(&mut waiting, 0..1);
            let lone = next(&mut waiting, 0).expect("a lone one goes");
            waiting.end(Ok(lone));
        }
        come(&mut waiting, 0..40);
        assert_eq!(next(&mut waiting, 0).map(|half| half.len()), Some(20), "forty are the crowd");
    }

    #[test]
    fn what_a_cut_leaves_behind_does_not_go_beside_its_own_keys() {
        let mut waiting = Waiting::<Slow>::default();
        waiting.add((0..2).flat_map(|n| (0..20).map(move |key| job(key, n))));
        let ops = |batch: Option<Vec<JobOf<Slow>>>| {
            batch.map(|batch| batch.iter().map(|job| job.op).collect::<Vec<_>>())
        };
        let of = |n: u8| Some((0..20).map(|key| (key, n)).collect::<Vec<_>>());
        assert_eq!(ops(waiting.next_batch(0)), of(0), "half of all, which is each key once");
        assert_eq!(ops(waiting.next_batch(1)), None, "all of their keys are away");
        waiting.end(Ok((0..20).collect()));
        assert_eq!(ops(waiting.next_batch(0)), of(1));
    }

    #[tokio::test]
    async fn nobody_waits_long_for_company_beside_a_batch_that_takes_long() {
        let slow = Slow::new();
        let queue = Queue::start(Arc::clone(&slow));
        let ask = |keys: std::ops::Range<usize>| {
            futures::future::join_all(keys.map(|key| queue.submit((key, 0))))
        };
        let at_work = async |keys: usize| {
            while slow.at_work.lock().len() != keys {
                tokio::task::yield_now().await;
            }
        };
        let late = async {
            at_work(60).await;
            slow.allowed.add_permits(1);
            at_work(30).await;
            let beside = async {
                at_work(50).await;
                slow.allowed.add_permits(2);
            };
            tokio::join!(ask(100..120), beside).0
        };
        let all = async { tokio::join!(ask(0..60), late) };
        let (crowd, late) = tokio::time::timeout(COMPANY_WAIT_MAX * 100, all)
            .await
            .expect("the twenty go beside the thirty that take long");
        assert!(crowd.iter().chain(&late).all(Result::is_ok));
    }

    #[test]
    fn what_is_large_goes_with_few() {
        let mut waiting = Waiting::<Slow>::default();
        waiting.add((0..5).map(|key| job(key, LARGE)));
        let mut batches = std::iter::from_fn(|| waiting.next_batch(0)).map(|batch| batch.len());
        assert_eq!(batches.next(), Some(2));
        assert_eq!(batches.next(), Some(2));
        assert_eq!(batches.next(), Some(1));
        assert_eq!(batches.next(), None);
    }
}
