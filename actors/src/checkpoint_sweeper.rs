//! Deletes checkpoints that nobody needs any more.
//!
//! A checkpoint is needless once a row of its task names a newer one, or its task has ended. Whoever
//! sees that happen says so here. What gets lost on the way, with an actor, with the node or with an
//! answer of the store, is found again: a task that is taken up looks for what lies of it besides
//! the checkpoint that its journal names, and from time to time it is looked here for what lies of
//! tasks that have ended.
//!
//! **Invariant:** deletes by name, and only what no row can ever name again, so that a deletion that
//! is carried out late does no harm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use keybaton_messages::TaskKey;
use keybaton_ports::{CheckpointRef, Entry, Refusal, TaskError, TaskState};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::limits::{
    CHECKPOINT_SWEEP_AGAIN, CHECKPOINT_SWEEP_EVERY, NEEDLESS_CHECKPOINTS_MAX, STORE_RETRY_MAX,
};
use crate::shared::Shared;

/// What the CheckpointSweeper is told.
pub enum CheckpointMessage {
    /// No row will name this one any more.
    Needless(TaskKey, CheckpointRef),
    /// Delete what could not be deleted before.
    Again,
    /// Look for what tasks that have ended have left.
    Sweep,
}

impl ractor::Message for CheckpointMessage {}

/// Owns what is still to be deleted.
pub struct CheckpointSweeper(pub Arc<Shared>);

type Owed = VecDeque<(TaskKey, CheckpointRef)>;

impl Actor for CheckpointSweeper {
    type Msg = CheckpointMessage;
    /// Oldest first.
    type State = Owed;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<CheckpointMessage>,
        (): (),
    ) -> Result<Owed, ActorProcessingErr> {
        self.0.checkpoint_sweeper.set(myself.clone());
        myself.cast(CheckpointMessage::Sweep)?;
        Ok(Owed::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<CheckpointMessage>,
        message: CheckpointMessage,
        owed: &mut Owed,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CheckpointMessage::Needless(task, at) => {
                if owed.len() < NEEDLESS_CHECKPOINTS_MAX {
                    owed.push_back((task, at));
                }
                // Behind one that could not be deleted it waits for the next try.
                if owed.len() == 1 {
                    self.delete(&myself, owed).await;
                }
            }
            CheckpointMessage::Again => self.delete(&myself, owed).await,
            CheckpointMessage::Sweep => {
                let swept = self.sweep().await;
                if let Err(refusal) = &swept {
                    tracing::debug!(%refusal, "checkpoints of ended tasks are looked for later");
                }
                let wait =
                    if swept.is_ok() { CHECKPOINT_SWEEP_EVERY } else { CHECKPOINT_SWEEP_AGAIN };
                let _timer = myself.send_after(wait, || CheckpointMessage::Sweep);
            }
        }
        Ok(())
    }
}

impl CheckpointSweeper {
    async fn delete(&self, myself: &ActorRef<CheckpointMessage>, owed: &mut Owed) {
        while let Some((task, at)) = owed.front() {
            match self.0.ports.checkpoints.delete(task, at).await {
                Ok(()) => {}
                // Asking again will not change that.
                Err(refusal @ Refusal::Denied { .. }) => {
                    tracing::warn!(%task, %refusal, "a needless checkpoint stays");
                }
                Err(refusal) => {
                    tracing::debug!(%task, %refusal, "a needless checkpoint is deleted later");
                    let _timer = myself.send_after(STORE_RETRY_MAX, || CheckpointMessage::Again);
                    return;
                }
            }
            owed.pop_front();
        }
    }

    /// Deletes what lies of tasks that have ended, or that nobody knows any more.
    async fn sweep(&self) -> Result<(), Refusal> {
        let ports = &self.0.ports;
        // Whoever has a task has a pair.
        let pairs = ports.journal.pairs().await?;
        let tenants: BTreeSet<_> = pairs.into_iter().map(|summary| summary.pair.tenant).collect();
        for tenant in tenants {
            // Listed before the journal is asked: what a later life of the same name puts there is
            // not in the list.
            let mut of_tasks = BTreeMap::<TaskKey, Vec<_>>::new();
            for (task, at) in ports.checkpoints.list(&tenant, None).await? {
                of_tasks.entry(task).or_default().push(at);
            }
            for (task, all) in of_tasks {
                if self.is_over(&task).await {
                    for at in &all {
                        ports.checkpoints.delete(&task, at).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether nobody will ever go on with a task. Only its journal says so: a task that cannot be
    /// read is not over.
    async fn is_over(&self, task: &TaskKey) -> bool {
        if self.0.tasks.get(task).is_some_and(|entry| entry.is_running()) {
            return false;
        }
        match self.0.ports.tasks.entries(task).await {
            Ok(entries) => {
                let newest = entries.iter().rev().find_map(|entry| match entry {
                    Entry::State { state, .. } => Some(state),
                    _ => None,
                });
                newest.is_some_and(is_end)
            }
            Err(TaskError::NotFound) => true,
            Err(_) => false,
        }
    }
}

/// Whether a task in this state is never worked on again.
pub(crate) fn is_end(state: &TaskState) -> bool {
    match state {
        TaskState::Done(_) | TaskState::Failed(_) | TaskState::Cancelled => true,
        TaskState::Running | TaskState::Parked(_) => false,
    }
}
