//! Who uses a node: spawns tasks, asks for rotations, orders, imports. They ask again as people do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keybaton_actors::program::encode_state;
use keybaton_actors::scheduler::SchedulerMessage;
use keybaton_actors::shared::Shared;
use keybaton_actors::supervisor::SupervisorMessage;
use keybaton_messages::{PairId, TaskId, TaskKey, TenantId, TriggerId};
use keybaton_ports::{SecretMeta, TaskError, TaskSpec, TaskState};
use keybaton_rotation::{Order, Trigger, Want};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::agents::{Risk, Role, Tools};
use crate::limits::{CREATE_ATTEMPTS_MAX, TASKS_MAX};
use crate::world::World;

/// Sendings of one trigger before its sender gives up.
const TRIES_MAX: u32 = 10;

/// What people want of this world, whatever node there is.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) tasks: Mutex<Vec<(TaskKey, TaskSpec)>>,
    pub(crate) tools: Arc<Tools>,
    /// Pairs whose first key the present node has asked for.
    pub(crate) asked: Mutex<BTreeSet<PairId>>,
    triggers: AtomicU64,
}

impl World {
    /// Somebody wants one more task.
    pub(crate) fn wish_task(self: &Arc<Self>) {
        let number = self.wishes.tasks.lock().len();
        let Some(pair) = self.dice.pick(&self.pairs).filter(|_| number < TASKS_MAX) else {
            return;
        };
        self.wish(pair, &self.role());
    }

    /// Somebody makes one call under the key of each pair: that it died at the vendor is found by
    /// using it.
    pub(crate) fn wish_calls(self: &Arc<Self>) {
        let calls = vec![100];
        let role = Role { calls, rest: 0, keeps: false, risk: Risk::Repeatable, done: Vec::new() };
        for pair in &self.pairs {
            self.wish(pair, &role);
        }
    }

    fn wish(self: &Arc<Self>, pair: &PairId, role: &Role) {
        let number = self.wishes.tasks.lock().len();
        let id = TaskId::new(&format!("task-{number}")).expect("a name");
        let key = TaskKey { tenant: pair.tenant.clone(), task: id };
        let spec = TaskSpec {
            kind: "agent".into(),
            provider: pair.provider.clone(),
            input: encode_state(role).expect("a small role"),
            spawned_at: keybaton_ports::Clock::now(self.clock.as_ref()),
        };
        self.note(|| format!("wish: {key} on {pair}: {role:?}"));
        self.wishes.tasks.lock().push((key.clone(), spec.clone()));
        if let Some(node) = self.node() {
            tokio::spawn(spawn(self.clone(), node, key, spec));
        }
    }

    fn role(&self) -> Role {
        let steps = self.dice.between(2, 7);
        let risk = match self.dice.between(0, 9) {
            0..5 => Risk::Repeatable,
            5..7 => Risk::Idempotent,
            7..9 => Risk::Queryable,
            _ => Risk::Neither,
        };
        let call = |_| match self.dice.between(0, 9) {
            0 => self.dice.between(4_000, 15_000),
            _ => self.dice.between(20, 2_000),
        };
        let rest = if self.dice.chance(500) { 0 } else { self.dice.between(100, 30_000) };
        let calls = (0..steps).map(call).collect();
        Role { calls, rest, keeps: self.dice.chance(400), risk, done: Vec::new() }
    }

    /// Clients whose spawn was not answered, or who lost their node, ask again.
    pub(crate) fn wish_again(self: &Arc<Self>) {
        let Some(node) = self.node() else { return };
        for (key, spec) in self.wishes.tasks.lock().iter() {
            let entry = node.tasks.get(key);
            let is_parked = |state: &TaskState| matches!(state, TaskState::Parked(_));
            match entry.map(|entry| entry.view().state) {
                None => self.spawn_again(&node, key, spec),
                // A person has looked.
                Some(state) if is_parked(&state) => {
                    node.supervisor.cast(SupervisorMessage::Task(key.clone()));
                }
                Some(_) => {}
            }
        }
    }

