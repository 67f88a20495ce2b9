//! What lies where. What every commit of a pair writes lies in hashes that all pairs share, so that
//! a commit of many is a few commands; what grows with a pair, and all of a task, in hashes of its
//! own.
//!
//! Names stand readable in keys and fields, as does what the script compares ([`AT`]); every other
//! value is sealed, bound to its table and key as in the embedded store.

use keybaton_messages::{NodeId, PairId, TaskKey, Version};

use crate::journals::book::ClaimKey;
use data_encoding::HEXLOWER;

/// The form of all of this. A store of another number is refused.
pub(super) const SCHEMA: &str = "2";

/// The store itself: `schema`, `id`, `identity`, `time` (milliseconds), `writes`.
pub(super) const STORE: &str = "keybaton:store";

/// Which process works on the store: `process`, `whose`, `until` (the server's milliseconds).
pub(super) const OWNER: &str = "keybaton:owner";

/// Node -> its present incarnation.
pub(super) const LIVES: &str = "keybaton:lives";

/// `tenant/provider` -> whether it has work, and when it is due, for each pair with a record.
pub(super) const PAIRS: &str = "keybaton:pairs";

/// `tenant/provider` -> where the pair stands: epoch, revision, number of writes, last transaction,
/// number and hash of the last audit record. No two states ever have the same ones. Longer than the
/// 64 bytes up to which Redis keeps a small hash as a list and looks at one entry after the other
/// (`hash-max-listpack-value`).
pub(super) const AT: &str = "keybaton:at";

/// `tenant/provider` -> the pair's record.
pub(super) const RECORDS: &str = "keybaton:records";

/// `tenant/provider` -> the end of the pair's audit.
pub(super) const HEADS: &str = "keybaton:heads";

/// A key at its provider, or a secret -> who has it, sealed. Never given up.
pub(super) const CLAIMS: &str = "keybaton:claims";

/// `tenant/task` -> 1.
pub(super) const TASKS: &str = "keybaton:tasks";

/// What is called after one pair.
pub(super) struct PairKeys {
    /// The pair's field in the hashes that all pairs share.
    pub(super) name: String,
}

impl PairKeys {
    pub(super) fn new(pair: &PairId) -> Self {
        Self { name: [pair.tenant.as_str(), "/", pair.provider.as_str()].concat() }
    }

    /// Version and node -> grant.
    pub(super) fn grants(&self) -> String {
        self.key("grants")
    }

    /// Number -> audit record.
    pub(super) fn audit(&self) -> String {
        self.key("audit")
    }

    /// Digest of kind and what makes it unique -> number of its audit record.
    pub(super) fn facts(&self) -> String {
        self.key("facts")
    }

    /// Revision and place -> event.
    pub(super) fn outbox(&self) -> String {
        self.key("outbox")
    }

    fn key(&self, kind: &str) -> String {
        format!("keybaton:{kind}:{}", self.name)
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
