//! When resting tasks go on: one wheel for all of them, since a timer of its own is a task of the
//! runtime, with as much memory as a small agent.
//!
//! **Invariant:** every rest rings once, at its end or after [`REST_WAIT_MAX`]; who is told looks
//! whether it is over, and whether it was cut short.

use std::sync::OnceLock;
use std::time::Duration;

use futures::StreamExt;
use ractor::ActorRef;
use tokio::sync::mpsc;
use tokio_util::time::DelayQueue;

use crate::limits::REST_WAIT_MAX;
use crate::task_actor::TaskMessage;

/// The way to the wheel, which starts with the first rest and ends with the node.
#[derive(Default)]
pub struct Rests(OnceLock<mpsc::UnboundedSender<Rest>>);

struct Rest {
    wait: Duration,
    ring: Ring,
}

/// Who is told, and the number of its turn.
struct Ring {
    actor: ActorRef<TaskMessage>,
    turn: u64,
}

impl Rests {
    /// Tells the task to take this turn after `wait`. Call it inside of the node's runtime.
    pub(crate) fn ring_after(&self, wait: Duration, actor: &ActorRef<TaskMessage>, turn: u64) {
        let wheel = self.0.get_or_init(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(turn_wheel(receiver));
            sender
        });
        let ring = Ring { actor: actor.clone(), turn };
        let rest = Rest { wait: wait.min(REST_WAIT_MAX), ring };
        if let Err(mpsc::error::SendError(Rest { wait, ring })) = wheel.send(rest) {
            // The wheel broke; a task must not rest for ever.
            let _timer = actor.send_after(wait, move || TaskMessage::Turn(ring.turn));
        }
    }
}

async fn turn_wheel(mut receiver: mpsc::UnboundedReceiver<Rest>) {
    let mut queue = DelayQueue::new();
    loop {
        tokio::select! {
            rest = receiver.recv() => {
                let Some(Rest { wait, ring }) = rest else { return };
                queue.insert(ring, wait);
            }
            Some(over) = queue.next() => {
                let Ring { actor, turn } = over.into_inner();
                // An actor that is gone takes its next life's first turn by itself.
                let _ = actor.cast(TaskMessage::Turn(turn));
            }
        }
    }
}
