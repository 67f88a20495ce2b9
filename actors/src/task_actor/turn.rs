//! One boundary of a task and the step behind it.
//!
//! **Invariant:** the version that is held is compared with the one to hold at every boundary, and
//! nowhere else.

use std::sync::Arc;

use keybaton_messages::{CheckpointReason, TaskKey, Version};
use keybaton_ports::{Entry, TaskState, crash_point};
use tokio::time::Instant;

use super::{Started, Stop};
use crate::credential::{AcquireError, SessionLease};
use crate::limits::STORE_RETRY_MIN;
use crate::program::{CredentialUse, Effects, Next, StepContext, StepError};
use crate::shared::Shared;
use crate::task_table::TaskEntry;

/// One boundary of a claimed task.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) key: &'a TaskKey,
    pub(super) entry: &'a Arc<TaskEntry>,
    pub(super) started: &'a mut Started,
}

/// What is rare is boxed where it is called: a task's future is allocated at every boundary, and
/// is as large as its largest branch.
impl Turn<'_> {
    pub(super) async fn obey_stop(&mut self) -> Result<(), Stop> {
        if self.entry.is_cancelled() || self.shared.tasks.is_stopping() {
            Box::pin(self.stop()).await
        } else {
            Ok(())
        }
    }

    async fn stop(&mut self) -> Result<(), Stop> {
        if self.entry.is_cancelled() {
            self.started.session = None;
            self.append_state(TaskState::Cancelled).await?;
            self.entry.end(TaskState::Cancelled);
            return Err(Stop::Quietly);
        }
        if self.started.since_checkpoint > 0 {
            self.checkpoint_between_steps(CheckpointReason::Shutdown).await?;
        }
        self.started.session = None;
        Err(Stop::Quietly)
    }

    /// Holds what the program wants to hold, in the version to hold.
    pub(super) async fn take_credential(&mut self) -> Result<(), Stop> {
        let started = &mut *self.started;
        if started.seen.is_none() {
            started.seen = started.credential.current();
        }
        if started.running.credential_use() != CredentialUse::PerSession {
            started.session = None;
            return Ok(());
        }
        if started.session.as_ref().is_some_and(SessionLease::is_current) {
            return Ok(());
        }
        if self.started.session.is_some() {
            Box::pin(self.hand_over_between_steps()).await?;
        }
        Box::pin(self.acquire_session()).await
    }

    /// The version changed while the task rested: persist, release.
    pub(super) async fn hand_over_between_steps(&mut self) -> Result<(), Stop> {
        let begun = Instant::now();
        if let Some(session) = &self.started.session {
            session.note_work_ended(begun);
        }
        if self.started.since_checkpoint > 0 {
            self.checkpoint_between_steps(CheckpointReason::HandOver).await?;
        }
        metrics::counter!("keybaton_tasks_checkpointed_total").increment(1);
        self.started.session = None;
        crash_point::reach("hand-over.released", &self.key.tenant);
        self.started.handing_over = true;
        self.started.ended_at.get_or_insert(begun);
        Ok(())
    }

    pub(super) async fn acquire_session(&mut self) -> Result<(), Stop> {
        loop {
            let rung = self.entry.bell().notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.entry.is_cancelled() || self.shared.tasks.is_stopping() {
                return self.obey_stop().await;
            }
            let credential = self.started.credential.clone();
            let acquired = tokio::select! {
                acquired = credential.session() => acquired,
                () = &mut rung => continue,
            };
            match acquired {
                Ok(session) => {
                    crash_point::reach("session.acquired", &self.key.tenant);
                    self.started.seen = self.started.credential.current();
                    self.started.session = Some(session);
                    return Ok(());
                }
                Err(error) => {
                    self.entry.show_waits_for(&error);
                    let wait = match error {
                        AcquireError::Busy { after, .. } => after,
                        AcquireError::Paused { .. } | AcquireError::Fenced => STORE_RETRY_MIN,
                    };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = &mut rung => {}
                    }
                }
            }
        }
    }

    pub(super) fn note_pause(&mut self) {
        if let Some(ended_at) = self.started.ended_at.take() {
            let pause = ended_at.elapsed();
            if std::mem::take(&mut self.started.handing_over) {
                self.shared.stats.note_hand_over(pause);
            } else {
                self.shared.stats.note_ordinary(pause);
            }
        }
    }

    pub(super) async fn step(&mut self) -> Result<(), Stop> {
        let allowed = self.started.running.restart_policy().attempts;
        if self.entry.tries() >= allowed {
            let why = format!("step {} crashed {allowed} times", self.started.n);
            return Box::pin(self.fail(why)).await;
        }
        let effects = self.started.running.effects();
        let idem = self.idem();
        let is_repeat = self.started.cut;
        if is_repeat && effects == Effects::Neither {
            let why = format!("step {} was cut and may have had effects", self.started.n);
            return Box::pin(self.park(why)).await;
        }
        if effects != Effects::Repeatable && !is_repeat {
            let version = self.held_version().unwrap_or(Version(0));
            let (n, at) = (self.started.n, self.shared.ports.clock.now());
            crash_point::reach("step.intending", &self.key.tenant);
            Box::pin(self.append(Entry::Intent { n, idem, version, at })).await?;
            crash_point::reach("step.intended", &self.key.tenant);
        }
        self.started.cut = effects != Effects::Repeatable;
        self.note_pause();
        self.entry.show(|view| view.waits_for = None);
        self.entry.note_try();
        if crash_point::doubles("step", &self.key.tenant) {
            drop(self.run(idem, is_repeat, effects).await);
        }
        let took = self.run(idem, is_repeat, effects).await;
        crash_point::reach("step.called", &self.key.tenant);
        match took {
            Ok((next, outcome)) => self.persist(next, outcome, idem).await,
            Err(StepError::Again(why)) => Box::pin(self.try_again(why)).await,
            Err(StepError::Fail(why)) => Box::pin(self.fail(why)).await,
            Err(StepError::Park(why)) => Box::pin(self.park(why)).await,
        }
    }

    pub(super) async fn run(
        &mut self,
        idem: [u8; 16],
        is_repeat: bool,
        effects: Effects,
    ) -> Result<(Next, Vec<u8>), StepError> {
        let Started { running, credential, session, n, .. } = &mut *self.started;
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

    /// One atomic read: is the slot that the task knows still the one to know?
    pub(super) fn is_hand_over_due(&self) -> bool {
        match &self.started.session {
            Some(session) => !session.is_current(),
            None => {
                let current = self.started.credential.current();
                self.started.seen.is_some() && current.is_some() && current != self.started.seen
            }
        }
    }

    pub(super) fn held_version(&self) -> Option<Version> {
        match &self.started.session {
            Some(session) => Some(session.version()),
            None => self.started.credential.last_used(),
        }
    }

    pub(super) fn idem(&self) -> [u8; 16] {
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

    pub(super) async fn try_again(&mut self, why: String) -> Result<(), Stop> {
        let policy = self.started.running.restart_policy();
        let tries = self.entry.tries();
        if tries >= policy.attempts {
            return self.fail(format!("step {}: {why}", self.started.n)).await;
        }
        tracing::debug!(task = %self.key, step = self.started.n, why, "the step is tried again");
        if self.started.session.as_ref().is_some_and(|session| !session.is_current()) {
            self.hand_over_between_steps().await?;
        }
        let wait = policy.pause(tries);
        self.entry.show_waits_for(format_args!("another try of its step: {why}"));
        self.started.rest_until = Some(Instant::now() + wait);
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<(), Stop> {
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

    pub(super) async fn fail(&mut self, why: String) -> Result<(), Stop> {
        tracing::warn!(task = %self.key, why, "task failed");
        self.started.session = None;
        self.append_state(TaskState::Failed(why.clone())).await?;
        self.entry.end(TaskState::Failed(why));
        Err(Stop::Quietly)
    }

    pub(super) async fn park(&mut self, why: String) -> Result<(), Stop> {
        tracing::warn!(task = %self.key, why, "task parked; a person must look");
        self.started.session = None;
        self.append_state(TaskState::Parked(why.clone())).await?;
        self.entry.show(|view| view.state = TaskState::Parked(why));
        Err(Stop::Quietly)
    }
}
