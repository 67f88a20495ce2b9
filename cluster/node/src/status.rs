//! What a node says of itself: phases, why they wait, timers, holders, obligations, tasks.
//!
//! The same document explains a running node (asked over its socket) and a stopped directory
//! (read from its store).
//!
//! **Invariant:** a status holds names and numbers, never a key.

use std::path::Path;
use std::sync::Arc;

use keybaton_actors::shared::Shared;
use keybaton_messages::{PairId, Timestamp, Version};
use keybaton_ports::{Journal, Refusal, TaskJournal, TaskState};
use keybaton_rotation::{PairRecord, VersionEntry, explain};
use serde::{Deserialize, Serialize};

use crate::error::StartError;
use crate::limits::HOLDERS_NAMED;
use crate::status_server;
use crate::stores::{StoreNames, open_stopped};

/// A node, as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Version of this document.
    pub schema: u32,
    /// Whether a process works on the directory.
    pub running: bool,
    /// Store time of the answer, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where the node keeps what.
    #[serde(default)]
    pub stores: StoreNames,
    /// Every pair.
    pub pairs: Vec<PairStatus>,
    /// All tasks.
    pub tasks: TaskCounts,
}

/// A pair, as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairStatus {
    /// `tenant/provider`.
    pub pair: String,
    /// The rotation that runs, or ran last.
    pub rotation: Option<String>,
    /// One of the seven words, or `IDLE` before the first rotation.
    pub shown: String,
    /// The phase by its own name.
    pub phase: String,
    /// Why it stands there, in words.
    pub why: String,
    /// The next timer and how many milliseconds are left.
    pub next: Option<(String, u64)>,
    /// The version that is handed out.
    pub active: Option<u32>,
    /// Open, or why it is paused.
    pub gate: String,
    /// What is known of each version.
    pub versions: Vec<KeyStatus>,
    /// Holders per version; only a running node knows them.
    pub holders: Vec<HolderStatus>,
    /// How many callers wait at the gate; only a running node knows.
    pub waiting: usize,
    /// What is still owed.
    pub obligations: Vec<String>,
    /// Why the pair was stopped, if it was.
    pub stopped: Option<String>,
}

/// A version: what lies beside its key in the secret store, and where it stands.
///
/// The status is the record's alone. A store of versions that cannot be changed, as Vault is, could
/// only note it in a newer version, which would then hold an old key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Its number.
    pub version: u32,
    /// Where it stands, such as `ACTIVE` or `DRAINING`.
    pub status: String,
    /// Under which number the secret store has, or had, its key.
    pub secret: Option<u64>,
    /// The provider's name for the key.
    pub provider_key_id: Option<String>,
    /// When it was issued, milliseconds since the Unix epoch.
    pub issued_at_ms: Option<u64>,
    /// When it ends by itself, milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// Who holds one version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HolderStatus {
    /// Which version.
    pub version: u32,
    /// How many leases.
    pub leases: u64,
    /// Some of the tasks.
    pub tasks: Vec<String>,
}

/// Tasks by state.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the state it counts")]
pub struct TaskCounts {
    pub running: usize,
    pub parked: usize,
    pub done: usize,
    pub failed: usize,
    pub cancelled: usize,
}

/// Reads the status of a directory: from the process that works on it, or from the store.
///
/// # Errors
/// [`StartError`] when there is no keybaton directory, or its process does not answer.
pub async fn read_status(dir: &Path, key_file: Option<&Path>) -> Result<NodeStatus, StartError> {
    if let Some(status) = status_server::ask(dir).await {
        return Ok(status);
    }
    let stores = open_stopped(dir, key_file).await?;
    let now = stores.clock.now();
    let status =
        collect(stores.journal.as_ref(), stores.tasks.as_ref(), now, &stores.names, None).await;
    status.map_err(StartError::Store)
}

/// Collects the status of this process's node.
pub(crate) async fn of_node(
    shared: &Arc<Shared>,
    stores: &StoreNames,
) -> Result<NodeStatus, Refusal> {
    let ports = &shared.ports;
    let now = ports.clock.now();
    collect(ports.journal.as_ref(), ports.tasks.as_ref(), now, stores, Some(shared)).await
}

async fn collect(
    journal: &dyn Journal,
    tasks: &dyn TaskJournal,
    now: Timestamp,
    stores: &StoreNames,
    node: Option<&Arc<Shared>>,
) -> Result<NodeStatus, Refusal> {
    let mut pairs = Vec::new();
    for summary in journal.pairs().await? {
        if let Some(stored) = journal.load(&summary.pair).await? {
            pairs.push(pair_status(&stored.record, now, node));
        }
    }
    pairs.sort_by(|a, b| a.pair.cmp(&b.pair));
    let mut counts = TaskCounts::default();
    for row in tasks.list(None).await? {
        *match row.state {
            TaskState::Running => &mut counts.running,
            TaskState::Parked(_) => &mut counts.parked,
            TaskState::Done(_) => &mut counts.done,
            TaskState::Failed(_) => &mut counts.failed,
            TaskState::Cancelled => &mut counts.cancelled,
        } += 1;
    }
    Ok(NodeStatus {
        schema: 2,
        running: node.is_some(),
        at_ms: now.0,
        stores: stores.clone(),
        pairs,
        tasks: counts,
    })
}

fn pair_status(record: &PairRecord, now: Timestamp, node: Option<&Arc<Shared>>) -> PairStatus {
    let explanation = explain(record, now);
    let cell = node.map(|shared| shared.broker.cell(&record.pair));
    let holders = cell.as_ref().map_or_else(Vec::new, |cell| {
        record
            .versions
            .keys()
            .map(|version| HolderStatus {
                version: version.0,
                leases: cell.holder_count(*version),
                tasks: cell
                    .holders(*version)
                    .into_iter()
                    .take(HOLDERS_NAMED)
                    .map(|holder| holder.task.to_string())
                    .collect(),
            })
            .filter(|holder| holder.leases > 0)
            .collect()
    });
    PairStatus {
        pair: record.pair.to_string(),
        rotation: record.rotation.as_ref().map(|rotation| rotation.id.to_string()),
        shown: explanation.shown.map_or_else(|| "IDLE".into(), |shown| shown.to_string()),
        phase: explanation.phase,
        why: explanation.why,
        next: explanation.next.map(|(timer, at)| {
            let left = u64::try_from(now.until(at).as_millis()).unwrap_or(u64::MAX);
            (format!("{timer:?}"), left)
        }),
        active: record.active.map(|version| version.0),
        gate: format!("{:?}", record.gate),
        versions: record.versions.iter().map(key_status).collect(),
        holders,
        waiting: cell.map_or(0, |cell| cell.waiting()),
        obligations: explanation.obligations,
        stopped: node.and_then(|shared| stopped(shared, &record.pair)),
    }
}

fn key_status((version, entry): (&Version, &VersionEntry)) -> KeyStatus {
    KeyStatus {
        version: version.0,
        status: entry.status.to_string(),
        secret: entry.secret.map(|secret| secret.0),
        provider_key_id: entry.key_id.as_ref().map(ToString::to_string),
        issued_at_ms: entry.issued_at.map(|at| at.0),
        expires_at_ms: entry.expires_at.map(|at| at.0),
    }
}

fn stopped(shared: &Shared, pair: &PairId) -> Option<String> {
    shared.views.watch(pair).borrow().stopped.clone()
}
