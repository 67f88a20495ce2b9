//! One transaction on one pair.
//!
//! Order: already applied, life, epoch, revision, guards, claims; then everything is written.

use std::sync::Arc;

use keybaton_messages::{
    Event, EventKind, Fingerprint, GrantId, PairId, ProviderKeyId, Rev, RotationId, Version,
    VersionStatus,
};
use keybaton_ports::{
    CommitError, FingerprintKey, NodeLife, StoredPair, Transaction, name_outstanding,
};
use keybaton_rotation::{AuditEntry, AuditKind, Guard, PairRecord, VersionEntry};

use crate::journals::redb::Shared;
use crate::journals::redb::chain::grant_entry;
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::{
    Claim, GrantValue, HeldGrant, VersionRow, grant_key, open, seal_record,
};
use crate::journals::{Stop, settle};
use crate::store::{Fault, RowKey, Rows, Table, Tables, Work};

impl From<Corrupt> for CommitError {
    fn from(Corrupt(why): Corrupt) -> Self {
        Self::Corrupt(why)
    }
}

/// A transaction, its record already sealed.
pub(crate) struct Commit {
    shared: Arc<Shared>,
    transaction: Transaction,
    sealed: Vec<u8>,
}

impl Commit {
    pub(crate) fn prepare(
        shared: Arc<Shared>,
        transaction: Transaction,
    ) -> Result<Self, CommitError> {
        let sealed = seal_record(&shared.sealer, transaction.id, &transaction.record)?;
        Ok(Self { shared, transaction, sealed })
    }

    fn run(&self, tables: &mut Tables<'_>) -> Result<Rev, Stop<CommitError>> {
        let record = &self.transaction.record;
        let state = self.shared.pairs.batch_state(tables, &record.pair)?;
        let stored = state.stored.as_ref();
        if let Some(stored) = stored.filter(|stored| stored.last_txn == self.transaction.id) {
            return Ok(stored.record.rev);
        }
        self.check(tables, &state).map_err(|stop| match stop {
            Stop::Fault(fault) => Stop::Fault(fault),
            Stop::Refused(refusal) => Stop::Refused(refusal),
        })?;
        let claims = self.new_claims(tables, stored)?;
        let mut next = PairState::clone(&state);
        self.write(tables, &mut next, &claims)?;
        self.shared.pairs.change(&record.pair, next);
        Ok(record.rev)
    }

    fn check(&self, tables: &mut Tables<'_>, state: &PairState) -> Result<(), Stop<CommitError>> {
        let transaction = &self.transaction;
        let stored = state.stored.as_ref().map(|stored| stored.record.as_ref());
        let (epoch, rev) = stored.map_or_else(Default::default, |r| (r.epoch, r.rev));
        if !self.shared.pairs.is_batch_life(&transaction.by) || transaction.expect.0 != epoch {
            return Err(Stop::Refused(CommitError::Fenced));
        }
        if transaction.expect.1 != rev {
            return Err(Stop::Refused(CommitError::Conflict));
        }
        follows(stored, &transaction.record).map_err(|why| {
            Stop::Refused(CommitError::Corrupt(format!("refused to write: {why}")))
        })?;
        for guard in &transaction.guards {
            self.check_guard(tables, state, guard)?;
        }
        Ok(())
    }

    fn check_guard(
        &self,
        tables: &mut Tables<'_>,
        state: &PairState,
        guard: &Guard,
    ) -> Result<(), Stop<CommitError>> {
        let left = match guard {
            Guard::NoGrants(version) => self.shared.pairs.batch_valid(state, *version).len(),
            Guard::KeyUnclaimed { version, key_id, fp } => {
                let keys = self.claims_of(*version, Some(key_id), fp.as_ref());
                return keys
                    .into_iter()
                    .try_for_each(|claim| self.check_claim(tables, &claim).map(drop));
            }
        };
        if left == 0 {
            return Ok(());
        }
        Err(Stop::Refused(CommitError::Refused {
            guard: guard.clone(),
            left: u32::try_from(left).unwrap_or(u32::MAX),
        }))
    }

    /// Claims that the new record adds. A key that somebody else claims is refused here too, with
    /// the guard that would have said so: no two versions ever share a key.
    fn new_claims(
        &self,
        tables: &mut Tables<'_>,
        stored: Option<&StoredPair>,
    ) -> Result<Vec<Wanted>, Stop<CommitError>> {
        let mut claims = Vec::new();
        for (version, entry) in &self.transaction.record.versions {
            let before = stored.and_then(|stored| stored.record.versions.get(version));
            if before.is_some_and(|old| (&old.key_id, &old.fp) == (&entry.key_id, &entry.fp)) {
                continue;
            }
            for claim in self.claims_of(*version, entry.key_id.as_ref(), entry.fp.as_ref()) {
                if self.check_claim(tables, &claim)? {
                    claims.push(claim);
                }
            }
        }
        Ok(claims)
    }

