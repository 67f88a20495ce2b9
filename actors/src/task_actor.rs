//! One agent task: a step at a time, each result durable before the next step begins.
//!
//! A TaskActor takes one turn after the other: a boundary and the step behind it. At the boundary it
//! compares the version that it holds with the one to hold, and hands over: finish the step,
//! persist, release, acquire, go on. Turns that are short follow each other within one message that
//! it sends itself; a message for each would cost as much as a quarter of such a turn.
//!
//! **Invariant:** a step is never cut by a normal rotation.
//! **Invariant:** a result is never lost once `append` returned, and never written twice.

mod persist;
mod resume;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::{TaskEpoch, TaskKey, Version};
use keybaton_ports::CheckpointRef;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use self::turn::Turn;
use crate::credential::{CredentialHandle, SessionLease};
use crate::limits::{MESSAGE_MAX, TURNS_PER_MESSAGE_MAX};
use crate::program::Running;
use crate::shared::Shared;
use crate::task_table::TaskEntry;

/// What a TaskActor is told.
pub enum TaskMessage {
    /// Go on. A number that is not the one awaited belongs to a rest that was cut short.
    Turn(u64),
    /// If you rest: look whether you should hand over or stop.
    Wake,
}

impl ractor::Message for TaskMessage {}

/// Works on one task.
pub struct TaskActor;

/// What a TaskActor starts with.
pub struct TaskArguments {
    /// The node.
    pub shared: Arc<Shared>,
    /// Which task.
    pub key: TaskKey,
    /// Its entry in the node's table.
    pub entry: Arc<TaskEntry>,
}

/// A task at work.
pub struct TaskWork {
    shared: Arc<Shared>,
    key: TaskKey,
    entry: Arc<TaskEntry>,
    started: Option<Box<Started>>,
    awaited: u64,
}

/// What a claimed task has.
struct Started {
    running: Box<dyn Running>,
    credential: CredentialHandle,
    session: Option<SessionLease>,
    /// Slot that the task knows; another one at a boundary means a hand-over.
    seen: Option<(Version, u64)>,
    epoch: TaskEpoch,
    rev: u64,
    n: u64,
    since_checkpoint: u64,
    /// The checkpoint that the newest row names, where it lies in a store of its own.
    checkpoint: Option<Box<CheckpointRef>>,
    /// The step was begun and its end is not known.
    cut: bool,
    ended_at: Option<Instant>,
    handing_over: bool,
    rest_until: Option<Instant>,
}

impl Started {
    fn rest_left(&self) -> Option<Duration> {
        let left = self.rest_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Why the actor stops working on the task.
enum Stop {
    /// The task ended, is parked, or the node stops: nothing more to do here.
    Quietly,
    /// Somebody else has the task, or the journal does not make sense: start again from it.
    Broken(String),
}

impl Actor for TaskActor {
    type Msg = TaskMessage;
    /// Boxed, because an actor's future holds its state several times.
    type State = Box<TaskWork>;
    type Arguments = TaskArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<TaskMessage>,
        arguments: TaskArguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let TaskArguments { shared, key, entry } = arguments;
        entry.set_actor(Some(myself.clone()));
        myself.cast(TaskMessage::Turn(0))?;
        Ok(Box::new(TaskWork { shared, key, entry, started: None, awaited: 0 }))
    }

    /// Boxed as a whole, so that an idle task does not carry the size of its busiest moment.
    fn handle(
        &self,
        myself: ActorRef<TaskMessage>,
        message: TaskMessage,
        work: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        Box::pin(work.hear(myself, message))
    }
}

impl TaskWork {
    async fn hear(
        &mut self,
        myself: ActorRef<TaskMessage>,
        message: TaskMessage,
    ) -> Result<(), ActorProcessingErr> {
        let is_rung = match message {
            TaskMessage::Turn(number) if number == self.awaited => true,
            TaskMessage::Wake if self.rest_left().is_some() => false,
            TaskMessage::Turn(_) | TaskMessage::Wake => return Ok(()),
        };
        match self.turns().await {
            Ok(()) => match self.rest_left() {
                None => myself.cast(TaskMessage::Turn(self.await_next())).map_err(Into::into),
                // Whoever was woken in its rest is rung at the end of it all the same.
                Some(_) if !is_rung => Ok(()),
                Some(left) => {
                    let turn = self.await_next();
                    self.shared.rests.ring_after(left, &myself, turn);
                    Ok(())
                }
            },
            Err(Stop::Quietly) => {
                self.entry.leave(myself.get_id());
                myself.stop(None);
                Ok(())
            }
            Err(Stop::Broken(why)) => Err(why.into()),
        }
    }

    fn await_next(&mut self) -> u64 {
        self.awaited += 1;
        self.awaited
    }

    /// `None` when the task does not rest.
    fn rest_left(&self) -> Option<Duration> {
        self.started.as_ref().and_then(|started| started.rest_left())
    }

    /// Turns until the task rests, or another message may have its say.
    async fn turns(&mut self) -> Result<(), Stop> {
        let begun = Instant::now();
        for _ in 0..TURNS_PER_MESSAGE_MAX {
            self.turn().await?;
            if self.rest_left().is_some() || begun.elapsed() >= MESSAGE_MAX {
                break;
            }
            // An actor that is being killed notices it here, not in the middle of its next step.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// One boundary and, unless the task rests, one step.
    async fn turn(&mut self) -> Result<(), Stop> {
        if self.started.is_none() {
            self.started = Some(Box::new(Box::pin(self.claim()).await?));
        }
        let started = self.started.as_mut().expect("claimed above");
        let mut turn = Turn { shared: &self.shared, key: &self.key, entry: &self.entry, started };
        turn.obey_stop().await?;
        turn.take_credential().await?;
        if turn.started.rest_left().is_some() {
            turn.note_pause();
            return Ok(());
        }
        turn.started.rest_until = None;
        turn.step().await
    }
}
