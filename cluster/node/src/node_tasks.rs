//! The tasks of a node: spawn, follow, list, read, forget.

use std::sync::Arc;

use backon::Retryable;
use keybaton_actors::limits::SPAWN_BUSY_AFTER;
use keybaton_actors::program::{Program, decode_state, encode_state};
use keybaton_actors::supervisor::SupervisorMessage;
use keybaton_actors::task_table::{Full, TaskView};
use keybaton_messages::{PairId, TaskEpoch, TaskId, TaskKey, TenantId, TriggerId};
use keybaton_ports::{TaskError, TaskRow, TaskSpec, TaskState};
use keybaton_rotation::{Trigger, Want};

use crate::asking::ask;
use crate::error::{OrderError, SpawnError, TaskFailure};
use crate::limits::CREATE_RETRY;
use crate::node::Node;
use crate::task_handle::TaskHandle;

impl Node {
    /// Spawns a task, or follows it if a task of this id with the same input is there already.
    /// The pair's first key is asked for if it has none.
    ///
    /// # Errors
    /// [`SpawnError`]; `Busy` says when to try again.
    pub async fn spawn<P: Program>(
        &self,
        tenant: &str,
        provider: &str,
        task: &str,
        state: P::State,
    ) -> Result<TaskHandle<P>, SpawnError> {
        let pair = self.pair(tenant, provider).map_err(|error| match error {
            OrderError::Name(bad) => SpawnError::Name(bad),
            _ => SpawnError::UnknownProvider(provider.to_owned()),
        })?;
        let key = TaskKey { tenant: pair.tenant.clone(), task: TaskId::new(task)? };
        if self.shared().tasks.is_stopping() {
            return Err(SpawnError::Stopping);
        }
        if !self.shared().programs.knows(P::KIND) {
            return Err(SpawnError::UnknownKind(P::KIND));
        }
        let spec = TaskSpec {
            kind: P::KIND.to_owned(),
            provider: pair.provider.clone(),
            input: encode_state(&state)?,
            spawned_at: self.shared().ports.clock.now(),
        };
        let (entry, is_new) = self
            .shared()
            .tasks
            .admit(&key)
            .map_err(|Full| SpawnError::Busy { after: SPAWN_BUSY_AFTER })?;
        match self.create(&key, &spec).await {
            Ok(row) => match row.state {
                TaskState::Running if row.epoch == TaskEpoch(0) => entry.note_unclaimed(),
                TaskState::Running | TaskState::Parked(_) => {}
                ended => entry.end(ended),
            },
            Err(error) => {
                if is_new {
                    entry.end(TaskState::Cancelled);
                    self.shared().tasks.remove(&key);
                }
                return Err(error.into());
            }
        }
        self.ask_for_first_key(pair);
        if is_new {
            self.shared().supervisor.cast(SupervisorMessage::Task(key.clone()));
        }
        Ok(TaskHandle::new(key, entry))
    }

    /// Asks once in the life of this process. The answer is the pair's own business; the task
    /// waits at the gate either way.
    pub(crate) fn ask_for_first_key(&self, pair: PairId) {
        if !self.provisioned.insert(pair.clone()) {
            return;
        }
        let id = TriggerId::new("provision").expect("a word is a trigger id");
        let node = Arc::downgrade(self.shared());
        tokio::spawn(async move {
            let trigger = Trigger { id, want: Want::Provision };
            if let Err(error) = ask(&node, &pair, &trigger).await {
                tracing::warn!(%pair, %error, "the first key was not asked for");
            }
        });
    }

    /// Follows a task of this node.
    #[must_use]
    pub fn task<P: Program>(&self, tenant: &str, task: &str) -> Option<TaskHandle<P>> {
        let key = TaskKey { tenant: TenantId::new(tenant).ok()?, task: TaskId::new(task).ok()? };
        self.shared().tasks.get(&key).map(|entry| TaskHandle::new(key, entry))
    }

    /// The tasks of one tenant, or of all, with where each stands.
    #[must_use]
    pub fn tasks(&self, tenant: Option<&TenantId>) -> Vec<(TaskKey, TaskView)> {
        self.shared().tasks.list(tenant)
    }

    /// The result of a task that is done, also one of an earlier process. `None` while it works.
    ///
    /// # Errors
    /// [`TaskFailure`] when it ended without a result; [`SpawnError`]'s names and journal errors
    /// come as [`TaskFailure::Unread`].
    pub async fn output<P: Program>(
        &self,
        tenant: &str,
        task: &str,
    ) -> Result<Option<P::State>, TaskFailure> {
        let unread = |why: String| TaskFailure::Unread(why);
        let tenant = TenantId::new(tenant).map_err(|bad| unread(bad.to_string()))?;
        let rows = self.shared().ports.tasks.list(Some(&tenant)).await;
        let rows = rows.map_err(|refusal| unread(refusal.to_string()))?;
        let row = rows.into_iter().find(|row| row.key.task.as_str() == task);
        match row.map(|row| row.state) {
            None => Err(unread(format!("there is no task {task:?} of {tenant}"))),
            Some(TaskState::Done(output)) => Ok(Some(decode_state(&output)?)),
            Some(TaskState::Running) => Ok(None),
            Some(TaskState::Parked(why)) => Err(TaskFailure::Parked(why)),
            Some(TaskState::Failed(why)) => Err(TaskFailure::Failed(why)),
            Some(TaskState::Cancelled) => Err(TaskFailure::Cancelled),
        }
    }

    /// Lets a parked task work on: a person has looked.
    ///
    /// # Errors
    /// [`SpawnError::Name`] for a bad name; [`SpawnError::Journal`] when there is no such task.
    pub fn unpark(&self, tenant: &str, task: &str) -> Result<(), SpawnError> {
        let key = TaskKey { tenant: TenantId::new(tenant)?, task: TaskId::new(task)? };
        let entry = self.shared().tasks.get(&key).ok_or(TaskError::NotFound)?;
        entry.unpark();
        self.shared().supervisor.cast(SupervisorMessage::Task(key));
        Ok(())
    }

    /// Forgets a task that has ended, with all that the journal has of it.
    ///
    /// # Errors
    /// [`SpawnError::Name`] or [`SpawnError::Journal`], also for a task that has not ended.
    pub async fn forget(&self, tenant: &str, task: &str) -> Result<(), SpawnError> {
        let key = TaskKey { tenant: TenantId::new(tenant)?, task: TaskId::new(task)? };
        self.shared().ports.tasks.forget(&key).await?;
        self.shared().tasks.remove(&key);
        Ok(())
    }

    /// Creating twice is creating once, so an unknown outcome is simply asked again.
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        let create = || self.shared().ports.tasks.create(key, spec);
        let is_asked_again =
            |error: &TaskError| matches!(error, TaskError::Unknown(_) | TaskError::Unavailable(_));
        create.retry(CREATE_RETRY).when(is_asked_again).await
    }
}
