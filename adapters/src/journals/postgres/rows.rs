//! The journal's rows: how values are sealed, and how words and numbers stand in columns.

use keybaton_messages::{Event, NodeId, PairId, VersionStatus};
use keybaton_ports::StoredPair;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use crate::journals::redb::pairs::Corrupt;
use crate::journals::redb::rows::{AuditHead, open, open_record, seal};
use crate::store::{RowKey, Sealer, Table};

/// Numbers in Postgres have a sign; ours never come near its bit.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// The word of a status, as the schema checks it.
pub(super) fn word(status: VersionStatus) -> &'static str {
    match status {
        VersionStatus::Intent => "INTENT",
        VersionStatus::Staged => "STAGED",
        VersionStatus::Active => "ACTIVE",
        VersionStatus::Draining => "DRAINING",
        VersionStatus::RevokePending => "REVOKE_PENDING",
        VersionStatus::Revoked => "REVOKED",
        VersionStatus::Unresolved => "UNRESOLVED",
        VersionStatus::Gone => "GONE",
    }
}

/// The advisory lock of whoever reads a pair before writing it. Two pairs may share one: they then
/// wait for each other, and nothing else.
pub(super) fn lock_of(pair: &PairId) -> i64 {
    let digest = Sha256::digest(RowKey::pair(pair).as_bytes());
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// A pair's names in two columns.
pub(super) fn read_pair(row: &Row, at: usize) -> Result<PairId, Corrupt> {
    let tenant = row.get::<_, &str>(at).parse();
    let provider = row.get::<_, &str>(at + 1).parse();
    match (tenant, provider) {
        (Ok(tenant), Ok(provider)) => Ok(PairId::new(tenant, provider)),
        _ => Err(Corrupt("a row has the name of no pair".into())),
    }
}

pub(super) fn read_node(row: &Row, at: usize) -> Result<NodeId, Corrupt> {
    let name = row.get::<_, &str>(at).parse();
    name.map_err(|_| Corrupt("a row has the name of no node".into()))
}

pub(super) fn read_bytes<const N: usize>(row: &Row, at: usize) -> Result<[u8; N], Corrupt> {
    let bytes = row.get::<_, &[u8]>(at).try_into();
    bytes.map_err(|_| Corrupt("a row has too few or too many bytes".into()))
}

/// What the columns beside a record say.
pub(super) struct Beside {
    pub(super) rev: i64,
    pub(super) epoch: i64,
}

/// Opens a record, which must agree with what stands beside it.
pub(super) fn open_stored(
    sealer: &Sealer,
    pair: &PairId,
    bytes: &[u8],
    beside: &Beside,
) -> Result<StoredPair, Corrupt> {
    let stored = open_record(sealer, RowKey::pair(pair).as_bytes(), pair, bytes)?;
    let (rev, epoch) = (signed(stored.record.rev.0), signed(stored.record.epoch.0));
    if (rev, epoch) == (beside.rev, beside.epoch) {
        Ok(stored)
    } else {
        Err(Corrupt("the record is not the one that its columns tell of".into()))
    }
}

pub(super) fn seal_head(sealer: &Sealer, pair: &PairId, head: AuditHead) -> Vec<u8> {
    seal(sealer, Table::AuditHeads, &RowKey::pair(pair), &head).expect("a hash is short")
}

pub(super) fn open_head(
    sealer: &Sealer,
    pair: &PairId,
    bytes: Option<&[u8]>,
) -> Result<AuditHead, Corrupt> {
    let Some(bytes) = bytes else {
        return Ok(AuditHead::START);
    };
    open(sealer, Table::AuditHeads, RowKey::pair(pair).as_bytes(), bytes)
}

pub(super) fn seal_body(sealer: &Sealer, pair: &PairId, seq: u64, body: &str) -> Vec<u8> {
    let key = RowKey::pair(pair).number(seq);
    seal(sealer, Table::Audit, &key, &body).expect("a body is far below the codec's limit")
}

pub(super) fn open_body(
    sealer: &Sealer,
    pair: &PairId,
    seq: u64,
    bytes: &[u8],
) -> Result<String, Corrupt> {
    open(sealer, Table::Audit, RowKey::pair(pair).number(seq).as_bytes(), bytes)
}

fn event_key(pair: &PairId, rev: u64, place: u64) -> RowKey {
    RowKey::pair(pair).number(rev).number(place)
}

pub(super) fn seal_event(sealer: &Sealer, place: u64, event: &Event) -> Vec<u8> {
    let key = event_key(&event.pair, event.rev.0, place);
    seal(sealer, Table::Outbox, &key, event).expect("an event is short")
}

pub(super) fn open_event(
    sealer: &Sealer,
    pair: &PairId,
    rev: i64,
    place: i64,
    bytes: &[u8],
) -> Result<Event, Corrupt> {
    let key = event_key(pair, unsigned(rev), unsigned(place));
    open(sealer, Table::Outbox, key.as_bytes(), bytes)
}