    fn claims_of(
        &self,
        version: Version,
        key_id: Option<&ProviderKeyId>,
        fp: Option<&Fingerprint>,
    ) -> Vec<Wanted> {
        let provider = &self.transaction.record.pair.provider;
        let guard = Guard::KeyUnclaimed {
            version,
            key_id: key_id.cloned().unwrap_or_else(no_key),
            fp: fp.copied(),
        };
        let by_key = key_id.map(|key_id| {
            let key = RowKey::tenant(provider.as_str()).bytes(key_id.as_str().as_bytes());
            (Table::KeyClaims, key)
        });
        let by_secret = fp.map(|fp| (Table::SecretClaims, RowKey::fixed("").bytes(&fp.0)));
        by_key
            .into_iter()
            .chain(by_secret)
            .map(|(table, key)| Wanted { table, key, version, guard: guard.clone() })
            .collect()
    }

    /// Whether the claim is still to be written; refused when somebody else has it.
    fn check_claim(
        &self,
        tables: &mut Tables<'_>,
        wanted: &Wanted,
    ) -> Result<bool, Stop<CommitError>> {
        let Some(bytes) = tables.get(wanted.table, wanted.key.as_bytes())? else {
            return Ok(true);
        };
        let sealer = &self.shared.sealer;
        let claim: Claim = open(sealer, wanted.table, wanted.key.as_bytes(), &bytes)
            .map_err(|corrupt| Stop::Refused(corrupt.into()))?;
        if claim.pair == self.transaction.record.pair && claim.version == wanted.version {
            return Ok(false);
        }
        Err(Stop::Refused(CommitError::Refused { guard: wanted.guard.clone(), left: 0 }))
    }

    fn write(
        &self,
        tables: &mut Tables<'_>,
        next: &mut PairState,
        claims: &[Wanted],
    ) -> Result<(), Fault> {
        let transaction = &self.transaction;
        let record = &transaction.record;
        let pair = &record.pair;
        tables.insert(Table::Records, RowKey::pair(pair).as_bytes(), &self.sealed)?;
        let before = next.stored.take().map(|stored| stored.record);
        for (version, entry) in &record.versions {
            let old = before.as_ref().and_then(|old| old.versions.get(version));
            self.write_version(tables, *version, old, entry)?;
        }
        for wanted in claims {
            let claim = Claim { pair: pair.clone(), version: wanted.version };
            let bytes = self.shared.seal_short(wanted.table, &wanted.key, &claim);
            tables.insert(wanted.table, wanted.key.as_bytes(), &bytes)?;
        }
        let mut audit: Vec<_> =
            transaction.audit.iter().map(|entry| self.with_outstanding(entry, next)).collect();
        for grant in self.copied_grants(next) {
            write_grant(&self.shared, tables, pair, next, &grant)?;
            let life = NodeLife { node: grant.node, incarnation: grant.incarnation };
            audit.push(grant_entry(AuditKind::Granted, grant.version, grant.id, &life));
        }
        let by = Some(&transaction.by);
        self.shared.append(tables, pair, next, &audit, by, Some((record.epoch, record.rev)))?;
        self.write_outbox(tables)?;
        next.stored = Some(StoredPair { record: record.clone(), last_txn: transaction.id });
        Ok(())
    }

    fn write_version(
        &self,
        tables: &mut Tables<'_>,
        version: Version,
        old: Option<&VersionEntry>,
        entry: &VersionEntry,
    ) -> Result<(), Fault> {
        if old.is_some_and(|old| VersionRow::is_same(old, entry)) {
            return Ok(());
        }
        let row = VersionRow::of(entry);
        let key = RowKey::pair(&self.transaction.record.pair).number(u64::from(version.0));
        let bytes = self.shared.seal_short(Table::Versions, &key, &row);
        tables.insert(Table::Versions, key.as_bytes(), &bytes)
    }

    fn with_outstanding(&self, entry: &AuditEntry, state: &PairState) -> AuditEntry {
        let grants = entry.version.map_or_else(Vec::new, |version| {
            let out = self.shared.pairs.batch_valid(state, version);
            out.into_iter().map(|grant| (grant.node, grant.id)).collect()
        });
        name_outstanding(entry, &grants)
    }

    /// The new version's grants, one for every node that holds the old one.
    fn copied_grants(&self, state: &PairState) -> Vec<HeldGrant> {
        let Some(copy) = self.transaction.grants else {
            return Vec::new();
        };
        let holders = self.shared.pairs.batch_valid(state, copy.from);
        holders.into_iter().map(|old| copied(&self.transaction, old, copy.to)).collect()
    }

