//! The root of a node's actors: starts them, and starts again what breaks.
//!
//! ```text
//! Supervisor ─┬─ BrokerActor, Scheduler, Sweeper, AuditShipper, CheckpointSweeper
//!             └─ TenantSupervisor (one per tenant) ─┬─ RotationActor (one per pair)
//!                                                   └─ TaskActor (one per task)
//! ```
//!
//! **Invariant:** decides nothing about rotations.
//! **Invariant:** does not await while it handles a message longer than a spawn takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::{PairId, TaskKey, TenantId};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, MessagingErr, SupervisionEvent,
};
use tokio::time::Instant;

use crate::audit_shipper::AuditShipper;
use crate::broker_actor::BrokerActor;
use crate::checkpoint_sweeper::CheckpointSweeper;
use crate::limits::{RESTART_AFTER_MAX, RESTART_AFTER_MIN, RESTART_FORGIVEN_AFTER};
use crate::rotation_actor::RotationMessage;
use crate::scheduler::Scheduler;
use crate::shared::Shared;
use crate::sweeper::Sweeper;
use crate::tenant_supervisor::{TenantMessage, TenantSupervisor};

/// What the Supervisor is told.
pub enum SupervisorMessage {
    /// For this pair's RotationActor, to be started if need be.
    Pair(PairId, Box<RotationMessage>),
    /// Work on this task.
    Task(TaskKey),
    /// Start this child again.
    Restart(Child),
}

impl ractor::Message for SupervisorMessage {}

/// The Supervisor's own children.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Child {
    /// The BrokerActor.
    Broker,
    /// The Scheduler.
    Scheduler,
    /// The Sweeper.
    Sweeper,
    /// The AuditShipper.
    Shipper,
    /// The CheckpointSweeper.
    CheckpointSweeper,
    /// A tenant's supervisor.
    Tenant(TenantId),
}

/// The root actor.
pub struct Supervisor(pub Arc<Shared>);

/// Who lives, and how often each has died.
#[derive(Default)]
pub struct Family {
    children: HashMap<ActorId, Child>,
    tenants: HashMap<TenantId, ActorRef<TenantMessage>>,
    restarts: Restarts<Child>,
}

/// Back-off of restarts, per child.
pub(crate) struct Restarts<C>(HashMap<C, (u32, Instant)>);

impl<C> Default for Restarts<C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C: std::hash::Hash + Eq> Restarts<C> {
    /// How long to wait before this child is started again.
    pub(crate) fn next_wait(&mut self, child: C) -> Duration {
        let now = Instant::now();
        let (deaths, last) = self.0.entry(child).or_insert((0, now));
        if now.duration_since(*last) > RESTART_FORGIVEN_AFTER {
            *deaths = 0;
        }
        let wait = RESTART_AFTER_MIN.saturating_mul(1 << (*deaths).min(16)).min(RESTART_AFTER_MAX);
        (*deaths, *last) = (deaths.saturating_add(1), now);
        wait
    }

