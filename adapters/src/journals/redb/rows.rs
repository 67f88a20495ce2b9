//! The rows of this journal: how each is sealed, and opened again.

use std::sync::Arc;

use keybaton_messages::{
    Event, Fingerprint, GrantId, Incarnation, Label, NodeId, PairId, ProviderKeyId, TxnId, Version,
    VersionStatus,
};
use keybaton_ports::{PairSummary, SealedAudit, StoredPair};
use keybaton_rotation::{PairRecord, VersionEntry};
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
    pub(crate) record: Arc<PairRecord>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) status: VersionStatus,
    pub(crate) label: Option<Label>,
    pub(crate) key_id: Option<ProviderKeyId>,
    pub(crate) fp: Option<Fingerprint>,
}

/// A row's columns where they stand in the record.
type Columns<'a> =
    (VersionStatus, &'a Option<Label>, &'a Option<ProviderKeyId>, Option<Fingerprint>);

impl VersionRow {
    /// Whether both have the same row. A record has many versions, and all but one or two are as
    /// they were: no row is made to find out.
    pub(crate) fn is_same(one: &VersionEntry, other: &VersionEntry) -> bool {
        Self::columns(one) == Self::columns(other)
    }

    fn columns(entry: &VersionEntry) -> Columns<'_> {
        (entry.status, &entry.label, &entry.key_id, entry.fp)
    }

    pub(crate) fn of(entry: &VersionEntry) -> Self {
        let (status, label, key_id, fp) = Self::columns(entry);
        Self { status, label: label.clone(), key_id: key_id.clone(), fp }
    }
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
    pub(crate) const START: Self = Self { seq: 0, hash: [0; 32] };
}

pub(crate) fn grant_key(pair: &PairId, version: Version, node: &NodeId) -> RowKey {
    RowKey::pair(pair).number(u64::from(version.0)).name(node.as_str())
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
    Place { table: table.name(), key, clear: &[], schema: schema(table) }
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
            has_work: record.as_ref().map_or(true, |record| has_work(record)),
            next_rotate_at: record.ok().and_then(|r| r.next_rotate_at.map(|due| due.at)),
            pair,
        })
    }
}

/// Seals a record with the transaction that writes it.
pub(crate) fn seal_record(
    sealer: &Sealer,
    last_txn: TxnId,
    record: &Arc<PairRecord>,
) -> Result<Vec<u8>, Corrupt> {
    let row = RecordRow { last_txn, record: Arc::clone(record) };
    seal(sealer, Table::Records, &RowKey::pair(&record.pair), &row)
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
    Ok(StoredPair { record: row.record, last_txn: row.last_txn })
}

pub(crate) fn has_work(record: &PairRecord) -> bool {
    let is_running = record.rotation.as_ref().is_some_and(|rotation| !rotation.phase.is_final());
    is_running || record.queued.is_some() || !record.obligations.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use data_encoding::HEXLOWER;
    use keybaton_messages::{
        DeploymentId, Epoch, PairTag, Rev, RotationId, SecretVersion, Timestamp, TriggerId, wire,
    };
    use keybaton_rotation::{
        Class, Debt, Due, Gate, Obligation, Owner, Phase, Policy, QueuedTrigger, Reason, Rotation,
        Severity,
    };

    /// The record of [`record`] as it was written on the first day. If this test fails, records
    /// of nodes that run cannot be read any more: raise the number in [`schema`], and keep reading
    /// the old one.
    const GOLDEN: &str = include_str!("../../../golden/record-1.hex");

    fn due(at: u64) -> Due {
        Due { at: Timestamp(at), wait: Duration::from_millis(1500) }
    }

    fn version(n: u8, status: VersionStatus) -> VersionEntry {
        VersionEntry {
            status,
            label: Some(Label::new(
                &DeploymentId::from_digest(&[7; 16]),
                &PairTag::from_digest(&[9; 16]),
                Version(u32::from(n)),
            )),
            key_id: Some(format!("key_{n}").parse().unwrap()),
            secret: Some(SecretVersion(u64::from(n))),
            fp: Some(Fingerprint([n; 32])),
            issued_at: Some(Timestamp(1000)),
            expires_at: None,
            promoted_at: Some(Timestamp(2000)),
            imported: false,
        }
    }

    /// A record in the middle of a rotation, with something in every field.
    fn record() -> RecordRow {
        let pair = PairId::new("acme".parse().unwrap(), "openai".parse().unwrap());
        let owner = Owner { node: "n1".parse().unwrap(), incarnation: Incarnation(3) };
        let mut record = PairRecord::new(
            pair.clone(),
            DeploymentId::from_digest(&[7; 16]),
            PairTag::from_digest(&[9; 16]),
            Class::A,
            owner,
        );
        record.rev = Rev(300);
        record.epoch = Epoch(4);
        record.gate = Gate::Open;
        record.active = Some(Version(2));
        record.next_version = Version(3);
        record.next_rotation = 13;
        record.versions.insert(Version(1), version(1, VersionStatus::Draining));
        record.versions.insert(Version(2), version(2, VersionStatus::Active));
        record.rotation = Some(Rotation {
            id: RotationId { pair, n: 12 },
            reason: Reason::Requested("suspected leak".into()),
            severity: Severity::Normal,
            compromised: None,
            revoke_by: Some(due(9000)),
            phase: Phase::Draining { old: Version(1), soft: due(3000), hard: due(4000) },
            burned: 1,
            rolled_back: false,
            key_dead: false,
            reclaim: None,
            refused: 1,
            started_at: Timestamp(1500),
            drain_max: Some(due(5000)),
            policy: Policy::default(),
            error: Some("none".into()),
        });
        record.queued = Some(QueuedTrigger {
            n: 13,
            reason: Reason::Scheduled,
            severity: Severity::Emergency,
            target: Some(Version(2)),
            revoke_by: None,
            policy: Policy::default(),
        });
        record.obligations.push(Obligation {
            debt: Debt::Destroy { version: Version(1) },
            since: Timestamp(1),
            tries: 2,
            due: due(7000),
        });
        record.triggers.push_back((TriggerId::new("webhook-1").unwrap(), 12));
        record.next_rotate_at = Some(due(99_000));
        RecordRow { last_txn: TxnId([5; 16]), record: Arc::new(record) }
    }

    #[test]
    fn a_record_has_the_bytes_it_had_from_the_first_day() {
        let number = schema(Table::Records);
        let bytes = wire::encode(number, &record()).unwrap();
        assert_eq!(HEXLOWER.encode(&bytes), GOLDEN.trim());
        let golden = HEXLOWER.decode(GOLDEN.trim().as_bytes()).unwrap();
        let decoded: RecordRow = wire::decode(number, &golden).unwrap();
        assert_eq!(decoded.record, record().record);
        assert_eq!(decoded.last_txn, record().last_txn);
    }
}
