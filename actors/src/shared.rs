//! What belongs to the node and outlives every actor: ports, registry, fence, tables.
//!
//! **Invariant:** restarting any actor forgets no holder, because holders live here.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use keybaton_messages::{DeploymentId, Event, PairId, PairTag, ProviderName, TaskKey, TraceParent};
use keybaton_ports::{
    AuditSink, CheckpointRef, CheckpointStore, Clock, Entropy, EventBus, FingerprintKey, Journal,
    NodeLife, Provider, SecretStore, TaskJournal,
};
use keybaton_rotation::Policy;
use ractor::{ActorRef, Message};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::audit_shipper::AuditMessage;
use crate::broker::Broker;
use crate::broker_actor::BrokerMessage;
use crate::checkpoint_sweeper::CheckpointMessage;
use crate::fence::Fence;
use crate::issue_jobs::IssueJobs;
use crate::program::Programs;
use crate::rests::Rests;
use crate::rotation_actor::RotationMessage;
use crate::scheduler::SchedulerMessage;
use crate::stats::Stats;
use crate::supervisor::SupervisorMessage;
use crate::sweeper::SweeperMessage;
use crate::task_table::TaskTable;
use crate::view::Views;

/// A configured provider and the policy of its rotations.
#[derive(Clone)]
pub struct ProviderEntry {
    /// How it is reached.
    pub provider: Arc<dyn Provider>,
    /// How its keys are rotated.
    pub policy: Policy,
}

/// Everything that the actors ask of the world.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the port it is named after")]
pub struct Ports {
    pub journal: Arc<dyn Journal>,
    pub tasks: Arc<dyn TaskJournal>,
    pub secrets: Arc<dyn SecretStore>,
    pub checkpoints: Arc<dyn CheckpointStore>,
    pub bus: Arc<dyn EventBus>,
    pub audit: Arc<dyn AuditSink>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub providers: HashMap<ProviderName, ProviderEntry>,
    pub fingerprints: Arc<FingerprintKey>,
    pub deployment: DeploymentId,
}

impl Ports {
    /// The pair's part of its labels.
    #[must_use]
    pub fn pair_tag(&self, pair: &PairId) -> PairTag {
        let digest = self.fingerprints.digest(
            b"pair-tag",
            &[pair.tenant.as_str().as_bytes(), pair.provider.as_str().as_bytes()],
        );
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        PairTag::from_digest(&head)
    }

    /// The trace of an event: one trace a rotation, one span an event. Every node and every life
    /// derives the same, so a rotation that goes on elsewhere stays in its trace.
    #[must_use]
    pub fn trace(&self, event: &Event) -> TraceParent {
        let (id, rev) = (&event.rotation, event.rev.0.to_be_bytes());
        let (tenant, provider) = (id.pair.tenant.as_str(), id.pair.provider.as_str());
        let rotation = [tenant.as_bytes(), provider.as_bytes(), &id.n.to_be_bytes()];
        let trace = self.fingerprints.digest(b"trace", &rotation);
        let [tenant, provider, n] = rotation;
        let kind = event.kind.as_str().as_bytes();
        let span = self.fingerprints.digest(b"trace-span", &[tenant, provider, n, &rev, kind]);
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&trace[..16]);
        span_id.copy_from_slice(&span[..8]);
        TraceParent::sampled(trace_id, span_id)
    }
}

/// Where an actor that may be restarted is found.
pub struct Inbox<M> {
    actor: ArcSwapOption<ActorRef<M>>,
    came: Notify,
}

impl<M: Message> Default for Inbox<M> {
    fn default() -> Self {
        Self { actor: ArcSwapOption::empty(), came: Notify::new() }
    }
}

impl<M: Message> Inbox<M> {
    /// From here on messages go to this actor.
    pub fn set(&self, actor: ActorRef<M>) {
        self.actor.store(Some(Arc::new(actor)));
        self.came.notify_waiters();
    }

    /// Waits for the next actor that begins after this call, also before the wait is polled.
    pub fn next(&self) -> Notified<'_> {
        self.came.notified()
    }

    /// Hands a message over. One that finds no actor is lost, which every receiver makes up for
    /// when it starts: messages are hints.
    pub fn cast(&self, message: M) -> bool {
        self.actor.load().as_ref().is_some_and(|actor| actor.cast(message).is_ok())
    }

    /// The actor, if there is one.
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.actor.load().as_ref().map(|actor| actor.as_ref().clone())
    }
}

/// What the node owns.
#[expect(missing_docs, reason = "each field is what its type says")]
pub struct Shared {
    pub life: NodeLife,
    pub ports: Ports,
    pub fence: Fence,
    pub broker: Broker,
    pub tasks: TaskTable,
    pub programs: Programs,
    pub views: Views,
    pub stats: Stats,
    pub rests: Rests,
    pub issue_jobs: IssueJobs,
    pub http: reqwest::Client,
    pub rotations: DashMap<PairId, ActorRef<RotationMessage>>,
    pub supervisor: Inbox<SupervisorMessage>,
    pub broker_inbox: Inbox<BrokerMessage>,
    pub scheduler: Inbox<SchedulerMessage>,
    pub sweeper: Inbox<SweeperMessage>,
    pub shipper: Inbox<AuditMessage>,
    pub checkpoint_sweeper: Inbox<CheckpointMessage>,
}

impl Shared {
    /// What a node starts with.
    #[must_use]
    pub fn new(
        life: NodeLife,
        ports: Ports,
        fence: Fence,
        programs: Programs,
        http: reqwest::Client,
        tasks_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            life,
            ports,
            fence,
            broker: Broker::default(),
            tasks: TaskTable::new(tasks_max),
            programs,
            views: Views::default(),
            stats: Stats::default(),
            rests: Rests::default(),
            issue_jobs: IssueJobs::default(),
            http,
            rotations: DashMap::new(),
            supervisor: Inbox::default(),
            broker_inbox: Inbox::default(),
            scheduler: Inbox::default(),
            sweeper: Inbox::default(),
            shipper: Inbox::default(),
            checkpoint_sweeper: Inbox::default(),
        })
    }

    /// No row will name this checkpoint any more. If nobody hears that, a sweep finds it.
    pub(crate) fn note_needless(&self, task: &TaskKey, at: CheckpointRef) {
        self.checkpoint_sweeper.cast(CheckpointMessage::Needless(task.clone(), at));
    }

    /// Hands a message to the pair's RotationActor, which is started if need be.
    pub fn to_pair(&self, pair: &PairId, message: RotationMessage) {
        let message = match self.rotations.get(pair).map(|actor| actor.value().clone()) {
            Some(actor) => match actor.cast(message) {
                Ok(()) => return,
                Err(ractor::MessagingErr::SendErr(message)) => message,
                Err(_) => return,
            },
            None => message,
        };
        self.supervisor.cast(SupervisorMessage::Pair(pair.clone(), Box::new(message)));
    }
}