    pub(crate) fn forget(&mut self, child: &C) {
        self.0.remove(child);
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Family;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        (): (),
    ) -> Result<Family, ActorProcessingErr> {
        let mut family = Family::default();
        for child in [
            Child::Broker,
            Child::Sweeper,
            Child::Shipper,
            Child::Scheduler,
            Child::CheckpointSweeper,
        ] {
            self.start(&myself, &mut family, child).await?;
        }
        self.0.supervisor.set(myself.clone());
        self.recover(&myself).await?;
        Ok(family)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        family: &mut Family,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Pair(pair, message) => {
                let tenant = pair.tenant.clone();
                let message = TenantMessage::Pair(pair, message);
                self.pass_on(&myself, family, tenant, message).await;
            }
            SupervisorMessage::Task(key) => {
                let message = TenantMessage::Task(key.task);
                self.pass_on(&myself, family, key.tenant, message).await;
            }
            SupervisorMessage::Restart(child) => {
                self.start_or_later(&myself, family, child.clone()).await;
                // What its mailbox held is lost; what its pairs have to do is not.
                if let Child::Tenant(tenant) = &child
                    && let Err(error) = self.begin_pairs(&myself, Some(tenant)).await
                {
                    tracing::warn!(%tenant, %error, "its pairs are begun later");
                    let _timer = myself
                        .send_after(RESTART_AFTER_MAX, move || SupervisorMessage::Restart(child));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        family: &mut Family,
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
        if let Child::Tenant(tenant) = &child {
            family.tenants.remove(tenant);
        }
        if self.0.tasks.is_stopping() {
            return Ok(());
        }
        let wait = family.restarts.next_wait(child.clone());
        tracing::error!(?child, why, ?wait, "actor ended; it is started again");
        let _timer = myself.send_after(wait, move || SupervisorMessage::Restart(child));
        Ok(())
    }
}

impl Supervisor {
    /// Everything that was under way goes on: pairs with work, tasks that have not ended.
    async fn recover(
        &self,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), ActorProcessingErr> {
        self.begin_pairs(myself, None).await?;
        for (key, _) in self.0.tasks.list(None) {
            myself.cast(SupervisorMessage::Task(key))?;
        }
        Ok(())
    }

    /// Begins the pairs that have work, of one tenant or of all.
    async fn begin_pairs(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        tenant: Option<&TenantId>,
    ) -> Result<(), ActorProcessingErr> {
        let pairs = self.0.ports.journal.pairs().await.map_err(|refusal| refusal.to_string())?;
        let is_meant = |pair: &PairId| tenant.is_none_or(|tenant| pair.tenant == *tenant);
        for summary in pairs.into_iter().filter(|s| s.has_work && is_meant(&s.pair)) {
            let begin = Box::new(RotationMessage::Begin);
            myself.cast(SupervisorMessage::Pair(summary.pair, begin))?;
        }
        Ok(())
    }

    async fn start(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        family: &mut Family,
        child: Child,
    ) -> Result<(), ActorProcessingErr> {
        let shared = self.0.clone();
        let me: ActorCell = myself.get_cell();
        let id = match &child {
            Child::Broker => {
                Actor::spawn_linked(None, BrokerActor(shared), (), me).await?.0.get_id()
            }
            Child::Scheduler => {
                Actor::spawn_linked(None, Scheduler(shared), (), me).await?.0.get_id()
            }
            Child::Sweeper => Actor::spawn_linked(None, Sweeper(shared), (), me).await?.0.get_id(),
            Child::Shipper => {
                Actor::spawn_linked(None, AuditShipper(shared), (), me).await?.0.get_id()
            }
            Child::CheckpointSweeper => {
                Actor::spawn_linked(None, CheckpointSweeper(shared), (), me).await?.0.get_id()
            }
            Child::Tenant(tenant) if family.tenants.contains_key(tenant) => return Ok(()),
            Child::Tenant(tenant) => {
                let (actor, _) =
                    Actor::spawn_linked(None, TenantSupervisor(shared), tenant.clone(), me).await?;
                family.tenants.insert(tenant.clone(), actor.clone());
                actor.get_id()
            }
        };
        family.children.insert(id, child);
        Ok(())
    }

    /// A child that does not start (the store is away) is tried again; the others go on.
    async fn start_or_later(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        family: &mut Family,
        child: Child,
    ) {
        if let Err(error) = self.start(myself, family, child.clone()).await {
            let wait = family.restarts.next_wait(child.clone());
            tracing::error!(?child, %error, ?wait, "actor not started yet");
            let _timer = myself.send_after(wait, move || SupervisorMessage::Restart(child));
        }
    }

    /// Hands a message to a tenant's supervisor. It may have ended without this actor having heard
    /// of it yet; the message then comes again.
    async fn pass_on(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        family: &mut Family,
        tenant: TenantId,
        message: TenantMessage,
    ) {
        self.start_or_later(myself, family, Child::Tenant(tenant.clone())).await;
        let message = match family.tenants.get(&tenant) {
            None => message,
            Some(actor) => match actor.cast(message) {
                Err(MessagingErr::SendErr(message)) => message,
                _ => return,
            },
        };
        let again = match message {
            TenantMessage::Pair(pair, message) => SupervisorMessage::Pair(pair, message),
            TenantMessage::Task(task) => SupervisorMessage::Task(TaskKey { tenant, task }),
            TenantMessage::Restart(_) => return,
        };
        let _timer = myself.send_after(RESTART_AFTER_MIN, move || again);
    }
}
