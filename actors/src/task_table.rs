//! The tasks of this node as their callers see them: status, result, cancel, wake.
//!
//! **Invariant:** an entry outlives the actor that works on its task, so that a join handle never
//! loses its task.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use dashmap::DashMap;
use keybaton_messages::{TaskKey, TenantId, Version};
use keybaton_ports::TaskState;
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::sync::Notify;

use crate::task_actor::TaskMessage;

/// Where a task stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Its state in the journal.
    pub state: TaskState,
    /// The step that it works on, or would work on next.
    pub step: u64,
    /// The version that its last step used.
    pub version: Option<Version>,
    /// What it waits for, if it does, in one line. No longer than it must be: every task has one.
    pub waits_for: Option<Box<str>>,
    /// The node stopped; the task goes on when it starts again.
    pub is_left: bool,
}

/// One task of this node.
pub struct TaskEntry {
    view: Mutex<TaskView>,
    /// Rings when the state changes, the node leaves the task, or the task should stop waiting. A
    /// step rings nobody: a node has thousands of them in a second, and no one waits for one.
    bell: Notify,
    actor: Mutex<Option<ActorRef<TaskMessage>>>,
    cancelled: AtomicBool,
    /// Tries of the present step, also those that ended with a crash of the actor.
    tries: AtomicU32,
    /// Nobody has ever claimed the task.
    is_unclaimed: AtomicBool,
    live: Arc<AtomicUsize>,
}

/// Every task of this node.
pub struct TaskTable {
    entries: DashMap<TaskKey, Arc<TaskEntry>>,
    live: Arc<AtomicUsize>,
    tasks_max: usize,
    stopping: AtomicBool,
}

/// The node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl TaskTable {
    /// An empty table that admits `tasks_max` live tasks.
    #[must_use]
    pub fn new(tasks_max: usize) -> Self {
        Self {
            entries: DashMap::new(),
            live: Arc::default(),
            tasks_max,
            stopping: AtomicBool::new(false),
        }
    }

    /// Admits a task; one that is there already is returned as it is.
    ///
    /// # Errors
    /// [`Full`] when the node has as many live tasks as it may.
    pub fn admit(&self, key: &TaskKey) -> Result<(Arc<TaskEntry>, bool), Full> {
        if let Some(entry) = self.entries.get(key) {
            return Ok((entry.value().clone(), false));
        }
        let mut is_new = false;
        let entry = self.entries.entry(key.clone()).or_try_insert_with(|| {
            if self.live.fetch_add(1, Ordering::Relaxed) >= self.tasks_max {
                self.live.fetch_sub(1, Ordering::Relaxed);
                return Err(Full);
            }
            is_new = true;
            Ok(Arc::new(TaskEntry::new(self.live.clone())))
        })?;
        Ok((entry.value().clone(), is_new))
    }

    /// A task of this node.
    #[must_use]
    pub fn get(&self, key: &TaskKey) -> Option<Arc<TaskEntry>> {
        self.entries.get(key).map(|entry| entry.value().clone())
    }

    /// Forgets a task.
    pub fn remove(&self, key: &TaskKey) {
        self.entries.remove(key);
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Tasks that wait for a person.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.entries.iter().filter(|entry| entry.value().is_parked()).count()
    }

    /// Every task of a tenant, or of all.
    #[must_use]
    pub fn list(&self, tenant: Option<&TenantId>) -> Vec<(TaskKey, TaskView)> {
        let mut list: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| tenant.is_none_or(|tenant| entry.key().tenant == *tenant))
            .map(|entry| (entry.key().clone(), entry.value().view()))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Wakes a task that rests, so that it hands over; a task in a step does so at its end anyway.
    pub fn wake(&self, key: &TaskKey) {
        if let Some(entry) = self.entries.get(key) {
            entry.wake();
        }
    }

    /// From here on tasks stop at their next boundary, with a checkpoint.
    pub fn stop_all(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut entries: Vec<_> =
            self.entries.iter().map(|it| (it.key().clone(), it.value().clone())).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, entry) in entries {
            entry.bell.notify_waiters();
            entry.wake();
        }
    }

    /// Tells whoever follows a task that nobody works on it here any more.
    pub fn leave_all(&self) {
        for entry in &self.entries {
            entry.value().show(|view| view.is_left = true);
        }
    }

    /// Whether the node is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Tasks whose actor is at work.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.entries.iter().filter(|entry| entry.value().actor.lock().is_some()).count()
    }
}

