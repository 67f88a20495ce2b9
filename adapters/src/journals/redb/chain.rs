//! Appending to a pair's audit chain inside a batch.

use std::sync::Arc;

use keybaton_messages::{Epoch, GrantId, PairId, Rev, Version};
use keybaton_ports::{FingerprintKey, NodeLife, seal as seal_audit};
use keybaton_rotation::{AuditEntry, AuditKind};

use crate::audit::{body_of, word_of};
use crate::journals::redb::Shared;
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::AuditHead;
use crate::journals::{Stop, settle};
use crate::store::{Fault, RowKey, Rows, Table, Tables, Work};
use keybaton_ports::Clock;

impl Shared {
    /// Seals the entries behind the chain's end and moves it. An entry whose (kind, dedupe) is in
    /// the chain already is left out.
    pub(crate) fn append(
        &self,
        tables: &mut Tables<'_>,
        pair: &PairId,
        state: &mut PairState,
        entries: &[AuditEntry],
        by: Option<&NodeLife>,
        written: Option<(Epoch, Rev)>,
    ) -> Result<(), Fault> {
        let at = self.clock.now();
        let before = state.head;
        for entry in entries {
            let kind = word_of(entry.kind);
            let fact = fact_key(pair, &kind, &entry.dedupe);
            if tables.get(Table::AuditFacts, fact.as_bytes())?.is_some() {
                continue;
            }
            let sealed = seal_audit(
                &self.audit_key,
                pair,
                state.head.seq + 1,
                state.head.hash,
                &kind,
                &entry.dedupe,
                body_of(entry, at, by, written),
            );
            let key = RowKey::pair(pair).number(sealed.seq);
            let bytes = self.seal_short(Table::Audit, &key, &sealed);
            tables.insert(Table::Audit, key.as_bytes(), &bytes)?;
            tables.insert(Table::AuditFacts, fact.as_bytes(), &[])?;
            state.head = AuditHead { seq: sealed.seq, hash: sealed.hash };
        }
        if state.head != before {
            let key = RowKey::pair(pair);
            let bytes = self.seal_short(Table::AuditHeads, &key, &state.head);
            tables.insert(Table::AuditHeads, key.as_bytes(), &bytes)?;
        }
        Ok(())
    }

    /// Seals a value whose size is bounded by its type and by the ids and texts in it.
    pub(crate) fn seal_short<T: serde::Serialize>(
        &self,
        table: Table,
        key: &RowKey,
        value: &T,
    ) -> Vec<u8> {
        self.seal(table, key, value).unwrap_or_else(|Corrupt(why)| unreachable!("{why}"))
    }
}

/// Facts are named by a digest: kinds and dedupe texts have no bound that a key would need.
pub(crate) fn fact_digest(kind: &str, dedupe: &str) -> [u8; 32] {
    FingerprintKey::new([0; 32]).digest(b"fact", &[kind.as_bytes(), dedupe.as_bytes()])
}

fn fact_key(pair: &PairId, kind: &str, dedupe: &str) -> RowKey {
    RowKey::pair(pair).bytes(&fact_digest(kind, dedupe))
}

/// The record of a grant, or of its return.
pub(crate) fn grant_entry(
    kind: AuditKind,
    version: Version,
    id: GrantId,
    life: &NodeLife,
) -> AuditEntry {
    AuditEntry {
        kind,
        dedupe: id.to_string(),
        rotation: None,
        version: Some(version),
        key_id: None,
        note: format!("{} {}", life.node, life.incarnation),
    }
}

/// Appends one entry by itself.
pub(crate) struct AppendAudit {
    shared: Arc<Shared>,
    pair: PairId,
    entry: AuditEntry,
}

impl AppendAudit {
    pub(crate) fn new(shared: Arc<Shared>, pair: &PairId, entry: &AuditEntry) -> Self {
        Self { shared, pair: pair.clone(), entry: entry.clone() }
    }

    fn run(&self, tables: &mut Tables<'_>) -> Result<(), Stop<Corrupt>> {
        let state = self.shared.pairs.batch_state(tables, &self.pair)?;
        let mut next = PairState::clone(&state);
        let entries = std::slice::from_ref(&self.entry);
        self.shared.append(tables, &self.pair, &mut next, entries, None, None)?;
        self.shared.pairs.change(&self.pair, next);
        Ok(())
    }
}

impl Work for AppendAudit {
    type Answer = Result<(), Corrupt>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        settle(self.run(tables))
    }
}
