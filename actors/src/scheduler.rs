//! Knows when idle pairs are due, and takes triggers in from outside.
//!
//! One timer wheel for all pairs; no poll over all of them.
//!
//! **Invariant:** rotates nothing itself; it tells the pair that its time has come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use keybaton_messages::{PairId, Timestamp};
use keybaton_rotation::{Input, Order, Timer, Trigger};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::time::{DelayQueue, delay_queue};

use crate::rotation_actor::{ReplyPort, RotationMessage};
use crate::shared::Shared;

/// What the Scheduler is told.
pub enum SchedulerMessage {
    /// The pair's next rotation by time is due then.
    Due(PairId, Timestamp),
    /// Somebody wants something of a pair.
    Trigger(PairId, Trigger, ReplyPort),
    /// An operator orders something of a pair.
    Order(PairId, Order, ReplyPort),
}

impl ractor::Message for SchedulerMessage {}

/// Owns the wheel.
pub struct Scheduler(pub Arc<Shared>);

/// The wheel's way in.
pub struct Wheel(tokio::sync::mpsc::UnboundedSender<(PairId, Duration)>);

impl Actor for Scheduler {
    type Msg = SchedulerMessage;
    type State = Wheel;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<SchedulerMessage>,
        (): (),
    ) -> Result<Wheel, ActorProcessingErr> {
        self.0.scheduler.set(myself.clone());
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        // Ends when the Scheduler drops its way in.
        tokio::spawn(turn(self.0.clone(), receiver));
        let pairs = self.0.ports.journal.pairs().await;
        for summary in pairs.map_err(|refusal| refusal.to_string())? {
            if let Some(at) = summary.next_rotate_at {
                myself.cast(SchedulerMessage::Due(summary.pair, at))?;
            }
        }
        Ok(Wheel(sender))
    }

    async fn handle(
        &self,
        _myself: ActorRef<SchedulerMessage>,
        message: SchedulerMessage,
        wheel: &mut Wheel,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SchedulerMessage::Due(pair, at) => {
                let wait = self.0.ports.clock.now().until(at);
                wheel.0.send((pair, wait)).map_err(|_| "the timer wheel stopped")?;
            }
            SchedulerMessage::Trigger(pair, trigger, reply) => {
                self.0.to_pair(&pair, RotationMessage::Triggered(trigger, reply));
            }
            SchedulerMessage::Order(pair, order, reply) => {
                self.0.to_pair(&pair, RotationMessage::Ordered(order, reply));
            }
        }
        Ok(())
    }
}

/// Longest wait that is set at once: the wheel has a range of two years, and a pair whose date is
/// further away is simply asked again then.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

async fn turn(
    shared: Arc<Shared>,
    mut receiver: tokio::sync::mpsc::UnboundedReceiver<(PairId, Duration)>,
) {
    let mut queue = DelayQueue::new();
    let mut keys: HashMap<PairId, delay_queue::Key> = HashMap::new();
    loop {
        tokio::select! {
            due = receiver.recv() => {
                let Some((pair, wait)) = due else { return };
                let key = queue.insert(pair.clone(), wait.min(WAIT_MAX));
                if let Some(replaced) = keys.insert(pair, key) {
                    queue.try_remove(&replaced);
                }
            }
            Some(expired) = queue.next() => {
                let pair = expired.into_inner();
                keys.remove(&pair);
                shared.to_pair(&pair, RotationMessage::Happened(Input::Elapsed(Timer::Rotate)));
            }
        }
    }
}
