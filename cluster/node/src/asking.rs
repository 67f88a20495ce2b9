//! Asks a pair for something until it answers.
//!
//! An actor that ends with a trigger in its mailbox answers nothing. The same trigger id is the
//! same trigger, so it is simply sent again.

use std::sync::Weak;

use backon::Retryable;
use keybaton_actors::scheduler::SchedulerMessage;
use keybaton_actors::shared::Shared;
use keybaton_messages::PairId;
use keybaton_rotation::{Reply, Trigger};
use tokio::sync::oneshot;

use crate::error::OrderError;
use crate::limits::ASK_RETRY;

/// Sends a trigger until it is answered. Does not keep the node alive.
///
/// # Errors
/// [`OrderError::NoAnswer`] when the node ends, or nobody answers for too long.
pub(crate) async fn ask(
    node: &Weak<Shared>,
    pair: &PairId,
    trigger: &Trigger,
) -> Result<Reply, OrderError> {
    let ask = async || {
        let shared =
            node.upgrade().filter(|shared| !shared.tasks.is_stopping()).ok_or(Silence::ForEver)?;
        let (port, answer) = oneshot::channel();
        shared.scheduler.cast(SchedulerMessage::Trigger(pair.clone(), trigger.clone(), port));
        drop(shared);
        answer.await.map_err(|_| Silence::NotYet)
    };
    let answer = ask.retry(ASK_RETRY).when(|silence| matches!(silence, Silence::NotYet));
    answer.await.map_err(|_| OrderError::NoAnswer)
}

/// Why nobody answered.
enum Silence {
    /// The actor ended; another one takes its place.
    NotYet,
    /// The node has ended, or is about to.
    ForEver,
}
