//! Takes a task up: its checkpoint, and the outcomes behind it.
//!
//! **Invariant:** what lies of the task is listed before the claim: of that, whatever the claim does
//! not name was put there by somebody who is fenced off now, and no row will ever name it.
//! **Invariant:** an intent without a result means that nobody knows what the step did; the step's
//! own rules decide whether it is repeated.

use std::time::Duration;

use backon::Retryable;
use keybaton_messages::{Checkpoint, PairId, TaskKey};
use keybaton_ports::{CheckpointRef, Claimed, Entry, Refusal, TaskState};

use super::persist::{loop_until_answered, lying_apart};
use super::turn::Turn;
use super::{Started, Stop, TaskWork};
use crate::checkpoint_sweeper::is_end;
use crate::credential::CredentialHandle;
use crate::limits::STORE_RETRY;
use crate::program::Next;

impl TaskWork {
    pub(super) async fn claim(&self) -> Result<Started, Stop> {
        let lying = self.lying_there().await;
        let claimed =
            loop_until_answered(&self.entry, || self.shared.ports.tasks.claim(&self.key)).await;
        let claimed = claimed.map_err(|error| Stop::Broken(error.to_string()))?;
        let has_ended = is_end(&claimed.row.state);
        let is_named = |at: &CheckpointRef| !has_ended && claimed.checkpoint.as_ref() == Some(at);
        for at in lying.into_iter().filter(|at| !is_named(at)) {
            self.shared.note_needless(&self.key, at);
        }
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

    /// What lies of this task where checkpoints do not go with their rows. A store that is away is
    /// not waited for: what is missed is found at the next claim, or once the task has ended.
    async fn lying_there(&self) -> Vec<CheckpointRef> {
        if self.entry.is_first_claim() {
            return Vec::new();
        }
        let TaskKey { tenant, task } = &self.key;
        match self.shared.ports.checkpoints.list(tenant, Some(task)).await {
            Ok(list) => list.into_iter().map(|(_, at)| at).collect(),
            Err(refusal) => {
                tracing::debug!(task = %self.key, %refusal, "its checkpoints were not listed");
                Vec::new()
            }
        }
    }

    /// Checkpoint plus outcomes: everything that the task knew.
    pub(super) async fn resume(&self, claimed: Claimed) -> Result<Started, Stop> {
        let Claimed { row, checkpoint, entries } = claimed;
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
                    next = running.fold(outcome).map_err(|error| broken(error.to_string()))?;
                    (cut, n, since_checkpoint) = (false, n + 1, since_checkpoint + 1);
                }
                Entry::Checkpoint { .. } | Entry::State { .. } => {}
            }
        }
        let pair = PairId::new(self.key.tenant.clone(), row.spec.provider.clone());
        let call_time_max = self
            .shared
            .ports
            .providers
            .get(&pair.provider)
            .map_or(Duration::from_secs(900), |entry| entry.policy.call_time_max);
        let credential =
            CredentialHandle::new(self.shared.clone(), &pair, self.key.task.clone(), call_time_max);
        let mut started = Started {
            running,
            seen: None,
            credential,
            session: None,
            epoch: row.epoch,
            rev: row.rev,
            n,
            since_checkpoint,
            checkpoint: checkpoint.as_ref().and_then(lying_apart).map(Box::new),
            cut,
            ended_at: None,
            handing_over: false,
            rest_until: None,
        };
        self.entry.show(|view| (view.state, view.step) = (TaskState::Running, n));
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

    pub(super) async fn fetch(&self, at: &CheckpointRef) -> Result<Checkpoint, Stop> {
        let get = || self.shared.ports.checkpoints.get(&self.key, at);
        get.retry(STORE_RETRY)
            .when(|refusal| !matches!(refusal, Refusal::Denied { .. }))
            .notify(|refusal, _| self.entry.show_waits_for(refusal))
            .await
            .map_err(|refusal| Stop::Broken(format!("task {}: checkpoint: {refusal}", self.key)))
    }
}
