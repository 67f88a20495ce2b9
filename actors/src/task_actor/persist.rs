//! Makes what a task did durable: results, checkpoints, states.
//!
//! **Invariant:** a checkpoint is deleted only behind the write that makes it needless.
//! **Invariant:** a checkpoint that belongs to a hand-over rides in the write of the result before
//! it, so that a hand-over costs no write of its own.

use backon::Retryable;
use keybaton_messages::{Checkpoint, CheckpointReason};
use keybaton_ports::{
    CheckpointRef, Entry, TaskError, TaskJournal, TaskState, TaskWrite, crash_point,
};
use tokio::time::Instant;

use super::Stop;
use super::turn::Turn;
use crate::checkpoint_sweeper::is_end;
use crate::limits::{REST_MAX, RESULTS_PER_CHECKPOINT, STORE_RETRY};
use crate::program::Next;
use crate::task_table::TaskEntry;

impl Turn<'_> {
    /// Makes a result durable; when the version changed meanwhile, the checkpoint rides in the
    /// same write and the task hands over.
    pub(super) async fn persist(
        &mut self,
        next: Next,
        outcome: Vec<u8>,
        idem: [u8; 16],
    ) -> Result<(), Stop> {
        let ended = Instant::now();
        let (n, at) = (self.started.n, self.shared.ports.clock.now());
        let version = self.held_version();
        let hand_over = self.is_hand_over_due();
        self.started.n += 1;
        let reason =
            if hand_over { CheckpointReason::HandOver } else { CheckpointReason::Compaction };
        // The last result says that the program is done, and a checkpoint would hide it from a resume.
        let is_wanted = next != Next::Done
            && (hand_over || self.started.since_checkpoint >= RESULTS_PER_CHECKPOINT);
        let checkpoint =
            if is_wanted { Box::pin(self.put_checkpoint(reason)).await? } else { None };
        if checkpoint.is_some() {
            crash_point::reach("checkpoint.put", &self.key.tenant);
        }
        let since_checkpoint =
            if checkpoint.is_some() { 0 } else { self.started.since_checkpoint + 1 };
        let named = checkpoint.as_ref().and_then(lying_apart);
        self.append(Entry::Result { n, idem, version, outcome, checkpoint, at }).await?;
        self.supersede(named);
        crash_point::reach("step.persisted", &self.key.tenant);
        if since_checkpoint == 0 {
            crash_point::reach("checkpoint.pointed", &self.key.tenant);
        }
        self.started.since_checkpoint = since_checkpoint;
        self.started.cut = false;
        self.entry.forget_tries();
        self.entry.show(|view| (view.step, view.version) = (n + 1, version));
        self.started.ended_at = Some(ended);
        if hand_over {
            self.release(ended);
        }
        match next {
            Next::Continue => Ok(()),
            Next::Rest(rest) => {
                self.started.rest_until = Some(ended + rest.min(REST_MAX));
                // The rest is the program's own wish; the pause ends when the task could go on.
                self.take_credential().await?;
                self.note_pause();
                Ok(())
            }
            Next::Done => Box::pin(self.finish()).await.and(Err(Stop::Quietly)),
        }
    }

    pub(super) fn release(&mut self, ended: Instant) {
        if let Some(session) = self.started.session.take() {
            session.note_work_ended(ended);
        }
        crash_point::reach("hand-over.released", &self.key.tenant);
        self.started.seen = self.started.credential.current();
        self.started.handing_over = true;
        metrics::counter!("keybaton_tasks_checkpointed_total").increment(1);
    }

    pub(super) async fn checkpoint_between_steps(
        &mut self,
        reason: CheckpointReason,
    ) -> Result<(), Stop> {
        if let Some(checkpoint) = self.put_checkpoint(reason).await? {
            crash_point::reach("checkpoint.put", &self.key.tenant);
            let (n, at) = (self.started.n, self.shared.ports.clock.now());
            let named = lying_apart(&checkpoint);
            self.append(Entry::Checkpoint { n, checkpoint, at }).await?;
            self.supersede(named);
            crash_point::reach("checkpoint.pointed", &self.key.tenant);
            self.started.since_checkpoint = 0;
        }
        Ok(())
    }

    /// `None` when the store is away and policy says to go on without: the journal has every
    /// result.
    pub(super) async fn put_checkpoint(
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
            kind: self.started.running.kind().to_owned(),
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
        let put = || self.shared.ports.checkpoints.put(&checkpoint);
        let answer = put
            .retry(STORE_RETRY)
            .when(|_| !may_skip && reason == CheckpointReason::HandOver)
            .notify(|refusal, _| self.entry.show_waits_for(refusal));
        match answer.await {
            Ok(at) => Ok(Some(at)),
            Err(refusal) => {
                tracing::warn!(task = %self.key, %refusal, "going on without a checkpoint");
                Ok(None)
            }
        }
    }

    pub(super) async fn append_state(&mut self, state: TaskState) -> Result<(), Stop> {
        let at = self.shared.ports.clock.now();
        let is_end = is_end(&state);
        self.append(Entry::State { state, at }).await?;
        if is_end && let Some(last) = self.started.checkpoint.take() {
            self.shared.note_needless(self.key, *last);
        }
        Ok(())
    }

    /// A row names this checkpoint: a claim hands out no older one any more.
    fn supersede(&mut self, named: Option<CheckpointRef>) {
        if let Some(named) = named
            && let Some(before) = self.started.checkpoint.replace(Box::new(named.clone()))
            && *before != named
        {
            self.shared.note_needless(self.key, *before);
        }
    }

    pub(super) async fn append(&mut self, entry: Entry) -> Result<(), Stop> {
        let write = TaskWrite {
            key: self.key.clone(),
            epoch: self.started.epoch,
            expect: self.started.rev,
            entry,
        };
        let tasks: &dyn TaskJournal = self.shared.ports.tasks.as_ref();
        if crash_point::doubles("step.append", &self.key.tenant) {
            drop(tasks.append(&write).await);
        }
        loop_until_answered(self.entry, || tasks.append(&write))
            .await
            .map_err(|error| Stop::Broken(format!("task {}: {error}", self.key)))?;
        self.started.rev += 1;
        Ok(())
    }
}

/// The reference, if what it names does not go with the row that it stands in.
pub(super) fn lying_apart(at: &CheckpointRef) -> Option<CheckpointRef> {
    match at {
        CheckpointRef::Inline(_) => None,
        CheckpointRef::Blob { .. } => Some(at.clone()),
    }
}

/// Asks the task journal again while it is away or cannot tell; a repeated write is recognised.
pub(super) async fn loop_until_answered<T, F>(
    entry: &TaskEntry,
    ask: impl FnMut() -> F,
) -> Result<T, TaskError>
where
    F: Future<Output = Result<T, TaskError>>,
{
    let is_asked_again =
        |error: &TaskError| matches!(error, TaskError::Unknown(_) | TaskError::Unavailable(_));
    ask.retry(STORE_RETRY).when(is_asked_again).notify(|error, _| entry.show_waits_for(error)).await
}
