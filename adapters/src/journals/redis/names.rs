//! What lies where: one hash for each kind of row of each pair and of each task.
//!
//! Names stand readable in keys and fields, as do the numbers that the script compares; every other
//! value is sealed, bound to its table and key as in the embedded store.

use keybaton_messages::{NodeId, PairId, TaskKey, Version};

use crate::journals::book::ClaimKey;
use data_encoding::HEXLOWER;

/// The form of all of this. A store of another number is refused.
pub(super) const SCHEMA: &str = "1";

/// The store itself: `schema`, `id`, `identity`, `time` (milliseconds), `writes`.
pub(super) const STORE: &str = "keybaton:store";

/// Which process works on the store: `process`, `whose`, `until` (the server's milliseconds).
pub(super) const OWNER: &str = "keybaton:owner";

/// Node -> its present incarnation.
pub(super) const LIVES: &str = "keybaton:lives";

/// `tenant/provider` -> whether it has work, and when it is due, for each pair with a record.
pub(super) const PAIRS: &str = "keybaton:pairs";

/// A key at its provider, or a secret -> who has it, sealed. Never given up.
pub(super) const CLAIMS: &str = "keybaton:claims";

/// `tenant/task` -> 1.
pub(super) const TASKS: &str = "keybaton:tasks";

/// The hashes of one pair.
pub(super) struct PairKeys {
    /// The pair's field in [`PAIRS`].
    pub(super) name: String,
    /// `at` (epoch, revision, number of writes), `record`, `head` (of the audit).
    pub(super) pair: String,
    /// Version and node -> grant.
    pub(super) grants: String,
    /// Number -> audit record.
    pub(super) audit: String,
    /// Digest of kind and what makes it unique -> number of its audit record.
    pub(super) facts: String,
    /// Revision and place -> event.
    pub(super) outbox: String,
}

impl PairKeys {
    pub(super) fn new(pair: &PairId) -> Self {
        let name = format!("{}/{}", pair.tenant, pair.provider);
        let key = |kind: &str| format!("keybaton:{kind}:{name}");
        let (pair, grants, audit) = (key("pair"), key("grants"), key("audit"));
        let (facts, outbox) = (key("facts"), key("outbox"));
        Self { name, pair, grants, audit, facts, outbox }
    }
}

pub(super) fn read_pair(name: &str) -> Option<PairId> {
    let (tenant, provider) = name.split_once('/')?;
    Some(PairId::new(tenant.parse().ok()?, provider.parse().ok()?))
}

/// The hashes of one task.
pub(super) struct TaskKeys {
    /// The task's field in [`TASKS`].
    pub(super) name: String,
    /// `born`, `epoch`, `rev`, `tail`, `checkpoint`, `state`, `left`, `has_ended`, `spec`.
    pub(super) task: String,
    /// Number -> entry.
    pub(super) steps: String,
}

impl TaskKeys {
    pub(super) fn new(key: &TaskKey) -> Self {
        let name = format!("{}/{}", key.tenant, key.task);
        let (task, steps) = (format!("keybaton:task:{name}"), format!("keybaton:steps:{name}"));
        Self { name, task, steps }
    }
}

pub(super) fn read_task(name: &str) -> Option<TaskKey> {
    let (tenant, task) = name.split_once('/')?;
    Some(TaskKey { tenant: tenant.parse().ok()?, task: task.parse().ok()? })
}

/// A grant's field.
pub(super) fn grant_field(version: Version, node: &NodeId) -> String {
    format!("{} {node}", version.0)
}

pub(super) fn read_grant(field: &str) -> Option<(Version, NodeId)> {
    let (version, node) = field.split_once(' ')?;
    Some((Version(version.parse().ok()?), node.parse().ok()?))
}

/// An event's field.
pub(super) fn event_field(rev: u64, place: u64) -> String {
    format!("{rev} {place}")
}

pub(super) fn read_event(field: &str) -> Option<(u64, u64)> {
    let (rev, place) = field.split_once(' ')?;
    Some((rev.parse().ok()?, place.parse().ok()?))
}

/// A claim's field.
pub(super) fn claim_field(claim: &ClaimKey) -> String {
    match claim {
        ClaimKey::Key(provider, key) => format!("key {provider} {key}"),
        ClaimKey::Secret(fp) => format!("secret {}", HEXLOWER.encode(&fp.0)),
    }
}
