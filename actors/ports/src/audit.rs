//! The audit chain: who may read it can tell that nothing was changed, dropped or swapped.
//!
//! `h_n = HMAC-SHA-256(key, h_{n-1} ‖ n ‖ pair ‖ kind ‖ dedupe ‖ body)`, each part length-prefixed,
//! over the body bytes as stored, so that verifying needs no canonical form. Every journal seals
//! with [`seal`], in the transaction of the change itself.

use async_trait::async_trait;
use keybaton_messages::{GrantId, NodeId, PairId};
use keybaton_rotation::{AuditEntry, AuditKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::refusal::Refusal;
use crate::secret::FingerprintKey;

/// The key of the audit chains.
pub struct AuditKey(FingerprintKey);

impl AuditKey {
    /// Takes 32 derived bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(FingerprintKey::new(bytes))
    }
}

/// One audit record in its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAudit {
    /// Whose chain.
    pub pair: PairId,
    /// Place in the chain, from 1.
    pub seq: u64,
    /// Hash of the record before; zeros for the first.
    pub prev: [u8; 32],
    /// Hash of this record.
    pub hash: [u8; 32],
    /// The kind, as its word.
    pub kind: String,
    /// What makes it unique within its kind.
    pub dedupe: String,
    /// The body as stored: one line of JSON.
    pub body: String,
}

/// Seals one record behind the record with hash `prev`.
#[must_use]
pub fn seal(
    key: &AuditKey,
    pair: &PairId,
    seq: u64,
    prev: [u8; 32],
    kind: &str,
    dedupe: &str,
    body: String,
) -> SealedAudit {
    let hash = link(key, pair, seq, &prev, kind, dedupe, &body);
    SealedAudit {
        pair: pair.clone(),
        seq,
        prev,
        hash,
        kind: kind.to_owned(),
        dedupe: dedupe.to_owned(),
        body,
    }
}

fn link(
    key: &AuditKey,
    pair: &PairId,
    seq: u64,
    prev: &[u8; 32],
    kind: &str,
    dedupe: &str,
    body: &str,
) -> [u8; 32] {
    key.0.digest(
        b"audit",
        &[
            prev,
            &seq.to_be_bytes(),
            pair.tenant.as_str().as_bytes(),
            pair.provider.as_str().as_bytes(),
            kind.as_bytes(),
            dedupe.as_bytes(),
            body.as_bytes(),
        ],
    )
}

/// A forced revoke is recorded with the grants that were out: who may still have used the key. Every
/// other entry stays as it is.
#[must_use]
pub fn name_outstanding(entry: &AuditEntry, grants: &[(NodeId, GrantId)]) -> AuditEntry {
    let mut entry = entry.clone();
    if entry.kind == AuditKind::ForcedRevoke {
        let named: Vec<_> = grants.iter().map(|(node, id)| format!("{node}:{id}")).collect();
        let outstanding = if named.is_empty() { "none".to_owned() } else { named.join(" ") };
        entry.note = format!("{}; outstanding grants: {outstanding}", entry.note);
    }
    entry
}

/// The first place where a chain is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("audit chain of {pair} is broken at record {seq}: {why}")]
pub struct BrokenChain {
    /// Whose chain.
    pub pair: PairId,
    /// The first bad place.
    pub seq: u64,
    /// What is wrong there.
    pub why: &'static str,
}

/// How far one pair's chain was found whole.
#[derive(Clone)]
pub struct ChainWalk<'a> {
    key: &'a AuditKey,
    pair: &'a PairId,
    /// Records so far.
    pub records: u64,
    /// The hash of the last one.
    pub head: [u8; 32],
}

impl<'a> ChainWalk<'a> {
    /// Stands before the first record.
    #[must_use]
    pub fn begin(key: &'a AuditKey, pair: &'a PairId) -> Self {
        Self { key, pair, records: 0, head: [0; 32] }
    }

    /// Goes on by the record that was found next.
    ///
    /// # Errors
    /// What is wrong with it; the walk stays where it is.
    pub fn step(&mut self, record: &SealedAudit) -> Result<(), BrokenChain> {
        let seq = self.records + 1;
        let broken = |why| Err(BrokenChain { pair: self.pair.clone(), seq, why });
        if record.seq != seq {
            return broken("a record is missing, doubled or out of order");
        }
        if record.pair != *self.pair {
            return broken("the record belongs to another pair");
        }
        if record.prev != self.head {
            return broken("the record does not continue the one before");
        }
        let SealedAudit { kind, dedupe, body, .. } = record;
        if record.hash != link(self.key, self.pair, seq, &self.head, kind, dedupe, body) {
            return broken("the record was changed, or the audit key is another one");
        }
        (self.records, self.head) = (seq, record.hash);
        Ok(())
    }
}

/// Verifies one pair's chain from its first record on; `records` are in the order found.
///
/// # Errors
/// The first bad place.
pub fn verify_chain(
    key: &AuditKey,
    pair: &PairId,
    records: &[SealedAudit],
) -> Result<(), BrokenChain> {
    let mut walk = ChainWalk::begin(key, pair);
    records.iter().try_for_each(|record| walk.step(record))
}

/// Ships sealed records to where the node cannot change them.
#[async_trait]
pub trait AuditSink: Send + Sync {
    /// Appends the records durably, in order. A record that is already there (same pair and seq)
    /// is not appended again.
    async fn ship(&self, records: &[SealedAudit]) -> Result<(), Refusal>;
}
