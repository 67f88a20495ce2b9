//! The connections to one Redis: one that writes for everybody, one that reads for everybody.
//!
//! Whoever waits is sent together with everybody else who waits, in as few runs of the script as may
//! be, and confirmed together: Redis syncs its file once for each run, and not for each of them.
//!
//! **Invariant:** a change is answered as written only once the server has it on disk, and so many
//! replicas as were asked for too; otherwise its outcome is unknown.
//! **Invariant:** a server that lost the store, or knows of fewer writes than this process has seen,
//! is not believed.
//! **Invariant:** a change that was made up from memory is sent only if nothing is known to have failed
//! since, and on no other connection than what it was made up from: a new one may lead to another
//! server. While one pipeline is on its way the next one is sent on the same connection; one that
//! breaks is counted before there is another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keybaton_ports::Refusal;
use redis::{
    Client, Cmd, FromRedisValue, Pipeline, RedisError, ServerError, Value, from_redis_value, pipe,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::change::{Change, Named, command, runs};
use super::names;
use crate::buses::redis::link::{Connected, Link, refused};
use crate::journals::redb::Unread;
use crate::journals::redb::pairs::Corrupt;
use crate::limits::{REDIS_BATCH_MAX, REDIS_PIPELINES_MAX, WRITE_QUEUE_MAX};
use crate::store::Down;

/// On how many disks a write must be before it counts, this server's own included.
#[derive(Clone, Copy)]
pub(super) struct Confirm {
    pub(super) own: u8,
    pub(super) replicas: u8,
}

/// How a change ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is written.
    Done,
    /// Nothing was written: something is not as it was read.
    Changed,
}

type Answer = Result<Step, Unread>;

// What the script says; its own file says what they mean.
const DONE: i64 = 0;
const CHANGED: i64 = 1;
const OTHER_STORE: i64 = -1;
const WENT_BACK: i64 = -2;
const FOREIGN: i64 = -3;

const UNREADABLE: &str = "redis answers in a form that is not known";

/// One store on one server.
pub(super) struct Server {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

struct Shared {
    reader: Link,
    writer: Link,
    /// The script's hash.
    script: String,
    store_id: String,
    /// Writes that the server has told of.
    seen: AtomicU64,
    /// Writes that failed, or whose outcome nobody knows.
    doubts: AtomicU64,
    confirm: Option<Confirm>,
    wait: Duration,
}

struct Job {
    change: Change,
    /// How many doubts there may be for it to be sent.
    doubts: Option<u64>,
    answer: oneshot::Sender<Answer>,
}

enum End {
    Answer(Answer),
    /// The server knows no script of this hash: nothing was written.
    NoScript,
}

impl Server {
    /// Takes a client and the hash of the script; the writer ends with the server.
    pub(super) fn start(
        client: Client,
        script: String,
        store_id: String,
        confirm: Option<Confirm>,
        wait: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            reader: Link::new(client.clone()),
            writer: Link::new(client),
            script,
            store_id,
            seen: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            confirm,
            wait,
        });
        let (jobs, mut queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let writer = Arc::clone(&shared);
        // How many pipelines may be sent whose changes are not answered yet. One, where changes are
        // confirmed: the server looks for what it can confirm after it has carried out, and synced,
        // whatever lies there to be read. It would confirm each pipeline only with the next.
        let turns = if confirm.is_some() { 1 } else { REDIS_PIPELINES_MAX };
        let turns = Arc::new(Semaphore::new(turns));
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while let Ok(turn) = Arc::clone(&turns).acquire_owned().await
                && queue.recv_many(&mut batch, REDIS_BATCH_MAX).await > 0
            {
                let (writer, jobs) = (Arc::clone(&writer), std::mem::take(&mut batch));
                tokio::spawn(async move { writer.carry_out(jobs, turn).await });
            }
        });
        Self { shared, jobs }
    }

    /// Answers that all belong to one moment.
    pub(super) async fn read(&self, questions: Vec<Cmd>) -> Result<Answers, Unread> {
        let shared = &self.shared;
        // What was seen before the question was asked must be in the answer.
        let seen = shared.seen.load(Ordering::Acquire);
        let mut all = pipe();
        all.atomic().cmd("HMGET").arg(names::STORE).arg("id").arg("writes");
        for question in questions {
            all.add_command(question);
        }
        let answers = shared.reader.ask_all(&all, shared.wait).await;
        let answers = answers.map_err(|why| Unread::Down(Down::Unavailable(why.to_string())))?;
        let mut answers = Answers(answers.into_iter());
        let (id, writes): (Option<String>, Option<u64>) = answers.next()?;
        if id.as_deref() != Some(&shared.store_id) {
            return Err(lost());
        }
        shared.note(seen, writes.unwrap_or_default())?;
        Ok(answers)
    }

    /// Writes; the change is carried out also when nobody waits for it any more.
    pub(super) async fn write(&self, change: Change) -> Answer {
        self.submit(change, None).await
    }

    /// Writes what was made up from memory, unless there are more doubts than there were then.
    pub(super) async fn write_remembered(&self, change: Change, doubts: u64) -> Answer {
        self.submit(change, Some(doubts)).await
    }

    /// One more after every write that failed, or whose outcome nobody knows.
    pub(super) fn doubts(&self) -> u64 {
        self.shared.doubts()
    }

    async fn submit(&self, change: Change, doubts: Option<u64>) -> Answer {
        let (answer, done) = oneshot::channel();
        if self.jobs.try_send(Job { change, doubts, answer }).is_err() {
            let why = "too many operations wait for redis";
            return Err(Unread::Down(Down::Unavailable(why.into())));
        }
        done.await.unwrap_or_else(|_| Err(unknown("the writer to redis ended")))
    }
}

