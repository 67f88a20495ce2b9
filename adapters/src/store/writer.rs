//! One writer for the whole store: the first who comes commits for everybody who comes meanwhile.
//!
//! ```text
//!   caller ── submit ──► queue empty?  commits at once, on its own
//!                  └───► somebody commits?  waits; what has gathered is one batch, committed on
//!                        a thread that is needed until the queue is empty
//! ```
//!
//! There is no window of time in which more work is awaited: a lone operation costs one commit and
//! no change of thread, and under load the batches grow by themselves. Nobody who merely waits is
//! ever needed for the others to go on.
//!
//! **Invariant:** a caller that goes away takes its operation with it if that has not begun; it
//! never takes anybody else's.
//! **Invariant:** after a failed commit the database is reopened, so that what is really there
//! decides, and the batch is carried out again; operations recognise what they wrote themselves.
//! A failed sync, or a second failure, stops the store for good.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use keybaton_ports::Refusal;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, COMMIT_TRIES_MAX, FREE_BYTES_MIN, ON_WORKER_MAX,
    WRITE_QUEUE_MAX,
};
use crate::store::database::{Database, Failure, Reader};
use crate::store::ticket::{Job, Ticket};
use crate::store::{DataDir, Down, Fault, Tables};

/// One operation on rows.
pub(crate) trait Work: Send + Sized + 'static {
    /// What its caller is told.
    type Answer: Send + 'static;

    /// About how much it writes.
    fn bytes(&self) -> usize {
        0
    }

    /// Checks every condition, then writes. May be carried out again after a commit whose outcome
    /// is unknown, and then recognises what it wrote.
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault>;
}

/// What is kept in memory of the store's content, in step with its commits.
pub(crate) trait Resident: Send + Sync {
    /// Adds rows to a batch that is about to be committed.
    fn before_commit(&self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
        Ok(())
    }

    /// The batch is durable.
    fn committed(&self);

    /// The batch is lost or unknown; read again what is there.
    fn reload(&self, reader: &mut Reader) -> Result<(), Fault>;
}

/// The open store.
pub(crate) struct Store {
    database: Database,
    residents: Vec<Arc<dyn Resident>>,
    queue: Mutex<Queue>,
    stopped: watch::Sender<Option<String>>,
    /// The last commit that a caller made was short enough for a worker.
    is_quick: AtomicBool,
    dir: DataDir,
}

#[derive(Default)]
struct Queue {
    /// Each with about how much it writes.
    jobs: VecDeque<(Arc<dyn Job>, usize)>,
    is_led: bool,
}

impl Store {
    pub(crate) fn new(
        dir: DataDir,
        database: Database,
        residents: Vec<Arc<dyn Resident>>,
    ) -> Result<Self, Down> {
        database.read(|reader| residents.iter().try_for_each(|r| r.reload(reader)))?;
        Ok(Self {
            database,
            residents,
            queue: Mutex::default(),
            stopped: watch::Sender::new(None),
            is_quick: AtomicBool::new(false),
            dir,
        })
    }

