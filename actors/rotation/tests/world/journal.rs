//! The world's journal: compare-and-set, guards, key claims, grants; every fault of a store that
//! does not lose what it acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use keybaton_messages::{Epoch, Fingerprint, ProviderKeyId, Rev, Version, VersionStatus};
use keybaton_rotation::{AuditEntry, AuditKind, CopyGrants, Gate, Guard, PairRecord};

use crate::Mutant;

/// One transaction, as it travels.
#[derive(Clone)]
pub struct Transaction {
    pub id: u64,
    pub expect: (Epoch, Rev),
    pub record: PairRecord,
    pub guards: Vec<Guard>,
    pub grants: Option<CopyGrants>,
    pub audit: Vec<AuditEntry>,
}

/// Why a transaction wrote nothing.
#[derive(Clone, Debug)]
pub enum NotWritten {
    Conflict,
    Refused(Guard, u32),
}

/// One grant row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub incarnation: u64,
    pub id: u64,
}

/// What a broker is told.
#[derive(Clone, Debug)]
pub struct Standing {
    pub rev: Rev,
    pub active: Option<Version>,
    pub grants: BTreeMap<Version, Grant>,
}

#[derive(Default)]
pub struct Journal {
    pub record: Option<PairRecord>,
    pub grants: BTreeMap<(Version, usize), Grant>,
    pub lives: [u64; 2],
    pub audit: BTreeMap<(AuditKindName, String), AuditEntry>,
    last_txn: u64,
    next_grant: u64,
    key_claims: BTreeMap<ProviderKeyId, Option<Version>>,
    fp_claims: BTreeMap<Fingerprint, Option<Version>>,
}

/// `AuditKind` has no order; its name has.
pub type AuditKindName = String;

impl Journal {
    /// A key that another pair has.
    pub fn claim_elsewhere(&mut self, key_id: ProviderKeyId, fp: Fingerprint) {
        self.key_claims.insert(key_id, None);
        self.fp_claims.insert(fp, None);
    }

    pub fn is_claimed_elsewhere(&self, key_id: &ProviderKeyId) -> bool {
        self.key_claims.get(key_id) == Some(&None)
    }

    pub fn load(&self) -> Option<PairRecord> {
        self.record.clone()
    }

    pub fn commit(&mut self, txn: &Transaction, mutant: Mutant) -> Result<(), NotWritten> {
        if mutant == Mutant::GuardsBeforeRevision {
            self.check_guards(&txn.guards, mutant)?;
        }
        if self.last_txn == txn.id {
            return Ok(());
        }
        let stored = self.record.as_ref().map_or((Epoch(0), Rev(0)), |r| (r.epoch, r.rev));
        if stored != txn.expect {
            return Err(NotWritten::Conflict);
        }
        self.check_guards(&txn.guards, mutant)?;
        for (version, entry) in &txn.record.versions {
            if let Some(key_id) = &entry.key_id {
                self.key_claims.entry(key_id.clone()).or_insert(Some(*version));
            }
            if let Some(fp) = entry.fp {
                self.fp_claims.entry(fp).or_insert(Some(*version));
            }
        }
        if let Some(CopyGrants { from, to }) = txn.grants {
            for node in 0..2 {
                if self.is_valid(from, node) {
                    self.put_grant(to, node);
                }
            }
        }
        for entry in &txn.audit {
            let key = (format!("{:?}", entry.kind), entry.dedupe.clone());
            self.audit.entry(key).or_insert_with(|| entry.clone());
        }
        self.record = Some(txn.record.clone());
        self.last_txn = txn.id;
        Ok(())
    }

    fn check_guards(&self, guards: &[Guard], mutant: Mutant) -> Result<(), NotWritten> {
        for guard in guards {
            match guard {
                Guard::NoGrants(version) => {
                    let left = self.count(*version);
                    if left > 0 && mutant != Mutant::NoGrantsIgnored {
                        return Err(NotWritten::Refused(guard.clone(), left));
                    }
                }
                Guard::KeyUnclaimed { version, key_id, fp } => {
                    let own = Some(*version);
                    let by_id = self.key_claims.get(key_id).is_some_and(|v| *v != own);
                    let by_fp =
                        fp.is_some_and(|fp| self.fp_claims.get(&fp).is_some_and(|v| *v != own));
                    if (by_id || by_fp) && mutant != Mutant::KeyUnclaimedOff {
                        return Err(NotWritten::Refused(guard.clone(), 0));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_valid(&self, version: Version, node: usize) -> bool {
        self.grants.get(&(version, node)).is_some_and(|g| g.incarnation == self.lives[node])
    }

    pub fn count(&self, version: Version) -> u32 {
        (0..2).map(|node| u32::from(self.is_valid(version, node))).sum()
    }

    fn put_grant(&mut self, version: Version, node: usize) {
        self.next_grant += 1;
        let incarnation = self.lives[node];
        let id = self.next_grant;
        self.grants.insert((version, node), Grant { incarnation, id });
    }

    /// A new life of a node: its older grants are void and go.
    pub fn begin_life(&mut self, node: usize) -> u64 {
        self.lives[node] += 1;
        self.grants.retain(|(_, n), _| *n != node);
        self.lives[node]
    }

    /// The grants of a dead life, taken after its lease has run out.
    pub fn reap(&mut self, node: usize, incarnation: u64) {
        self.grants.retain(|(_, n), g| *n != node || g.incarnation != incarnation);
    }

    pub fn standing(&self, node: usize) -> Option<Standing> {
        let record = self.record.as_ref()?;
        Some(Standing {
            rev: record.rev,
            active: record.active.filter(|_| record.gate == Gate::Open),
            grants: self
                .grants
                .iter()
                .filter(|((_, n), g)| *n == node && g.incarnation == self.lives[node])
                .map(|((v, _), g)| (*v, *g))
                .collect(),
        })
    }

    /// K1.
    pub fn grant(&mut self, version: Version, node: usize, incarnation: u64) -> Option<Standing> {
        let record = self.record.as_ref()?;
        let is_fit = record.gate == Gate::Open
            && record.status(version) == Some(VersionStatus::Active)
            && self.lives[node] == incarnation;
        if is_fit && !self.is_valid(version, node) {
            self.put_grant(version, node);
        }
        self.standing(node)
    }

    /// K2: names its grant, and is refused while the version is ACTIVE.
    pub fn return_grant(&mut self, version: Version, node: usize, id: u64) -> Option<Standing> {
        let is_active = self.record.as_ref()?.status(version) == Some(VersionStatus::Active);
        if !is_active && self.grants.get(&(version, node)).is_some_and(|g| g.id == id) {
            self.grants.remove(&(version, node));
        }
        self.standing(node)
    }

    /// Keys whose death was forced, or which were forced out with the audit naming it.
    pub fn forced(&self) -> BTreeSet<ProviderKeyId> {
        self.audit
            .values()
            .filter(|entry| entry.kind == AuditKind::ForcedRevoke)
            .filter_map(|entry| entry.key_id.clone())
            .collect()
    }

    pub fn count_audit(&self, kinds: &[AuditKind], key_id: &ProviderKeyId) -> usize {
        self.audit
            .values()
            .filter(|e| kinds.contains(&e.kind) && e.key_id.as_ref() == Some(key_id))
            .count()
    }
}