impl Shared {
    fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire) + self.writer.breaks()
    }

    /// Carries them out; the turn ends when the next pipeline may be sent.
    async fn carry_out(&self, jobs: Vec<Job>, turn: OwnedSemaphorePermit) {
        let connected = match self.writer.connected().await {
            Ok(connected) => connected,
            Err(refusal) => return jobs.into_iter().for_each(|job| self.refuse(job, &refusal)),
        };
        // Behind the connection: whatever broke the one before is counted by now.
        let doubts = self.doubts();
        let is_sure = |job: &Job| job.doubts.is_none_or(|then| then == doubts);
        let (jobs, unsure): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_sure);
        for job in unsure {
            let _ = job.answer.send(Ok(Step::Changed));
        }
        if jobs.is_empty() {
            return;
        }
        let changes: Vec<_> = jobs.iter().map(|job| &job.change).collect();
        let mut ends = self.send(Some(turn), &connected, &changes, Named::Hash(&self.script)).await;
        let unread: Vec<_> =
            (0..ends.len()).filter(|at| matches!(ends[*at], End::NoScript)).collect();
        if !unread.is_empty() {
            let changes: Vec<_> = unread.iter().map(|at| changes[*at]).collect();
            // Without a turn: what made the server forget is rare.
            let again = self.send(None, &connected, &changes, Named::Text).await;
            for (at, end) in unread.into_iter().zip(again) {
                ends[at] = end;
            }
        }
        for (job, end) in jobs.into_iter().zip(ends) {
            let why = "redis forgot the script";
            let answer = match end {
                End::Answer(answer) => answer,
                End::NoScript => Err(Unread::Down(Down::Unavailable(why.into()))),
            };
            if answer.is_err() {
                self.doubts.fetch_add(1, Ordering::AcqRel);
            }
            // A caller that went away needs no answer.
            let _ = job.answer.send(answer);
        }
    }

    /// There is no connection: nothing was sent.
    fn refuse(&self, job: Job, refusal: &Refusal) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
        let _ = job.answer.send(Err(down(refusal)));
    }

    /// Sends all changes, in as few runs as may be, and behind them a question for their confirmation.
    async fn send(
        &self,
        mut turn: Option<OwnedSemaphorePermit>,
        connected: &Connected,
        changes: &[&Change],
        named: Named<'_>,
    ) -> Vec<End> {
        let seen = self.seen.load(Ordering::Acquire);
        let runs: Vec<_> = runs(changes).collect();
        let mut all = Pipeline::with_capacity(runs.len());
        all.ignore_errors();
        for run in &runs {
            all.add_command(command(run, named, &self.store_id, seen));
        }
        // A replica takes its time, in which the server reads nothing from this connection: the next
        // pipeline would wait for it in its own time.
        let is_quick = self.confirm.is_none_or(|confirm| confirm.replicas == 0);
        let written = async {
            let answers = self.writer.ask_all_on(connected.clone(), &all, self.wait).await;
            turn.take_if(|_| is_quick);
            answers
        };
        // This macro polls in this order, and so they are sent; tokio's begins with any.
        let (answers, confirmed) = futures::join!(written, self.confirmed(connected));
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(refusal) => {
                return changes.iter().map(|_| End::Answer(Err(down(&refusal)))).collect();
            }
        };
        let ends =
            runs.iter().flat_map(|run| self.ends(run.len(), answers.next().unwrap_or(Value::Nil)));
        let Err(why) = confirmed else {
            return ends.collect();
        };
        let doubt = |end| match end {
            End::Answer(Ok(Step::Done)) => End::Answer(Err(unknown(&why))),
            end => end,
        };
        ends.map(doubt).collect()
    }

    /// How so many changes ended that one run of the script has carried out.
    fn ends(&self, changes: usize, answer: Value) -> Vec<End> {
        let answer = match answer {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                return (0..changes).map(|_| End::NoScript).collect();
            }
            Value::ServerError(error) => Err(failed(error)),
            answer => self.codes(answer),
        };
        let answers = match answer {
            Ok(codes) if codes.len() == changes => codes.into_iter().map(step).collect(),
            Ok(_) => vec![Err(unknown(UNREADABLE)); changes],
            Err(why) => vec![Err(why); changes],
        };
        answers.into_iter().map(End::Answer).collect()
    }

    /// What the script says of each change.
    fn codes(&self, answer: Value) -> Result<Vec<i64>, Unread> {
        let (writes, codes): (u64, Vec<i64>) =
            from_redis_value(answer).map_err(|_| unknown(UNREADABLE))?;
        match codes[..] {
            [OTHER_STORE] => Err(lost()),
            [WENT_BACK] => Err(went_back()),
            _ => self.note(0, writes).map(|()| codes),
        }
    }

    /// Whether everything that was sent on this connection before is on as many disks as it must be.
    /// On another one, that has written nothing, the server would say so at once.
    async fn confirmed(&self, connected: &Connected) -> Result<(), String> {
        let Some(Confirm { own, replicas }) = self.confirm else {
            return Ok(());
        };
        let wait = u64::try_from((self.wait * 4 / 5).as_millis()).unwrap_or(u64::MAX);
        let mut question = pipe();
        question.ignore_errors();
        question.cmd("WAITAOF").arg(own).arg(replicas).arg(wait.max(1));
        let answers = self.writer.ask_all_on(connected.clone(), &question, self.wait).await;
        let answer = answers.map_err(|refusal| refusal.to_string())?.pop().unwrap_or(Value::Nil);
        if let Value::ServerError(error) = answer {
            return Err(format!("redis confirms nothing: it says {}", error.code()));
        }
        match from_redis_value::<(u64, u64)>(answer) {
            Ok((on_own, on_replicas))
                if on_own >= u64::from(own) && on_replicas >= u64::from(replicas) =>
            {
                Ok(())
            }
            Ok((on_own, on_replicas)) => Err(format!(
                "redis has it on {on_own} of {own} disks of its own and on {on_replicas} of \
                 {replicas} replicas"
            )),
            Err(_) => Err("redis confirms in a form that is not known".to_owned()),
        }
    }

    fn note(&self, seen: u64, writes: u64) -> Result<(), Unread> {
        if writes < seen {
            return Err(went_back());
        }
        self.seen.fetch_max(writes, Ordering::AcqRel);
        Ok(())
    }
}

