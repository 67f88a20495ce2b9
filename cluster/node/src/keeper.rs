//! Keeps the root of the actors alive, and takes up what an earlier process left.

use std::collections::BTreeSet;
use std::sync::Arc;

use keybaton_actors::limits::{RESTART_AFTER_MAX, RESTART_AFTER_MIN};
use keybaton_actors::shared::Shared;
use keybaton_actors::supervisor::{Supervisor, SupervisorMessage};
use keybaton_messages::PairId;
use keybaton_ports::TaskState;
use ractor::{Actor, ActorRef};

use crate::error::StartError;
use crate::stores::first_stop;

/// Tasks that had not ended when the process did are worked on again.
///
/// Returns their pairs: the process may have ended before it had asked for their first keys.
pub(crate) async fn admit_unfinished(shared: &Shared) -> Result<BTreeSet<PairId>, StartError> {
    let rows = shared.ports.tasks.list(None).await.map_err(StartError::Store)?;
    let mut pairs = BTreeSet::new();
    for row in rows.into_iter().filter(|row| row.state == TaskState::Running) {
        if shared.tasks.admit(&row.key).is_err() {
            tracing::warn!(task = %row.key, "more unfinished tasks than this node admits");
        }
        pairs.insert(PairId::new(row.key.tenant, row.spec.provider));
    }
    Ok(pairs)
}

/// Starts the root actor again when it breaks.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    mut root: ActorRef<SupervisorMessage>,
    mut ended: tokio::task::JoinHandle<()>,
) {
    let mut restarts = 0u32;
    loop {
        let _ = ended.await;
        drop(root);
        if shared.tasks.is_stopping() {
            return;
        }
        loop {
            let wait = RESTART_AFTER_MIN.saturating_mul(1 << restarts.min(10));
            tokio::time::sleep(wait.min(RESTART_AFTER_MAX)).await;
            restarts = restarts.saturating_add(1);
            tracing::error!(restarts, "the root supervisor ended; it is started again");
            match Actor::spawn(None, Supervisor(shared.clone()), ()).await {
                Ok(spawned) => {
                    (root, ended) = spawned;
                    break;
                }
                Err(error) => tracing::error!(%error, "the root supervisor did not start"),
            }
        }
    }
}

/// A store that has stopped for good, or belongs to another process, takes the node with it: nothing that is decided from here on
/// could be remembered.
pub(crate) async fn stop_with_store(
    shared: Arc<Shared>,
    stops: Vec<tokio::sync::watch::Receiver<Option<String>>>,
) {
    let why = first_stop(stops).await;
    tracing::error!(page = true, why, "a store stopped; end this process and start it again");
    shared.fence.raise();
}
