//! Asks a pair for something until it answers.
//!
//! An actor that ends with a trigger in its mailbox answers nothing. The same trigger id is the
//! same trigger, so it is simply sent again.

use std::sync::Weak;

use keybaton_actors::limits::{RESTART_AFTER_MAX, RESTART_AFTER_MIN};
use keybaton_actors::scheduler::SchedulerMessage;
use keybaton_actors::shared::Shared;
use keybaton_messages::PairId;
use keybaton_rotation::{Reply, Trigger};
use tokio::sync::oneshot;

use crate::error::OrderError;

/// With the pauses of restarts between them, ten tries are more than half a minute: an actor that
/// has not come back by then will not be back soon.
const TRIES_MAX: u32 = 10;

/// Sends a trigger until it is answered. Does not keep the node alive.
///
/// # Errors
/// [`OrderError::NoAnswer`] when the node ends, or nobody answers for too long.
pub(crate) async fn ask(
    node: &Weak<Shared>,
    pair: &PairId,
    trigger: &Trigger,
) -> Result<Reply, OrderError> {
    let mut wait = RESTART_AFTER_MIN;
    for _ in 0..TRIES_MAX {
        let Some(shared) = node.upgrade().filter(|shared| !shared.tasks.is_stopping()) else {
            break;
        };
        let (port, answer) = oneshot::channel();
        shared.scheduler.cast(SchedulerMessage::Trigger(pair.clone(), trigger.clone(), port));
        drop(shared);
        if let Ok(reply) = answer.await {
            return Ok(reply);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RESTART_AFTER_MAX);
    }
    Err(OrderError::NoAnswer)
}
