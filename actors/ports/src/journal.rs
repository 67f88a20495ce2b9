//! The record's store: one transaction for record, grants, audit and outbox.
//!
//! **Invariant:** a write whose epoch or revision is stale changes nothing.
//! **Invariant:** a transaction is never half there.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{
    Epoch, Event, EventKind, Fingerprint, GrantId, Incarnation, NodeId, PairId, Rev, SecretVersion,
    Timestamp, TxnId, Version, VersionStatus,
};
use keybaton_rotation::{AuditEntry, CopyGrants, Gate, Guard, PairRecord};
use thiserror::Error;

use crate::audit::SealedAudit;
use crate::refusal::Refusal;

/// One life of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeLife {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// A pair's record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPair {
    /// The record.
    pub record: Arc<PairRecord>,
    /// The transaction that wrote it.
    pub last_txn: TxnId,
}

/// What the start-up needs to know of a pair without reading its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSummary {
    /// Which pair.
    pub pair: PairId,
    /// A rotation runs, or something is owed.
    pub has_work: bool,
    /// When it is due by time.
    pub next_rotate_at: Option<Timestamp>,
}

/// One transaction on one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its name; asked again under the same name after an unknown outcome.
    pub id: TxnId,
    /// Who writes. Refused as fenced when another life of this node has started since.
    pub by: NodeLife,
    /// Epoch and revision that the stored record must have; (0, 0) for a pair that was never
    /// written.
    pub expect: (Epoch, Rev),
    /// The record to write.
    pub record: Arc<PairRecord>,
    /// Conditions, checked after epoch and revision.
    pub guards: Vec<Guard>,
    /// Grants to copy.
    pub grants: Option<CopyGrants>,
    /// Audit records; one whose (kind, dedupe) is already in the chain is left out.
    pub audit: Vec<AuditEntry>,
    /// Events to publish afterwards, stamped with the record's rotation and revision.
    pub outbox: Vec<(EventKind, Option<Version>, Option<Version>)>,
    /// Events up to this revision were published and may be forgotten.
    pub published: Option<Rev>,
}

/// A transaction that changed nothing, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// Another owner, or another life of this node, writes this pair.
    #[error("fenced: another owner writes this pair")]
    Fenced,
    /// The record has another revision than expected.
    #[error("conflict: the record changed meanwhile")]
    Conflict,
    /// A guard does not hold; nothing was written. `left` counts the grants in the way.
    #[error("guard refused: {guard:?}")]
    Refused {
        /// Which guard.
        guard: Guard,
        /// Valid grants that remain, for [`Guard::NoGrants`].
        left: u32,
    },
    /// It may or may not be written. The same transaction may be tried again.
    #[error("unknown outcome: {0}")]
    Unknown(String),
    /// Nothing was written; the store is away.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
    /// The stored bytes are not what was written; the pair must stop and a person must look.
    #[error("corrupt record: {0}")]
    Corrupt(String),
}

/// One grant of this node, with what a broker needs to hand the version out or to close it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// The version.
    pub version: Version,
    /// This grant.
    pub id: GrantId,
    /// The version's status in the record.
    pub status: VersionStatus,
}

/// How a pair stands for one node: the answer to everything that a broker asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Revision of the record this was read from.
    pub rev: Rev,
    /// May anyone acquire?
    pub gate: Gate,
    /// The active version with the pinned place and the fingerprint of its secret.
    pub active: Option<(Version, SecretVersion, Fingerprint)>,
    /// The valid grants of this node.
    pub grants: Vec<GrantRow>,
}

/// A grant operation that changed nothing, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Not allowed as things stand; the standing says why (not active, paused, still active).
    #[error("not granted as the pair stands")]
    Refused(Box<Standing>),
    /// There is no such pair.
    #[error("no such pair; provision it first")]
    NoPair,
    /// Another life of this node has started.
    #[error("fenced: another life of this node has started")]
    Fenced,
    /// It may or may not be written. The same operation may be tried again.
    #[error("unknown outcome: {0}")]
    Unknown(String),
    /// Nothing was written; the store is away.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
    /// The stored bytes are not what was written.
    #[error("corrupt record: {0}")]
    Corrupt(String),
}

/// Keeps pair records, grants, audit and outbox.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Begins a new life of `node`: grants of its older lives become void and are deleted; older
    /// lives are fenced from here on.
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal>;

    /// Every pair, those with work first.
    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal>;

    /// Reads a pair linearizably. `Corrupt` for bytes that are not what was written.
    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal>;

    /// Commits. Checked in this order: the stored `last_txn` equals `id` (already applied: `Ok`),
    /// epoch, revision, guards. Key claims follow from the record's versions. The audit of a forced
    /// revoke names the grants of its version that are out ([`crate::name_outstanding`]).
    async fn commit(&self, transaction: Transaction) -> Result<Rev, CommitError>;

    /// K1: grants `version` to this life of this node, if it is ACTIVE and the gate is open. A
    /// grant this life already has answers with the standing that shows it.
    async fn grant(
        &self,
        pair: &PairId,
        version: Version,
        to: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError>;

    /// Deletes the grant with this id, and no other. Refused while the version is ACTIVE.
    /// Returning one that is gone succeeds.
    async fn return_grant(
        &self,
        pair: &PairId,
        version: Version,
        by: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError>;

    /// How the pair stands for this node.
    async fn standing(&self, pair: &PairId, of: &NodeLife) -> Result<Standing, GrantError>;

    /// Valid grants of a version, over all nodes.
    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal>;

    /// Events that were written and not yet acknowledged as published, oldest first.
    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal>;

    /// Seals one audit record outside a transition (a refused access). One whose (kind, dedupe)
    /// is already in the chain is left out.
    async fn append_audit(&self, pair: &PairId, entry: &AuditEntry) -> Result<(), Refusal>;

    /// Sealed records of a pair with `seq > after`, at most
    /// [`crate::limits::AUDIT_PAGE_MAX`].
    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal>;
}
