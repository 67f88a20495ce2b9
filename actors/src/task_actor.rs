//! One agent task: a step at a time, each result durable before the next step begins.
//!
//! A TaskActor runs one step per message and sends itself the next one, so the end of a message
//! *is* the safe boundary. There it compares the version that it holds with the one to hold, and
//! hands over: finish the step, persist, release, acquire, go on.
//!
//! **Invariant:** a step is never cut by a normal rotation.
//! **Invariant:** a result is never lost once `append` returned, and never written twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keybaton_messages::{Checkpoint, CheckpointReason, TaskEpoch, TaskKey, Version};
use keybaton_ports::{
    CheckpointRef, Claimed, Entry, Refusal, TaskError, TaskJournal, TaskState, TaskWrite,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::credential::{CredentialHandle, SessionLease};
use crate::limits::{
    RESULTS_PER_CHECKPOINT, STEP_ATTEMPTS_MAX, STEP_RETRY_MAX, STEP_RETRY_MIN, STORE_RETRY_MAX,
    STORE_RETRY_MIN,
};
use crate::program::{CredentialUse, Effects, Next, Running, StepContext, StepError};
use crate::shared::Shared;
use crate::task_table::TaskEntry;

/// What a TaskActor is told.
pub enum TaskMessage {
    /// Go on. A number that is not the one awaited belongs to a rest that was cut short.
    Turn(u64),
    /// If you rest: look whether you should hand over or stop.
    Wake,
}

impl ractor::Message for TaskMessage {}

/// Works on one task.
pub struct TaskActor;

/// What a TaskActor starts with.
pub struct TaskArguments {
    /// The node.
    pub shared: Arc<Shared>,
    /// Which task.
    pub key: TaskKey,
    /// Its entry in the node's table.
    pub entry: Arc<TaskEntry>,
}

/// A task at work.
pub struct TaskWork {
    shared: Arc<Shared>,
    key: TaskKey,
    entry: Arc<TaskEntry>,
    started: Option<Box<Started>>,
    awaited: u64,
}

/// What a claimed task has.
struct Started {
    kind: String,
    running: Box<dyn Running>,
    credential: CredentialHandle,
    session: Option<SessionLease>,
    /// Slot that the task knows; another one at a boundary means a hand-over.
    seen: Option<(Version, u64)>,
    epoch: TaskEpoch,
    rev: u64,
    n: u64,
    since_checkpoint: u64,
    attempts: u32,
    /// The step was begun and its end is not known.
    cut: bool,
    ended_at: Option<Instant>,
    handing_over: bool,
    rest_until: Option<Instant>,
}

/// Why the actor stops working on the task.
enum Stop {
    /// The task ended, is parked, or the node stops: nothing more to do here.
    Quietly,
    /// Somebody else has the task, or the journal does not make sense: start again from it.
    Broken(String),
}

impl Actor for TaskActor {
    type Msg = TaskMessage;
    type State = TaskWork;
    type Arguments = TaskArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<TaskMessage>,
        arguments: TaskArguments,
    ) -> Result<TaskWork, ActorProcessingErr> {
        let TaskArguments { shared, key, entry } = arguments;
        entry.set_actor(Some(myself.clone()));
        myself.cast(TaskMessage::Turn(0))?;
        Ok(TaskWork {
            shared,
            key,
            entry,
            started: None,
            awaited: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskMessage>,
        message: TaskMessage,
        work: &mut TaskWork,
    ) -> Result<(), ActorProcessingErr> {
        let is_due = match message {
            TaskMessage::Turn(number) => number == work.awaited,
            TaskMessage::Wake => work.is_resting(),
        };
        if !is_due {
            return Ok(());
        }
        // Boxed, so that an idle task does not carry the size of its busiest moment.
        match Box::pin(work.turn()).await {
            Ok(Some(after)) => {
                let awaited = work.await_next();
                let _timer = myself.send_after(after, move || TaskMessage::Turn(awaited));
                Ok(())
            }
            Ok(None) if work.is_resting() => Ok(()),
            Ok(None) => myself
                .cast(TaskMessage::Turn(work.await_next()))
                .map_err(Into::into),
            Err(Stop::Quietly) => {
                work.entry.set_actor(None);
                myself.stop(None);
                Ok(())
            }
            Err(Stop::Broken(why)) => Err(why.into()),
        }
    }
}

impl TaskWork {
    fn await_next(&mut self) -> u64 {
        self.awaited += 1;
        self.awaited
    }

    fn is_resting(&self) -> bool {
        self.started
            .as_ref()
            .and_then(|started| started.rest_until)
            .is_some_and(|until| until > Instant::now())
    }

    /// One boundary and, unless the task rests, one step. `Some`: come back after this long.
    async fn turn(&mut self) -> Result<Option<Duration>, Stop> {
        if self.started.is_none() {
            self.started = Some(Box::new(self.claim().await?));
        }
        let started = self.started.as_mut().expect("claimed above");
        let mut turn = Turn {
            shared: &self.shared,
            key: &self.key,
            entry: &self.entry,
            started,
        };
        turn.obey_stop().await?;
        turn.take_credential().await?;
        if turn
            .started
            .rest_until
            .is_some_and(|until| until > Instant::now())
        {
            return Ok(None);
        }
        turn.started.rest_until = None;
        turn.step().await
    }

    async fn claim(&self) -> Result<Started, Stop> {
        let claimed =
            loop_until_answered(&self.entry, || self.shared.ports.tasks.claim(&self.key)).await;
        let claimed = claimed.map_err(|error| Stop::Broken(error.to_string()))?;
        match &claimed.row.state {
            TaskState::Running | TaskState::Parked(_) => {}
            ended => {
                self.entry.end(ended.clone());
                return Err(Stop::Quietly);
            }
        }
        let kind = claimed.row.spec.kind.clone();
        if !self.shared.programs.knows(&kind) {
            let why = format!("this node does not know the kind {kind:?}; start one that does");
            self.entry.show(|view| view.state = TaskState::Parked(why));
            return Err(Stop::Quietly);
        }
        self.resume(claimed).await
    }

    /// Checkpoint plus outcomes: everything that the task knew.
    async fn resume(&self, claimed: Claimed) -> Result<Started, Stop> {
        let Claimed {
            row,
            checkpoint,
            entries,
        } = claimed;
        let broken = |why: String| Stop::Broken(format!("task {}: {why}", self.key));
        let (state, mut n) = match &checkpoint {
            None => (row.spec.input.clone(), 0),
            Some(at) => {
                let checkpoint = self.fetch(at).await?;
                (checkpoint.state, checkpoint.step)
            }
        };
        let mut running = self
            .shared
            .programs
            .start(&row.spec.kind, &state)
            .ok_or_else(|| broken("its kind is not known".into()))?
            .map_err(|error| broken(format!("its state cannot be read: {error}")))?;
        let (mut cut, mut since_checkpoint, mut next) = (false, 0, Next::Continue);
        for entry in &entries {
            match entry {
                Entry::Intent { .. } => cut = true,
                Entry::Result { n: of, outcome, .. } => {
                    if *of != n {
                        return Err(broken(format!("result of step {of} where {n} is next")));
                    }
                    next = running
                        .fold(outcome)
                        .map_err(|error| broken(error.to_string()))?;
                    (cut, n, since_checkpoint) = (false, n + 1, since_checkpoint + 1);
                }
                Entry::Checkpoint { .. } | Entry::State { .. } => {}
            }
        }
        let pair =
            keybaton_messages::PairId::new(self.key.tenant.clone(), row.spec.provider.clone());
        let call_time_max = self
            .shared
            .ports
            .providers
            .get(&pair.provider)
            .map_or(Duration::from_secs(900), |entry| entry.policy.call_time_max);
        let credential = CredentialHandle::new(
            self.shared.clone(),
            &pair,
            self.key.task.clone(),
            call_time_max,
        );
        let mut started = Started {
            kind: row.spec.kind,
            running,
            seen: None,
            credential,
            session: None,
            epoch: row.epoch,
            rev: row.rev,
            n,
            since_checkpoint,
            attempts: 0,
            cut,
            ended_at: None,
            handing_over: false,
            rest_until: None,
        };
        self.entry
            .show(|view| (view.state, view.step) = (TaskState::Running, n));
        if next == Next::Done {
            let mut turn = Turn {
                shared: &self.shared,
                key: &self.key,
                entry: &self.entry,
                started: &mut started,
            };
            return Err(turn.finish().await.err().unwrap_or(Stop::Quietly));
        }
        if matches!(row.state, TaskState::Parked(_)) {
            let mut turn = Turn {
                shared: &self.shared,
                key: &self.key,
                entry: &self.entry,
                started: &mut started,
            };
            turn.append_state(TaskState::Running).await?;
        }
        Ok(started)
    }

    async fn fetch(&self, at: &CheckpointRef) -> Result<Checkpoint, Stop> {
        let mut wait = STORE_RETRY_MIN;
        loop {
            match self.shared.ports.checkpoints.get(&self.key, at).await {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(Refusal::Denied { why, .. }) => {
                    return Err(Stop::Broken(format!(
                        "task {}: checkpoint: {why}",
                        self.key
                    )));
                }
                Err(refusal) => {
                    self.entry
                        .show(|view| view.waits_for = Some(refusal.to_string()));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(STORE_RETRY_MAX);
                }
            }
        }
    }
}

/// One boundary of a claimed task.
struct Turn<'a> {
    shared: &'a Arc<Shared>,
    key: &'a TaskKey,
    entry: &'a Arc<TaskEntry>,
    started: &'a mut Started,
}

impl Turn<'_> {
    async fn obey_stop(&mut self) -> Result<(), Stop> {
        if self.entry.is_cancelled() {
            self.started.session = None;
            self.append_state(TaskState::Cancelled).await?;
            self.entry.end(TaskState::Cancelled);
            return Err(Stop::Quietly);
        }
        if self.shared.tasks.is_stopping() {
            if self.started.since_checkpoint > 0 {
                self.checkpoint_between_steps(CheckpointReason::Shutdown)
                    .await?;
            }
            self.started.session = None;
            return Err(Stop::Quietly);
        }
        Ok(())
    }

    /// Holds what the program wants to hold, in the version to hold.
    async fn take_credential(&mut self) -> Result<(), Stop> {
        let started = &mut *self.started;
        if started.seen.is_none() {
            started.seen = started.credential.current();
        }
        if started.running.credential_use() != CredentialUse::PerSession {
            started.session = None;
            return Ok(());
        }
        if started
            .session
            .as_ref()
            .is_some_and(SessionLease::is_current)
        {
            return Ok(());
        }
        if self.started.session.is_some() {
            self.hand_over_between_steps().await?;
        }
        self.acquire_session().await
    }

    /// The version changed while the task rested: persist, release.
    async fn hand_over_between_steps(&mut self) -> Result<(), Stop> {
        let begun = Instant::now();
        if let Some(session) = &self.started.session {
            session.note_work_ended(begun);
        }
        if self.started.since_checkpoint > 0 {
            self.checkpoint_between_steps(CheckpointReason::HandOver)
                .await?;
        }
        metrics::counter!("keybaton_tasks_checkpointed_total").increment(1);
        self.started.session = None;
        self.started.handing_over = true;
        self.started.ended_at.get_or_insert(begun);
        Ok(())
    }

    async fn acquire_session(&mut self) -> Result<(), Stop> {
        loop {
            let stop = self.entry.stop().notified();
            tokio::pin!(stop);
            stop.as_mut().enable();
            if self.entry.is_cancelled() || self.shared.tasks.is_stopping() {
                return self.obey_stop().await;
            }
            let credential = self.started.credential.clone();
            let acquired = tokio::select! {
                acquired = credential.session() => acquired,
                () = stop => continue,
            };
            match acquired {
                Ok(session) => {
                    self.started.seen = self.started.credential.current();
                    self.started.session = Some(session);
                    return Ok(());
                }
                Err(error) => {
                    self.entry
                        .show(|view| view.waits_for = Some(error.to_string()));
                    tokio::time::sleep(STORE_RETRY_MIN).await;
                }
            }
        }
    }

    fn note_pause(&mut self) {
        if let Some(ended_at) = self.started.ended_at.take() {
            let pause = ended_at.elapsed();
            if std::mem::take(&mut self.started.handing_over) {
                self.shared.stats.note_hand_over(pause);
            } else {
                self.shared.stats.note_ordinary(pause);
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Duration>, Stop> {
        let effects = self.started.running.effects();
        let idem = self.idem();
        let is_repeat = self.started.cut;
        if is_repeat && effects == Effects::Neither {
            let why = format!("step {} was cut and may have had effects", self.started.n);
            return self.park(why).await;
        }
        if effects != Effects::Repeatable && !is_repeat {
            let version = self.held_version().unwrap_or(Version(0));
            let (n, at) = (self.started.n, self.shared.ports.clock.now());
            self.append(Entry::Intent {
                n,
                idem,
                version,
                at,
            })
            .await?;
        }
        self.started.cut = effects != Effects::Repeatable;
        self.note_pause();
        self.entry.show(|view| view.waits_for = None);
        let took = self.run(idem, is_repeat, effects).await;
        match took {
            Ok((next, outcome)) => self.persist(next, outcome, idem).await,
            Err(StepError::Again(why)) => self.try_again(why).await,
            Err(StepError::Fail(why)) => self.fail(why).await,
            Err(StepError::Park(why)) => self.park(why).await,
        }
    }

    async fn run(
        &mut self,
        idem: [u8; 16],
        is_repeat: bool,
        effects: Effects,
    ) -> Result<(Next, Vec<u8>), StepError> {
        let Started {
            running,
            credential,
            session,
            n,
            ..
        } = &mut *self.started;
        let context = StepContext {
            task: self.key,
            n: *n,
            idem,
            is_repeat,
            credential,
            session: session.as_ref(),
            http: &self.shared.http,
        };
        if is_repeat
            && effects == Effects::Queryable
            && let Some(found) = running.look(&context).await?
        {
            return Ok(found);
        }
        running.step(&context).await
    }

    /// Makes a result durable; when the version changed meanwhile, the checkpoint rides in the
    /// same write and the task hands over.
    async fn persist(
        &mut self,
        next: Next,
        outcome: Vec<u8>,
        idem: [u8; 16],
    ) -> Result<Option<Duration>, Stop> {
        let ended = Instant::now();
        let (n, at) = (self.started.n, self.shared.ports.clock.now());
        let version = self.held_version();
        let hand_over = self.is_hand_over_due();
        self.started.n += 1;
        let reason = if hand_over {
            CheckpointReason::HandOver
        } else {
            CheckpointReason::Compaction
        };
        let is_wanted = hand_over || self.started.since_checkpoint >= RESULTS_PER_CHECKPOINT;
        let checkpoint = if is_wanted {
            self.put_checkpoint(reason).await?
        } else {
            None
        };
        let since_checkpoint = if checkpoint.is_some() {
            0
        } else {
            self.started.since_checkpoint + 1
        };
        self.append(Entry::Result {
            n,
            idem,
            version,
            outcome,
            checkpoint,
            at,
        })
        .await?;
        self.started.since_checkpoint = since_checkpoint;
        (self.started.cut, self.started.attempts) = (false, 0);
        self.entry
            .show(|view| (view.step, view.version) = (n + 1, version));
        self.started.ended_at = Some(ended);
        if hand_over {
            self.release(ended);
        }
        match next {
            Next::Continue => Ok(None),
            Next::Rest(rest) => {
                self.started.rest_until = Some(ended + rest);
                // The rest is the program's own wish; the pause ends when the task could go on.
                self.take_credential().await?;
                self.note_pause();
                Ok(Some(rest))
            }
            Next::Done => self.finish().await.and(Err(Stop::Quietly)),
        }
    }

    fn release(&mut self, ended: Instant) {
        if let Some(session) = self.started.session.take() {
            session.note_work_ended(ended);
        }
        self.started.seen = self.started.credential.current();
        self.started.handing_over = true;
        metrics::counter!("keybaton_tasks_checkpointed_total").increment(1);
    }

    /// One atomic read: is the slot that the task knows still the one to know?
    fn is_hand_over_due(&self) -> bool {
        match &self.started.session {
            Some(session) => !session.is_current(),
            None => {
                let current = self.started.credential.current();
                self.started.seen.is_some() && current.is_some() && current != self.started.seen
            }
        }
    }

    fn held_version(&self) -> Option<Version> {
        match &self.started.session {
            Some(session) => Some(session.version()),
            None => self.started.credential.last_used(),
        }
    }

    fn idem(&self) -> [u8; 16] {
        let digest = self.shared.ports.fingerprints.digest(
            b"idem",
            &[
                self.key.tenant.as_str().as_bytes(),
                self.key.task.as_str().as_bytes(),
                &self.started.n.to_be_bytes(),
            ],
        );
        let mut idem = [0; 16];
        idem.copy_from_slice(&digest[..16]);
        idem
    }

    async fn checkpoint_between_steps(&mut self, reason: CheckpointReason) -> Result<(), Stop> {
        if let Some(checkpoint) = self.put_checkpoint(reason).await? {
            let (n, at) = (self.started.n, self.shared.ports.clock.now());
            self.append(Entry::Checkpoint { n, checkpoint, at }).await?;
            self.started.since_checkpoint = 0;
        }
        Ok(())
    }

    /// `None` when the store is away and policy says to go on without: the journal has every
    /// result.
    async fn put_checkpoint(
        &mut self,
        reason: CheckpointReason,
    ) -> Result<Option<CheckpointRef>, Stop> {
        let state = self
            .started
            .running
            .save()
            .map_err(|error| Stop::Broken(format!("task {}: {error}", self.key)))?;
        let checkpoint = Checkpoint {
            task: self.key.clone(),
            kind: self.started.kind.clone(),
            step: self.started.n,
            state,
            version: self.held_version(),
            reason,
            at: self.shared.ports.clock.now(),
        };
        let provider = &self.started.credential.pair().provider;
        let may_skip = self
            .shared
            .ports
            .providers
            .get(provider)
            .is_none_or(|entry| entry.policy.swap_without_checkpoint);
        let mut wait = STORE_RETRY_MIN;
        loop {
            match self.shared.ports.checkpoints.put(&checkpoint).await {
                Ok(at) => return Ok(Some(at)),
                Err(refusal) if may_skip || reason != CheckpointReason::HandOver => {
                    tracing::warn!(task = %self.key, %refusal, "going on without a checkpoint");
                    return Ok(None);
                }
                Err(refusal) => {
                    self.entry
                        .show(|view| view.waits_for = Some(refusal.to_string()));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(STORE_RETRY_MAX);
                }
            }
        }
    }

    async fn try_again(&mut self, why: String) -> Result<Option<Duration>, Stop> {
        self.started.attempts += 1;
        if self.started.attempts >= STEP_ATTEMPTS_MAX {
            return self.fail(format!("step {}: {why}", self.started.n)).await;
        }
        tracing::debug!(task = %self.key, step = self.started.n, why, "the step is tried again");
        if self
            .started
            .session
            .as_ref()
            .is_some_and(|session| !session.is_current())
        {
            self.hand_over_between_steps().await?;
        }
        let wait = STEP_RETRY_MIN.saturating_mul(1 << (self.started.attempts - 1).min(16));
        let wait = wait.min(STEP_RETRY_MAX);
        self.entry
            .show(|view| view.waits_for = Some(format!("another try of its step: {why}")));
        self.started.rest_until = Some(Instant::now() + wait);
        Ok(Some(wait))
    }

    async fn finish(&mut self) -> Result<(), Stop> {
        let output = self
            .started
            .running
            .save()
            .map_err(|error| Stop::Broken(format!("task {}: {error}", self.key)))?;
        self.started.session = None;
        self.append_state(TaskState::Done(output.clone())).await?;
        self.entry.end(TaskState::Done(output));
        Ok(())
    }

    async fn fail(&mut self, why: String) -> Result<Option<Duration>, Stop> {
        tracing::warn!(task = %self.key, why, "task failed");
        self.started.session = None;
        self.append_state(TaskState::Failed(why.clone())).await?;
        self.entry.end(TaskState::Failed(why));
        Err(Stop::Quietly)
    }

    async fn park(&mut self, why: String) -> Result<Option<Duration>, Stop> {
        tracing::warn!(task = %self.key, why, "task parked; a person must look");
        self.started.session = None;
        self.append_state(TaskState::Parked(why.clone())).await?;
        self.entry.show(|view| view.state = TaskState::Parked(why));
        Err(Stop::Quietly)
    }

    async fn append_state(&mut self, state: TaskState) -> Result<(), Stop> {
        let at = self.shared.ports.clock.now();
        self.append(Entry::State { state, at }).await
    }

    async fn append(&mut self, entry: Entry) -> Result<(), Stop> {
        let write = TaskWrite {
            key: self.key.clone(),
            epoch: self.started.epoch,
            expect: self.started.rev,
            entry,
        };
        let tasks: &dyn TaskJournal = self.shared.ports.tasks.as_ref();
        loop_until_answered(self.entry, || tasks.append(write.clone()))
            .await
            .map_err(|error| Stop::Broken(format!("task {}: {error}", self.key)))?;
        self.started.rev += 1;
        Ok(())
    }
}

/// Asks the task journal again while it is away or cannot tell; a repeated write is recognised.
async fn loop_until_answered<T, F>(entry: &TaskEntry, ask: impl Fn() -> F) -> Result<T, TaskError>
where
    F: Future<Output = Result<T, TaskError>>,
{
    let mut wait = STORE_RETRY_MIN;
    loop {
        match ask().await {
            Err(TaskError::Unknown(why) | TaskError::Unavailable(why)) => {
                entry.show(|view| view.waits_for = Some(format!("the task journal: {why}")));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(STORE_RETRY_MAX);
            }
            answer => return answer,
        }
    }
}
