//! One tenant's actors on this node.
//!
//! **Invariant:** sees no other tenant.
//! **Invariant:** never fails on a message: its end would take its tasks with it.

use std::collections::HashMap;
use std::sync::Arc;

use keybaton_messages::{PairId, TaskId, TaskKey, TenantId};
use keybaton_ports::TaskState;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};

use crate::limits::RESTART_AFTER_MIN;
use crate::rotation_actor::{RotationActor, RotationMessage};
use crate::shared::Shared;
use crate::supervisor::Restarts;
use crate::task_actor::{TaskActor, TaskArguments};

/// What a TenantSupervisor is told.
pub enum TenantMessage {
    /// For this pair's RotationActor, to be started if need be.
    Pair(PairId, Box<RotationMessage>),
    /// Work on this task.
    Task(TaskId),
    /// Start this child again.
    Restart(TenantChild),
}

impl ractor::Message for TenantMessage {}

/// A tenant's children.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantChild {
    /// A pair.
    Pair(PairId),
    /// A task.
    Task(TaskId),
}

/// Supervises one tenant.
pub struct TenantSupervisor(pub Arc<Shared>);

/// The tenant's actors.
pub struct TenantFamily {
    tenant: TenantId,
    children: HashMap<ActorId, TenantChild>,
    pairs: HashMap<PairId, ActorRef<RotationMessage>>,
    restarts: Restarts<TenantChild>,
}

impl Actor for TenantSupervisor {
    type Msg = TenantMessage;
    type State = TenantFamily;
    type Arguments = TenantId;

    async fn pre_start(
        &self,
        myself: ActorRef<TenantMessage>,
        tenant: TenantId,
    ) -> Result<TenantFamily, ActorProcessingErr> {
        // After a crash of this supervisor its children are gone: begin them again.
        for (pair, _) in self.0.views.all() {
            if pair.tenant == tenant {
                let begin = TenantChild::Pair(pair);
                myself.cast(TenantMessage::Restart(begin))?;
            }
        }
        for (key, view) in self.0.tasks.list(Some(&tenant)) {
            if view.state == TaskState::Running {
                myself.cast(TenantMessage::Task(key.task))?;
            }
        }
        Ok(TenantFamily {
            tenant,
            children: HashMap::new(),
            pairs: HashMap::new(),
            restarts: Restarts::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TenantMessage>,
        message: TenantMessage,
        family: &mut TenantFamily,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TenantMessage::Pair(pair, message) => {
                self.start_pair(&myself, family, &pair).await;
                if let Some(actor) = family.pairs.get(&pair)
                    && !matches!(*message, RotationMessage::Begin)
                    && actor.cast(*message).is_err()
                {
                    tracing::debug!(%pair, "message lost with its actor; the record says the same");
                }
            }
            TenantMessage::Task(task) | TenantMessage::Restart(TenantChild::Task(task)) => {
                self.start_task(&myself, family, task).await;
            }
            TenantMessage::Restart(TenantChild::Pair(pair)) => {
                self.start_pair(&myself, family, &pair).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<TenantMessage>,
        event: SupervisionEvent,
        family: &mut TenantFamily,
    ) -> Result<(), ActorProcessingErr> {
        let (who, why) = match event {
            SupervisionEvent::ActorFailed(who, why) => (who, why.to_string()),
            SupervisionEvent::ActorTerminated(who, _, why) => {
                (who, why.unwrap_or_else(|| "stopped".into()))
            }
            _ => return Ok(()),
        };
        let Some(child) = family.children.remove(&who.get_id()) else {
            return Ok(());
        };
        if !self.should_restart(family, &child, who.get_id()) {
            family.restarts.forget(&child);
            return Ok(());
        }
        let wait = family.restarts.next_wait(child.clone());
        tracing::warn!(tenant = %family.tenant, ?child, why, ?wait, "actor ended; it is started again");
        let _timer = myself.send_after(wait, move || TenantMessage::Restart(child));
        Ok(())
    }
}

impl TenantSupervisor {
    fn should_restart(&self, family: &mut TenantFamily, child: &TenantChild, who: ActorId) -> bool {
        match child {
            TenantChild::Pair(pair) => {
                family.pairs.remove(pair);
                self.0.rotations.remove(pair);
                !self.0.tasks.is_stopping()
            }
            TenantChild::Task(task) => {
                let key = TaskKey { tenant: family.tenant.clone(), task: task.clone() };
                let Some(entry) = self.0.tasks.get(&key) else {
                    return false;
                };
                // A task that was parked may have gone on with another actor before this end was
                // heard of: two of them would fence each other off for ever.
                entry.leave(who) && entry.is_running() && !self.0.tasks.is_stopping()
            }
        }
    }

    async fn start_pair(
        &self,
        myself: &ActorRef<TenantMessage>,
        family: &mut TenantFamily,
        pair: &PairId,
    ) {
        if family.pairs.contains_key(pair) {
            return;
        }
        let spawned = Actor::spawn_linked(
            None,
            RotationActor(self.0.clone()),
            pair.clone(),
            myself.get_cell(),
        );
        match spawned.await {
            Ok((actor, _)) => {
                family.children.insert(actor.get_id(), TenantChild::Pair(pair.clone()));
                family.pairs.insert(pair.clone(), actor);
            }
            Err(error) => self.try_later(myself, family, TenantChild::Pair(pair.clone()), &error),
        }
    }

    async fn start_task(
        &self,
        myself: &ActorRef<TenantMessage>,
        family: &mut TenantFamily,
        task: TaskId,
    ) {
        let key = TaskKey { tenant: family.tenant.clone(), task: task.clone() };
        let Some(entry) = self.0.tasks.get(&key) else {
            return;
        };
        if self.0.tasks.is_stopping() {
            return;
        }
        if let Some(actor) = entry.actor()
            && !matches!(actor.get_status(), ActorStatus::Stopping | ActorStatus::Stopped)
        {
            if !family.children.contains_key(&actor.get_id()) {
                // A child of this supervisor's predecessor, which its end has not reached yet.
                // Nobody would hear of it, so it is not relied upon.
                actor.kill();
                let again = TenantChild::Task(task);
                let _timer =
                    myself.send_after(RESTART_AFTER_MIN, move || TenantMessage::Restart(again));
            }
            return;
        }
        let arguments = TaskArguments { shared: self.0.clone(), key, entry };
        let spawned = Actor::spawn_linked(None, TaskActor, arguments, myself.get_cell());
        match spawned.await {
            Ok((actor, _)) => {
                family.children.insert(actor.get_id(), TenantChild::Task(task));
            }
            Err(error) => self.try_later(myself, family, TenantChild::Task(task), &error),
        }
    }

    fn try_later(
        &self,
        myself: &ActorRef<TenantMessage>,
        family: &mut TenantFamily,
        child: TenantChild,
        error: &ractor::SpawnErr,
    ) {
        let wait = family.restarts.next_wait(child.clone());
        tracing::error!(tenant = %family.tenant, ?child, %error, ?wait, "actor not started yet");
        let _timer = myself.send_after(wait, move || TenantMessage::Restart(child));
    }
}