    /// Why the store stopped, once it has.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.stopped.subscribe()
    }

    pub(crate) fn read<T>(
        &self,
        act: impl FnOnce(&mut Reader) -> Result<T, Fault>,
    ) -> Result<T, Down> {
        self.database.read(act)
    }

    /// Whether a write can succeed now: the store runs and the disk has room.
    pub(crate) fn check_writable(&self) -> Result<(), Refusal> {
        if let Some(why) = &*self.stopped.borrow() {
            return Err(Refusal::busy(why.clone()));
        }
        let room = rustix::fs::statvfs(self.dir.path())
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
            .map_err(|error| Refusal::busy(format!("cannot inspect the disk: {error}")))?;
        if room < FREE_BYTES_MIN {
            let why = format!("the disk of {} is nearly full", self.dir.path().display());
            return Err(Refusal::busy(why));
        }
        Ok(())
    }

    /// Queues an operation, and commits it here if nobody else is committing. The answer comes
    /// once it is durable, or refused.
    pub(crate) fn submit<W: Work>(self: &Arc<Self>, work: W) -> Submission<W> {
        let bytes = work.bytes();
        let ticket = Ticket::new(work);
        if self.enqueue(Arc::clone(&ticket), bytes) {
            let lead = Lead { store: Arc::clone(self), is_over: false };
            lead.commit_and_hand_over();
        }
        Submission(ticket)
    }

    /// Says whether the caller is to commit.
    fn enqueue<W: Work>(&self, ticket: Arc<Ticket<W>>, bytes: usize) -> bool {
        let mut queue = self.queue.lock();
        let refused = if let Some(why) = &*self.stopped.borrow() {
            Some(why.clone())
        } else if queue.jobs.len() >= WRITE_QUEUE_MAX {
            Some("too many writes wait; try again".to_owned())
        } else {
            None
        };
        if let Some(why) = refused {
            ticket.fail(Down::Unavailable(why));
            return false;
        }
        queue.jobs.push_back((ticket, bytes));
        !std::mem::replace(&mut queue.is_led, true)
    }

    /// Commits a batch and delivers its answers.
    fn carry_out(&self, batch: &Batch) {
        let mut reached_commit = false;
        for attempt in 1.. {
            let failure = match self.attempt(&batch.0) {
                Ok(()) => {
                    count(batch.0.len());
                    self.residents.iter().for_each(|r| r.committed());
                    batch.0.iter().for_each(|job| job.deliver());
                    return;
                }
                Err(failure) => failure,
            };
            reached_commit |= failure.at_commit;
            tracing::error!(error = %failure.fault, attempt, "commit failed");
            let ended = if self.database.has_failed_to_sync() {
                Err("the disk failed to sync".to_owned())
            } else if attempt >= COMMIT_TRIES_MAX {
                Err("the commit failed again".to_owned())
            } else {
                self.recover().map_err(|why| format!("cannot reopen: {why}"))
            };
            if let Err(why) = ended {
                let why = format!(
                    "the store stopped: {why} ({}); check the disk under {}, then start again",
                    failure.fault,
                    self.dir.path().display()
                );
                self.stop(why, &batch.0, reached_commit);
                return;
            }
        }
    }

    fn attempt(&self, jobs: &[Arc<dyn Job>]) -> Result<(), Failure> {
        self.database.write(|tables| {
            jobs.iter().try_for_each(|job| job.apply(tables))?;
            if tables.is_changed() {
                self.residents.iter().try_for_each(|r| r.before_commit(tables))?;
            }
            Ok(())
        })
    }

    fn recover(&self) -> Result<(), String> {
        self.database.reopen().map_err(|fault| fault.to_string())?;
        self.database
            .read(|reader| self.residents.iter().try_for_each(|r| r.reload(reader)))
            .map_err(|down| down.to_string())
    }

    /// Ends the store: nothing is written after this, and whoever runs the node is told.
    fn stop(&self, why: String, jobs: &[Arc<dyn Job>], reached_commit: bool) {
        tracing::error!("{why}");
        self.stopped.send_replace(Some(why.clone()));
        let queued = std::mem::take(&mut self.queue.lock().jobs);
        let down = if reached_commit {
            Down::Unknown(why.clone())
        } else {
            Down::Unavailable(why.clone())
        };
        jobs.iter().for_each(|job| job.fail(down.clone()));
        for (job, _) in queued {
            job.fail(Down::Unavailable(why.clone()));
        }
    }
}

/// How many commits there were, and how many operations they carried.
fn count(operations: usize) {
    metrics::counter!("keybaton_store_commits_total").increment(1);
    metrics::counter!("keybaton_store_operations_total").increment(operations as u64);
}

/// The duty to commit what is queued. One at a time.
struct Lead {
    store: Arc<Store>,
    is_over: bool,
}

impl Lead {
    /// Commits one batch here: while the disk is quick, on the runtime's worker itself, since moving
    /// the worker's other tasks to another thread takes a third as long as the commit. What has
    /// gathered meanwhile is left to a thread, so that this caller goes on. Not to a task: it would
    /// begin behind the thousands that are about to write.
    fn commit_and_hand_over(mut self) {
        let begun = Instant::now();
        if self.store.is_quick.load(Ordering::Relaxed) {
            self.commit();
        } else {
            blocking(|| self.commit());
        }
        self.store.is_quick.store(begun.elapsed() <= ON_WORKER_MAX, Ordering::Relaxed);
        if self.is_over {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
                drop(runtime.spawn_blocking(move || self.commit_all()));
            }
            _ => self.commit_all(),
        }
    }

    fn commit_all(&mut self) {
        while !self.is_over {
            self.commit();
        }
    }

    /// Commits what is queued, at most one batch; over when nothing is left.
    fn commit(&mut self) {
        let batch = self.store.queue.lock().take_batch();
        if !batch.0.is_empty() {
            self.store.carry_out(&batch);
        }
        let mut queue = self.store.queue.lock();
        if queue.jobs.is_empty() {
            queue.is_led = false;
            self.is_over = true;
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Either a batch panicked, or the runtime ended before the thread began; in the second case
        // whoever comes next commits what is queued.
        if std::thread::panicking() {
            let why = "the store stopped: a fault in keybaton itself; start again".to_owned();
            self.store.stop(why, &[], true);
        }
        self.store.queue.lock().is_led = false;
    }
}

impl Queue {
    fn take_batch(&mut self) -> Batch {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_OPERATIONS_MAX && bytes < BATCH_BYTES_MAX {
            let Some((job, job_bytes)) = self.jobs.pop_front() else {
                break;
            };
            bytes += job_bytes;
            batch.push(job);
        }
        Batch(batch)
    }
}

/// Operations of one transaction.
struct Batch(Vec<Arc<dyn Job>>);

impl Drop for Batch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lost = Down::Unknown("a fault in keybaton itself".into());
            self.0.iter().for_each(|job| job.fail(lost.clone()));
        }
    }
}

/// An operation's future answer.
pub(crate) struct Submission<W: Work>(Arc<Ticket<W>>);

impl<W: Work> Future for Submission<W> {
    type Output = Result<W::Answer, Down>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}

impl<W: Work> Drop for Submission<W> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
