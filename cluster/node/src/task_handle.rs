//! The caller's end of a task.

use std::marker::PhantomData;
use std::sync::Arc;

use keybaton_actors::program::{Program, decode_state};
use keybaton_actors::task_table::{TaskEntry, TaskView};
use keybaton_messages::TaskKey;
use keybaton_ports::TaskState;

use crate::error::TaskFailure;

/// Follows one task. Dropping it leaves the task alone.
pub struct TaskHandle<P> {
    key: TaskKey,
    entry: Arc<TaskEntry>,
    program: PhantomData<fn() -> P>,
}

impl<P: Program> TaskHandle<P> {
    pub(crate) fn new(key: TaskKey, entry: Arc<TaskEntry>) -> Self {
        Self { key, entry, program: PhantomData }
    }

    /// Which task.
    #[must_use]
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// Where it stands.
    #[must_use]
    pub fn view(&self) -> TaskView {
        self.entry.view()
    }

    /// Asks the task to end at its next step boundary; a step is never cut.
    pub fn cancel(&self) {
        self.entry.cancel();
    }

    /// Waits for the task's end and returns its last state.
    ///
    /// # Errors
    /// [`TaskFailure`] when it ended without a result, or a person must look first.
    pub async fn join(self) -> Result<P::State, TaskFailure> {
        match self.entry.stopped().await.state {
            TaskState::Done(output) => Ok(decode_state(&output)?),
            TaskState::Failed(why) => Err(TaskFailure::Failed(why)),
            TaskState::Parked(why) => Err(TaskFailure::Parked(why)),
            TaskState::Cancelled => Err(TaskFailure::Cancelled),
            TaskState::Running => Err(TaskFailure::NodeStopped),
        }
    }
}