    fn spawn_again(self: &Arc<Self>, node: &Arc<Shared>, key: &TaskKey, spec: &TaskSpec) {
        tokio::spawn(spawn(self.clone(), node.clone(), key.clone(), spec.clone()));
    }

    /// A pair's first key is asked for once in each life of a node, when it meets a task of it.
    pub(crate) fn want_first_key(self: &Arc<Self>, tenant: &TenantId, spec: &TaskSpec) {
        let pair = PairId::new(tenant.clone(), spec.provider.clone());
        if self.wishes.asked.lock().insert(pair.clone()) {
            self.want(&pair, Want::Provision);
        }
    }

    /// Sends a trigger until it is answered.
    pub(crate) fn want(self: &Arc<Self>, pair: &PairId, want: Want) {
        let Some(node) = self.node() else { return };
        let number = self.wishes.triggers.fetch_add(1, Ordering::Relaxed);
        let id = TriggerId::new(&format!("trigger-{number}")).expect("a word");
        self.note(|| format!("want: {pair} {want:?}"));
        let (world, pair) = (self.clone(), pair.clone());
        tokio::spawn(async move {
            let trigger = Trigger { id, want };
            for _ in 0..TRIES_MAX {
                let (port, answer) = oneshot::channel();
                let message = SchedulerMessage::Trigger(pair.clone(), trigger.clone(), port);
                node.scheduler.cast(message);
                if let Ok(reply) = answer.await {
                    return world.note(|| format!("reply: {pair} {reply:?}"));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    pub(crate) fn order(self: &Arc<Self>, pair: &PairId, order: Order) {
        let Some(node) = self.node() else { return };
        self.note(|| format!("order: {pair} {order:?}"));
        let (port, answer) = oneshot::channel();
        node.scheduler.cast(SchedulerMessage::Order(pair.clone(), order, port));
        let (world, pair) = (self.clone(), pair.clone());
        tokio::spawn(async move {
            let reply = answer.await;
            world.note(|| format!("reply: {pair} {reply:?}"));
        });
    }

    /// A key that exists already is brought in.
    pub(crate) fn import(self: &Arc<Self>, pair: &PairId) {
        let Some(node) = self.node() else { return };
        let books = &self.vendor(pair).books;
        let key_id = books.plant(&pair.tenant, "brought in");
        self.vendor_changed(&pair.provider, false);
        let secret = books.secret_of(&key_id).expect("it was planted");
        let (world, pair) = (self.clone(), pair.clone());
        tokio::spawn(async move {
            let fp = node.ports.fingerprints.fingerprint(&secret);
            let meta = SecretMeta {
                pair: pair.clone(),
                label: None,
                key_id: key_id.clone(),
                issued_at: node.ports.clock.now(),
                expires_at: None,
            };
            if let Ok(secret) = node.ports.secrets.put(&meta, &secret).await {
                drop(node);
                world.want(&pair, Want::Import { key_id, secret, fp });
            }
        });
    }
}

/// As a node spawns a task: the journal first, then the table, then the actor.
async fn spawn(world: Arc<World>, node: Arc<Shared>, key: TaskKey, spec: TaskSpec) {
    for _ in 0..CREATE_ATTEMPTS_MAX {
        match node.ports.tasks.create(&key, &spec).await {
            Ok(row) => {
                let Ok((entry, is_new)) = node.tasks.admit(&key) else { return };
                match row.state {
                    TaskState::Running | TaskState::Parked(_) => {}
                    ended => entry.end(ended),
                }
                world.want_first_key(&key.tenant, &spec);
                if is_new {
                    node.supervisor.cast(SupervisorMessage::Task(key));
                }
                return;
            }
            Err(TaskError::Unknown(_) | TaskError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(_) => return,
        }
    }
}