    fn write_outbox(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let transaction = &self.transaction;
        let record = &transaction.record;
        if let Some(published) = transaction.published {
            forget_events(tables, &record.pair, published)?;
        }
        for (place, event) in (0..).zip(events_of(transaction)) {
            let key = RowKey::pair(&record.pair).number(record.rev.0).number(place);
            let bytes = self.shared.seal_short(Table::Outbox, &key, &event);
            tables.insert(Table::Outbox, key.as_bytes(), &bytes)?;
        }
        Ok(())
    }
}

impl Work for Commit {
    type Answer = Result<Rev, CommitError>;

    fn bytes(&self) -> usize {
        self.sealed.len()
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        settle(self.run(tables))
    }
}

/// A claim that a version needs.
struct Wanted {
    table: Table,
    key: RowKey,
    version: Version,
    guard: Guard,
}

/// The grant of `to` for who holds `old`, with an id that is the same when the transaction is
/// carried out again.
pub(crate) fn copied(transaction: &Transaction, old: HeldGrant, to: Version) -> HeldGrant {
    let digest = FingerprintKey::new([0; 32]).digest(
        b"copied grant",
        &[&transaction.id.0, old.node.as_str().as_bytes(), &to.0.to_be_bytes()],
    );
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    HeldGrant { version: to, id: GrantId(id), ..old }
}

/// The events of a transaction, stamped with the record's rotation and revision.
pub(crate) fn events_of(transaction: &Transaction) -> Vec<Event> {
    let record = &transaction.record;
    let rotation = record.rotation.as_ref().map_or_else(
        || RotationId { pair: record.pair.clone(), n: record.next_rotation.saturating_sub(1) },
        |rotation| rotation.id.clone(),
    );
    let event = |(kind, old, new): &(EventKind, Option<Version>, Option<Version>)| Event {
        pair: record.pair.clone(),
        rotation: rotation.clone(),
        rev: record.rev,
        kind: *kind,
        old: *old,
        new: *new,
    };
    transaction.outbox.iter().map(event).collect()
}

/// Stands in a guard for a version that has a fingerprint and no key id.
pub(crate) fn no_key() -> ProviderKeyId {
    ProviderKeyId::new("-").expect("printable")
}

/// Writes one grant and notes it; replaces the node's older one of the same version.
pub(crate) fn write_grant(
    shared: &Shared,
    tables: &mut Tables<'_>,
    pair: &PairId,
    state: &mut PairState,
    grant: &HeldGrant,
) -> Result<(), Fault> {
    let key = grant_key(pair, grant.version, &grant.node);
    let value = GrantValue { incarnation: grant.incarnation, id: grant.id };
    let bytes = shared.seal_short(Table::Grants, &key, &value);
    tables.insert(Table::Grants, key.as_bytes(), &bytes)?;
    state.grants.retain(|old| (old.version, &old.node) != (grant.version, &grant.node));
    state.grants.push(grant.clone());
    Ok(())
}

fn forget_events(tables: &mut Tables<'_>, pair: &PairId, published: Rev) -> Result<(), Fault> {
    let prefix = RowKey::pair(pair);
    for (key, _) in tables.all(Table::Outbox, prefix.as_bytes())? {
        let rev = key[prefix.as_bytes().len()..].first_chunk();
        if rev.is_some_and(|rev| u64::from_be_bytes(*rev) <= published.0) {
            tables.remove(Table::Outbox, &key)?;
        }
    }
    Ok(())
}

/// Whether `record` may follow `stored` at all. The rules decide what is written; this is what the
/// store holds on to whatever they say.
pub(crate) fn follows(
    stored: Option<&PairRecord>,
    record: &PairRecord,
) -> Result<(), &'static str> {
    let (epoch, rev) = stored.map_or_else(Default::default, |r| (r.epoch, r.rev));
    if record.rev != rev.next() {
        return Err("the revision does not go up by one");
    }
    if record.epoch < epoch {
        return Err("the epoch goes back");
    }
    let active: Vec<_> = record
        .versions
        .iter()
        .filter(|(_, entry)| entry.status == VersionStatus::Active)
        .map(|(version, _)| *version)
        .collect();
    if active.len() > 1 || active.first().copied() != record.active {
        return Err("the active version is not the one that is marked so");
    }
    let revives = |(version, old): (&Version, &VersionEntry)| {
        let ended = [VersionStatus::Revoked, VersionStatus::Gone].contains(&old.status);
        ended && record.status(*version).is_some_and(|now| now != old.status)
    };
    if stored.is_some_and(|stored| stored.versions.iter().any(revives)) {
        return Err("a version that had ended comes back");
    }
    Ok(())
}
