//! The rows of this journal: how each is sealed, and opened again.

use keybaton_messages::{
    Event, Fingerprint, GrantId, Incarnation, Label, NodeId, PairId, ProviderKeyId, TxnId, Version,
    VersionStatus,
};
use keybaton_ports::{PairSummary, SealedAudit, StoredPair};
use keybaton_rotation::PairRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journals::redb::Shared;
use crate::journals::redb::pairs::Corrupt;
use crate::store::{Place, RowKey, Sealer, Table, Whose};

/// Schema of every table of this journal; a change of one type raises the number of its table.
pub(crate) fn schema(table: Table) -> u16 {
    match table {
        Table::Records
        | Table::Versions
        | Table::KeyClaims
        | Table::SecretClaims
        | Table::Grants
        | Table::Lives
        | Table::Audit
        | Table::AuditHeads
        | Table::Outbox => 1,
        other => unreachable!("{} is not a table of this journal", other.name()),
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RecordRow {
    pub(crate) last_txn: TxnId,
    pub(crate) record: PairRecord,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) status: VersionStatus,
    pub(crate) label: Option<Label>,
    pub(crate) key_id: Option<ProviderKeyId>,
    pub(crate) fp: Option<Fingerprint>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) pair: PairId,
    pub(crate) version: Version,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GrantValue {
    pub(crate) incarnation: Incarnation,
    pub(crate) id: GrantId,
}

/// A grant and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldGrant {
    pub(crate) version: Version,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) id: GrantId,
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditHead {
    pub(crate) seq: u64,
    pub(crate) hash: [u8; 32],
}

impl AuditHead {
    pub(crate) const START: Self = Self {
        seq: 0,
        hash: [0; 32],
    };
}

pub(crate) fn grant_key(pair: &PairId, version: Version, node: &NodeId) -> RowKey {
    RowKey::pair(pair)
        .number(u64::from(version.0))
        .name(node.as_str())
}

/// Version and node of a grant's key, without the pair in front.
pub(crate) fn read_grant_key(rest: &[u8]) -> Option<(Version, NodeId)> {
    let (number, name) = rest.split_at_checked(8)?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    let (length, name) = name.split_first()?;
    (usize::from(*length) == name.len()).then_some(())?;
    let node = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some((Version(u32::try_from(number).ok()?), node))
}

fn place(table: Table, key: &[u8]) -> Place<'_> {
    Place {
        table: table.name(),
        key,
        clear: &[],
        schema: schema(table),
    }
}

/// Seals a row's value under the store's key.
pub(crate) fn seal<T: Serialize>(
    sealer: &Sealer,
    table: Table,
    key: &RowKey,
    value: &T,
) -> Result<Vec<u8>, Corrupt> {
    sealer
        .seal_value(Whose::Store, &place(table, key.as_bytes()), value)
        .map_err(|error| Corrupt(format!("{} row cannot be written: {error}", table.name())))
}

/// Opens a row's value.
pub(crate) fn open<T: DeserializeOwned>(
    sealer: &Sealer,
    table: Table,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Corrupt> {
    sealer
        .open_value(Whose::Store, &place(table, key), bytes)
        .map_err(|broken| Corrupt(format!("{} row: {broken}", table.name())))
}

impl Shared {
    pub(crate) fn seal<T: Serialize>(
        &self,
        table: Table,
        key: &RowKey,
        value: &T,
    ) -> Result<Vec<u8>, Corrupt> {
        seal(&self.sealer, table, key, value)
    }

    pub(crate) fn open_event(&self, key: &[u8], bytes: &[u8]) -> Result<Event, Corrupt> {
        open(&self.sealer, Table::Outbox, key, bytes)
    }

    pub(crate) fn open_audit(&self, key: &[u8], bytes: &[u8]) -> Result<SealedAudit, Corrupt> {
        open(&self.sealer, Table::Audit, key, bytes)
    }

    /// What the start needs to know of a pair. One whose record cannot be opened counts as having
    /// work, so that it is loaded and somebody is told.
    pub(crate) fn summary(&self, key: &[u8], bytes: &[u8]) -> Option<PairSummary> {
        let pair = RowKey::read_pair(key)?;
        let record = open_record(&self.sealer, key, &pair, bytes).map(|stored| stored.record);
        Some(PairSummary {
            has_work: record.as_ref().map_or(true, has_work),
            next_rotate_at: record.ok().and_then(|r| r.next_rotate_at.map(|due| due.at)),
            pair,
        })
    }
}

/// Opens a record and checks that it is this pair's.
pub(crate) fn open_record(
    sealer: &Sealer,
    key: &[u8],
    pair: &PairId,
    bytes: &[u8],
) -> Result<StoredPair, Corrupt> {
    let row: RecordRow = open(sealer, Table::Records, key, bytes)?;
    if row.record.pair != *pair {
        return Err(Corrupt("the record names another pair".into()));
    }
    Ok(StoredPair {
        record: row.record,
        last_txn: row.last_txn,
    })
}

fn has_work(record: &PairRecord) -> bool {
    let is_running = record
        .rotation
        .as_ref()
        .is_some_and(|rotation| !rotation.phase.is_final());
    is_running || record.queued.is_some() || !record.obligations.is_empty()
}