/// Answers, in the order of their questions.
pub(super) struct Answers(std::vec::IntoIter<Value>);

impl Answers {
    pub(super) fn next<T: FromRedisValue>(&mut self) -> Result<T, Unread> {
        let answer = self.0.next().unwrap_or(Value::Nil);
        from_redis_value(answer).map_err(|_| corrupt(UNREADABLE))
    }
}

fn down(refusal: &Refusal) -> Unread {
    Unread::Down(match refusal {
        Refusal::Unknown { why } => Down::Unknown(why.clone()),
        // Said while connecting: nothing was sent.
        Refusal::Busy { .. } | Refusal::Denied { .. } => Down::Unavailable(refusal.to_string()),
    })
}

fn unknown(why: &str) -> Unread {
    Unread::Down(Down::Unknown(why.to_owned()))
}

pub(super) fn corrupt(why: &str) -> Unread {
    Unread::Corrupt(Corrupt(why.to_owned()))
}

fn step(code: i64) -> Answer {
    match code {
        DONE => Ok(Step::Done),
        CHANGED => Ok(Step::Changed),
        FOREIGN => Err(foreign()),
        _ => Err(unknown(UNREADABLE)),
    }
}

/// What it means for each change that the script failed: unknown, unless a server says this before it
/// lets a script begin.
fn failed(error: ServerError) -> Unread {
    match refused(&RedisError::from(error)) {
        Refusal::Busy { why, .. } => Unread::Down(Down::Unavailable(why)),
        other => unknown(&other.to_string()),
    }
}

fn foreign() -> Unread {
    corrupt("somebody else's values lie under keybaton's names")
}

fn lost() -> Unread {
    corrupt("redis does not have this store any more; restore it, then start again")
}

fn went_back() -> Unread {
    corrupt(
        "redis lost writes that it had acknowledged (a failover, or an old backup); find out what \
         is missing, then start again",
    )
}