impl TaskEntry {
    fn new(live: Arc<AtomicUsize>) -> Self {
        let view = TaskView {
            state: TaskState::Running,
            step: 0,
            version: None,
            waits_for: Some("its first step".into()),
            is_left: false,
        };
        Self {
            view: Mutex::new(view),
            bell: Notify::new(),
            actor: Mutex::default(),
            cancelled: AtomicBool::new(false),
            tries: AtomicU32::new(0),
            is_unclaimed: AtomicBool::new(false),
            live,
        }
    }

    /// Where the task stands.
    #[must_use]
    pub fn view(&self) -> TaskView {
        self.view.lock().clone()
    }

    fn is_parked(&self) -> bool {
        matches!(self.view.lock().state, TaskState::Parked(_))
    }

    /// Whether the task has not ended and waits for no person.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.view.lock().state == TaskState::Running
    }

    /// Waits until the task is not running any more, or the node has left it.
    pub async fn stopped(&self) -> TaskView {
        loop {
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let view = self.view();
            if view.state != TaskState::Running || view.is_left {
                return view;
            }
            rung.await;
        }
    }

    /// Asks the task to end at its next boundary.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.bell.notify_waiters();
        self.wake();
    }

    /// Whether the task was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Rings, among other things, when the task was cancelled or the node stops.
    pub(crate) fn bell(&self) -> &Notify {
        &self.bell
    }

    pub(crate) fn set_actor(&self, actor: Option<ActorRef<TaskMessage>>) {
        *self.actor.lock() = actor;
    }

    /// This actor works on the task no more. `false`: another one does by now.
    pub(crate) fn leave(&self, who: ActorId) -> bool {
        let mut actor = self.actor.lock();
        let is_others = actor.as_ref().is_some_and(|actor| actor.get_id() != who);
        if !is_others {
            *actor = None;
        }
        !is_others
    }

    /// The actor that works on the task, if one does.
    #[must_use]
    pub fn actor(&self) -> Option<ActorRef<TaskMessage>> {
        self.actor.lock().clone()
    }

    /// The journal says that nobody has ever claimed the task.
    pub fn note_unclaimed(&self) {
        self.is_unclaimed.store(true, Ordering::Relaxed);
    }

    /// Whether the claim that is about to be made is the task's first one. Says so once.
    pub(crate) fn is_first_claim(&self) -> bool {
        self.is_unclaimed.swap(false, Ordering::Relaxed)
    }

    /// Counts a try of the present step before it is made, so that a crash is counted too.
    pub(crate) fn note_try(&self) -> u32 {
        self.tries.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }

    /// The step ended well.
    pub(crate) fn forget_tries(&self) {
        self.tries.store(0, Ordering::Relaxed);
    }

    fn wake(&self) {
        if let Some(actor) = self.actor.lock().as_ref() {
            // An actor that is gone looks for itself when it starts again.
            let _ = actor.cast(TaskMessage::Wake);
        }
    }

    pub(crate) fn show(&self, change: impl FnOnce(&mut TaskView)) {
        let mut view = self.view.lock();
        let before = (std::mem::discriminant(&view.state), view.is_left);
        change(&mut view);
        let is_turned = before != (std::mem::discriminant(&view.state), view.is_left);
        drop(view);
        if is_turned {
            self.bell.notify_waiters();
        }
    }

    pub(crate) fn show_waits_for(&self, what: impl Display) {
        self.show(|view| view.waits_for = Some(what.to_string().into()));
    }

    /// A person has looked: the task goes on. Shown at once, because the actor that parked it may
    /// not have ended yet, and its end then begins the task again.
    pub fn unpark(&self) {
        self.show(|view| {
            if matches!(view.state, TaskState::Parked(_)) {
                view.state = TaskState::Running;
                view.waits_for = None;
            }
        });
    }

    /// Shows an end, once; a task that ended does not count as live any more.
    pub fn end(&self, state: TaskState) {
        self.show(|view| {
            if view.state == TaskState::Running || matches!(view.state, TaskState::Parked(_)) {
                self.live.fetch_sub(1, Ordering::Relaxed);
            }
            view.state = state;
            view.waits_for = None;
        });
    }
}
