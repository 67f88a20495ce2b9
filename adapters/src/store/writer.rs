//! One writer for the whole store: whoever waits first commits for everybody who waits.
//!
//! ```text
//!   caller ── submit ──► queue ──► leader: one transaction for all of it ──► answers
//!                          │          │
//!                          └── next ◄─┘  leads what has been queued meanwhile
//! ```
//!
//! There is no thread of its own and no window of time in which more work is awaited: a lone
//! operation costs one commit, and under load the batches grow by themselves.
//!
//! **Invariant:** a caller that goes away takes its operation with it if that has not begun; it
//! never takes anybody else's.
//! **Invariant:** after a failed commit the database is reopened, so that what is really there
//! decides, and the batch is carried out again; operations recognise what they wrote themselves.
//! A failed sync, or a second failure, stops the store for good.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use keybaton_ports::Refusal;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, COMMIT_TRIES_MAX, FREE_BYTES_MIN, WRITE_QUEUE_MAX,
};
use crate::store::database::{Database, Failure, Reader};
use crate::store::writer_slot::{Slot, Turn};
use crate::store::{DataDir, Down, Fault, Tables};

/// One operation on rows.
pub(crate) trait Work: Send + 'static {
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
    dir: DataDir,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
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

    /// Queues an operation; the answer comes once it is durable, or refused.
    pub(crate) fn submit<W: Work>(self: &Arc<Self>, work: W) -> Submission<W::Answer> {
        let mut queue = self.queue.lock();
        let refused = if let Some(why) = &*self.stopped.borrow() {
            Some(why.clone())
        } else if queue.jobs.len() >= WRITE_QUEUE_MAX {
            Some("too many writes wait; try again".to_owned())
        } else {
            None
        };
        let leads = refused.is_none() && !std::mem::replace(&mut queue.is_led, true);
        let slot = Slot::new(leads);
        match refused {
            Some(why) => slot.answer(Err(Down::Unavailable(why))),
            None => queue.jobs.push_back(Box::new(Queued {
                work,
                slot: Arc::clone(&slot),
                answer: None,
            })),
        }
        drop(queue);
        Submission {
            store: Arc::clone(self),
            slot,
        }
    }

    fn lead(&self) {
        blocking(|| {
            let leadership = Leadership(self);
            let mut done = self.carry_out(self.take_batch());
            // The next leader is woken before those who have their answers: it commits while they
            // go on.
            drop(leadership);
            done.iter_mut().for_each(|job| job.deliver());
        });
    }

    fn take_batch(&self) -> Vec<Box<dyn Job>> {
        let mut queue = self.queue.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_OPERATIONS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(job) = queue.jobs.pop_front() else {
                break;
            };
            if !job.is_left() {
                bytes += job.bytes();
                batch.push(job);
            }
        }
        batch
    }

    /// Commits a batch; those jobs come back whose answers are to be delivered.
    fn carry_out(&self, mut jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut reached_commit = false;
        for attempt in 1.. {
            let failure = match self.attempt(&mut jobs) {
                Ok(()) => {
                    self.residents.iter().for_each(|r| r.committed());
                    return jobs;
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
                self.recover()
                    .map_err(|why| format!("cannot reopen: {why}"))
            };
            if let Err(why) = ended {
                let why = format!(
                    "the store stopped: {why} ({}); check the disk under {}, then start again",
                    failure.fault,
                    self.dir.path().display()
                );
                self.stop(why, jobs, reached_commit);
                break;
            }
        }
        Vec::new()
    }

    fn attempt(&self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        if jobs.is_empty() {
            return Ok(());
        }
        self.database.write(|tables| {
            jobs.iter_mut().try_for_each(|job| job.apply(tables))?;
            if tables.is_changed() {
                self.residents
                    .iter()
                    .try_for_each(|r| r.before_commit(tables))?;
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
    fn stop(&self, why: String, jobs: Vec<Box<dyn Job>>, reached_commit: bool) {
        tracing::error!("{why}");
        self.stopped.send_replace(Some(why.clone()));
        let queued = std::mem::take(&mut self.queue.lock().jobs);
        let down = if reached_commit {
            Down::Unknown(why.clone())
        } else {
            Down::Unavailable(why.clone())
        };
        jobs.into_iter().for_each(|mut job| job.fail(down.clone()));
        queued
            .into_iter()
            .for_each(|mut job| job.fail(Down::Unavailable(why.clone())));
    }
}

/// Passes the lead on when dropped, also when a batch panics.
struct Leadership<'a>(&'a Store);

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "the store stopped: a fault in keybaton itself; start again".to_owned();
            self.0.stop(why, Vec::new(), true);
        }
        pass_on(&mut self.0.queue.lock());
    }
}

fn pass_on(queue: &mut Queue) {
    while let Some(next) = queue.jobs.front() {
        if next.appoint() {
            return;
        }
        queue.jobs.pop_front();
    }
    queue.is_led = false;
}

/// An operation's future answer.
pub(crate) struct Submission<A> {
    store: Arc<Store>,
    slot: Arc<Slot<A>>,
}

impl<A> Future for Submission<A> {
    type Output = Result<A, Down>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.slot.poll(context) {
                Poll::Ready(Turn::Lead) => self.store.lead(),
                Poll::Ready(Turn::Answer(answer)) => return Poll::Ready(answer),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<A> Drop for Submission<A> {
    fn drop(&mut self) {
        if self.slot.leave() {
            pass_on(&mut self.store.queue.lock());
        }
    }
}

trait Job: Send {
    fn bytes(&self) -> usize;
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;
    fn deliver(&mut self);
    fn fail(&mut self, down: Down);
    fn appoint(&self) -> bool;
    fn is_left(&self) -> bool;
}

struct Queued<W: Work> {
    work: W,
    slot: Arc<Slot<W::Answer>>,
    answer: Option<W::Answer>,
}

impl<W: Work> Job for Queued<W> {
    fn bytes(&self) -> usize {
        self.work.bytes()
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.answer = Some(self.work.apply(tables)?);
        Ok(())
    }

    fn deliver(&mut self) {
        let answer = self.answer.take();
        self.slot.answer(
            answer.ok_or_else(|| Down::Unknown("the operation was not carried out".into())),
        );
    }

    fn fail(&mut self, down: Down) {
        self.slot.answer(Err(down));
    }

    fn appoint(&self) -> bool {
        self.slot.appoint()
    }

    fn is_left(&self) -> bool {
        self.slot.is_left()
    }
}

impl<W: Work> Drop for Queued<W> {
    fn drop(&mut self) {
        self.slot
            .answer(Err(Down::Unknown("the operation was dropped".into())));
    }
}
