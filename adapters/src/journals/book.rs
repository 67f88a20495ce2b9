//! The pairs of one transaction in memory: read, changed by one operation after the other, written.
//!
//! **Invariant:** an operation that is refused changes nothing here, so that the ones beside it can
//! be written without it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use keybaton_messages::{
    Event, Fingerprint, GrantId, Incarnation, NodeId, PairId, ProviderKeyId, ProviderName, Rev,
    Version, VersionStatus,
};
use keybaton_ports::{
    AuditKey, Clock, CommitError, GrantError, NodeLife, SealedAudit, Standing, StoredPair,
    Transaction, name_outstanding, seal as seal_audit,
};
use keybaton_rotation::{AuditEntry, AuditKind, Gate, Guard};

use crate::SystemClock;
use crate::audit::{body_of, word_of};
use crate::journals::operations::{Done, SealedCommit};
use crate::journals::redb::chain::grant_entry;
use crate::journals::redb::commit::{copied, events_of, follows, no_key};
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::{AuditHead, HeldGrant, VersionRow};

/// What a grant operation names.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) pair: PairId,
    pub(crate) version: Version,
    pub(crate) life: NodeLife,
    pub(crate) id: GrantId,
}

/// A key or a secret that can be claimed once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum ClaimKey {
    Key(ProviderName, ProviderKeyId),
    Secret(Fingerprint),
}

/// A fact of a pair's audit: kind and what makes it unique.
pub(super) type Fact = (PairId, String, String);

/// One pair: as it was read, and what becomes of it.
pub(super) struct Page {
    /// How often the pair's row had been written; 0: it is not there.
    pub(super) seen: i64,
    pub(super) seen_stored: Option<StoredPair>,
    pub(super) seen_grants: Vec<HeldGrant>,
    /// The bytes that a store compares beside the numbers: in Redis where the pair stands, in Postgres
    /// the end of its audit. No two places and no two ends ever have the same ones.
    pub(super) seen_mark: Option<Vec<u8>>,
    /// Names of the events that wait, where a store has to know them.
    pub(super) seen_events: Vec<String>,
    pub(super) state: PairState,
    /// Something is to be written.
    pub(super) is_touched: bool,
    /// The record, sealed, if it is to be written.
    pub(super) sealed: Option<Bytes>,
    pub(super) versions: BTreeMap<Version, VersionRow>,
    pub(super) audit: Vec<SealedAudit>,
    pub(super) events: Vec<(u64, Event)>,
    pub(super) published: Option<Rev>,
    /// Keys and secrets that nobody had claimed.
    pub(super) claims: Vec<(ClaimKey, Version)>,
    /// What becomes of [`Self::seen_mark`], when it changes.
    pub(super) next_mark: Option<Vec<u8>>,
    /// What becomes of [`Self::seen_events`], when they change.
    pub(super) next_events: Option<Vec<String>>,
}

impl Page {
    pub(super) fn new(seen: i64, state: PairState) -> Self {
        Self {
            seen,
            seen_stored: state.stored.clone(),
            seen_grants: state.grants.clone(),
            seen_mark: None,
            seen_events: Vec::new(),
            state,
            is_touched: false,
            sealed: None,
            versions: BTreeMap::new(),
            audit: Vec::new(),
            events: Vec::new(),
            published: None,
            claims: Vec::new(),
            next_mark: None,
            next_events: None,
        }
    }

    /// A pair of which nothing is there.
    pub(super) fn blank() -> Self {
        Self::new(0, PairState { stored: None, grants: Vec::new(), head: AuditHead::START })
    }

    /// What became of it is committed, and is now how it is seen.
    pub(super) fn turn(&mut self) {
        let blank = PairState { stored: None, grants: Vec::new(), head: AuditHead::START };
        let state = std::mem::replace(&mut self.state, blank);
        let mark = self.next_mark.take().or_else(|| self.seen_mark.take());
        let events =
            self.next_events.take().unwrap_or_else(|| std::mem::take(&mut self.seen_events));
        *self = Self { seen_mark: mark, seen_events: events, ..Self::new(self.seen + 1, state) };
    }

    fn keep_grant(&mut self, grant: HeldGrant) {
        let place = (grant.version, grant.node.clone());
        self.state.grants.retain(|old| (old.version, old.node.clone()) != place);
        self.state.grants.push(grant);
        self.is_touched = true;
    }

    fn is_active(&self, version: Version) -> bool {
        let record = self.state.stored.as_ref().map(|stored| stored.record.as_ref());
        record.is_some_and(|record| record.status(version) == Some(VersionStatus::Active))
    }
}

/// The pairs of a transaction.
pub(super) type Pages = IndexMap<PairId, Result<Box<Page>, Corrupt>, RandomState>;

/// Everything that one transaction reads and writes.
pub(super) struct Book {
    pub(super) clock: Arc<SystemClock>,
    pub(super) audit_key: Arc<AuditKey>,
    pub(super) lives: HashMap<NodeId, Incarnation>,
    pub(super) pages: Pages,
    pub(super) claims: HashMap<ClaimKey, (PairId, Version)>,
    pub(super) facts: HashSet<Fact>,
}

impl Book {
    /// Whether nothing was refused, and every page is compared when this is written. Only then may
    /// pages that are remembered have given the answers.
    pub(super) fn is_all_agreed(&self, answers: &[Done]) -> bool {
        let is_compared =
            |page: &Result<Box<Page>, Corrupt>| page.as_ref().is_ok_and(|page| page.is_touched);
        self.pages.values().all(is_compared) && !answers.iter().any(Done::is_refusal)
    }

    /// One transaction on one pair, checked in the order that the port says.
    pub(super) fn commit(&mut self, commit: &SealedCommit) -> Result<Rev, CommitError> {
        let SealedCommit { transaction, sealed } = commit;
        let record = &transaction.record;
        let page = self.page(&record.pair)?;
        let stored = page.state.stored.as_ref();
        if let Some(rev) =
            stored.filter(|stored| stored.last_txn == transaction.id).map(|s| s.record.rev)
        {
            // An answer needs a commit of its own: the first one may have reached no standby.
            page.is_touched = true;
            return Ok(rev);
        }
        self.check(transaction)?;
        let claims = self.new_claims(transaction)?;
        for (claim, version) in claims {
            if !self.claims.contains_key(&claim) {
                self.claims.insert(claim.clone(), (record.pair.clone(), version));
                self.page(&record.pair)?.claims.push((claim, version));
            }
        }
        self.write(transaction, sealed)
    }

    fn check(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let is_present = self.is_present(&transaction.by);
        let page = self.page(&transaction.record.pair)?;
        let stored = page.state.stored.as_ref().map(|stored| stored.record.as_ref());
        let (epoch, rev) = stored.map_or_else(Default::default, |r| (r.epoch, r.rev));
        if !is_present || transaction.expect.0 != epoch {
            return Err(CommitError::Fenced);
        }
        if transaction.expect.1 != rev {
            return Err(CommitError::Conflict);
        }
        follows(stored, &transaction.record)
            .map_err(|why| CommitError::Corrupt(format!("refused to write: {why}")))?;
        transaction.guards.iter().try_for_each(|guard| self.check_guard(transaction, guard))
    }

    fn check_guard(&self, transaction: &Transaction, guard: &Guard) -> Result<(), CommitError> {
        let left = match guard {
            Guard::NoGrants(version) => self.valid(&transaction.record.pair, *version).len(),
            Guard::KeyUnclaimed { version, key_id, fp } => {
                let wanted = claims_of(transaction, *version, Some(key_id), fp.as_ref());
                return wanted.iter().try_for_each(|(claim, guard)| {
                    self.check_claim(transaction, *version, claim, guard)
                });
            }
        };
        if left == 0 {
            return Ok(());
        }
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        Err(CommitError::Refused { guard: guard.clone(), left })
    }

    /// Claims that the new record adds; refused when somebody else has one of them.
    fn new_claims(
        &self,
        transaction: &Transaction,
    ) -> Result<Vec<(ClaimKey, Version)>, CommitError> {
        let record = &transaction.record;
        let Some(Ok(page)) = self.pages.get(&record.pair) else {
            return Ok(Vec::new());
        };
        let stored = page.state.stored.as_ref();
        let mut claims = Vec::new();
        for (version, entry) in &record.versions {
            let before = stored.and_then(|stored| stored.record.versions.get(version));
            if before.is_some_and(|old| (&old.key_id, &old.fp) == (&entry.key_id, &entry.fp)) {
                continue;
            }
            let wanted = claims_of(transaction, *version, entry.key_id.as_ref(), entry.fp.as_ref());
            for (claim, guard) in wanted {
                self.check_claim(transaction, *version, &claim, &guard)?;
                claims.push((claim, *version));
            }
        }
        Ok(claims)
    }

    fn check_claim(
        &self,
        transaction: &Transaction,
        version: Version,
        claim: &ClaimKey,
        guard: &Guard,
    ) -> Result<(), CommitError> {
        match self.claims.get(claim) {
            Some((pair, by)) if (pair, *by) != (&transaction.record.pair, version) => {
                Err(CommitError::Refused { guard: guard.clone(), left: 0 })
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, transaction: &Transaction, sealed: &Bytes) -> Result<Rev, CommitError> {
        let record = &transaction.record;
        let mut audit: Vec<_> =
            transaction.audit.iter().map(|entry| self.with_outstanding(record, entry)).collect();
        let holders = transaction.grants.map_or_else(Vec::new, |copy| {
            let old = self.valid(&record.pair, copy.from);
            old.into_iter().map(|old| copied(transaction, old, copy.to)).collect()
        });
        let page = self.page(&record.pair)?;
        let before = page.state.stored.take().map(|stored| stored.record);
        for (version, entry) in &record.versions {
            let old = before.as_ref().and_then(|old| old.versions.get(version));
            if !old.is_some_and(|old| VersionRow::is_same(old, entry)) {
                page.versions.insert(*version, VersionRow::of(entry));
            }
        }
        for grant in holders {
            let life = NodeLife { node: grant.node.clone(), incarnation: grant.incarnation };
            audit.push(grant_entry(AuditKind::Granted, grant.version, grant.id, &life));
            page.keep_grant(grant);
        }
        if let Some(published) = transaction.published {
            page.events.retain(|(_, event)| event.rev > published);
            page.published = page.published.max(Some(published));
        }
        page.events.extend((0..).zip(events_of(transaction)));
        page.state.stored = Some(StoredPair { record: record.clone(), last_txn: transaction.id });
        page.is_touched = true;
        page.sealed = Some(sealed.clone());
        let body = |entry: &AuditEntry, at| {
            body_of(entry, at, Some(&transaction.by), Some((record.epoch, record.rev)))
        };
        self.append(&record.pair, &audit, body)?;
        Ok(record.rev)
    }

    fn with_outstanding(
        &self,
        record: &keybaton_rotation::PairRecord,
        entry: &AuditEntry,
    ) -> AuditEntry {
        let grants = entry.version.map_or_else(Vec::new, |version| {
            let out = self.valid(&record.pair, version);
            out.into_iter().map(|grant| (grant.node, grant.id)).collect()
        });
        name_outstanding(entry, &grants)
    }

    /// K1: this life of this node may hand out this version.
    pub(super) fn grant(&mut self, named: &Named) -> Result<Standing, GrantError> {
        let standing = self.look(named)?;
        let page = self.page(&named.pair)?;
        if !page.is_active(named.version) || standing.gate != Gate::Open {
            return Err(GrantError::Refused(Box::new(standing)));
        }
        if standing.grants.iter().any(|grant| grant.version == named.version) {
            // As for a commit that is asked again.
            page.is_touched = true;
            return Ok(standing);
        }
        page.keep_grant(HeldGrant {
            version: named.version,
            node: named.life.node.clone(),
            incarnation: named.life.incarnation,
            id: named.id,
        });
        self.conclude(named, AuditKind::Granted)
    }

    /// This grant is not used any more.
    pub(super) fn return_grant(&mut self, named: &Named) -> Result<Standing, GrantError> {
        let standing = self.look(named)?;
        let is_there = standing
            .grants
            .iter()
            .any(|grant| grant.version == named.version && grant.id == named.id);
        let page = self.page(&named.pair)?;
        if !is_there {
            // As for a commit that is asked again.
            page.is_touched = true;
            return Ok(standing);
        }
        if page.is_active(named.version) {
            return Err(GrantError::Refused(Box::new(standing)));
        }
        page.state.grants.retain(|grant| grant.id != named.id || grant.node != named.life.node);
        page.is_touched = true;
        self.conclude(named, AuditKind::GrantReturned)
    }

    /// How the pair stands for this life, which must be the present one.
    fn look(&mut self, named: &Named) -> Result<Standing, GrantError> {
        if !self.is_present(&named.life) {
            return Err(GrantError::Fenced);
        }
        self.page(&named.pair)?.state.standing(&named.life).ok_or(GrantError::NoPair)
    }

    /// Audits the change and says how the pair stands with it.
    fn conclude(&mut self, named: &Named, kind: AuditKind) -> Result<Standing, GrantError> {
        let entry = grant_entry(kind, named.version, named.id, &named.life);
        let body = |entry: &AuditEntry, at| body_of(entry, at, Some(&named.life), None);
        self.append(&named.pair, &[entry], body)?;
        self.look(named)
    }

    /// Appends one entry by itself.
    pub(super) fn append_audit(
        &mut self,
        pair: &PairId,
        entry: &AuditEntry,
    ) -> Result<(), Corrupt> {
        let entries = std::slice::from_ref(entry);
        self.append(pair, entries, |entry, at| body_of(entry, at, None, None))
    }

    /// Seals the entries behind the chain's end and moves it. An entry whose (kind, dedupe) is in
    /// the chain already is left out.
    fn append(
        &mut self,
        pair: &PairId,
        entries: &[AuditEntry],
        body: impl Fn(&AuditEntry, keybaton_messages::Timestamp) -> String,
    ) -> Result<(), Corrupt> {
        let at = self.clock.now();
        let key = Arc::clone(&self.audit_key);
        for entry in entries {
            let kind = word_of(entry.kind);
            let fact = (pair.clone(), kind.clone(), entry.dedupe.clone());
            if !self.facts.insert(fact) {
                continue;
            }
            let page = self.page(pair)?;
            let AuditHead { seq, hash } = page.state.head;
            let sealed =
                seal_audit(&key, pair, seq + 1, hash, &kind, &entry.dedupe, body(entry, at));
            page.state.head = AuditHead { seq: sealed.seq, hash: sealed.hash };
            page.audit.push(sealed);
            page.is_touched = true;
        }
        Ok(())
    }

    fn page(&mut self, pair: &PairId) -> Result<&mut Page, Corrupt> {
        let place = self.pages.get_index_of(pair).unwrap_or_else(|| {
            let blank = Box::new(Page::blank());
            self.pages.insert_full(pair.clone(), Ok(blank)).0
        });
        let page = self.pages[place].as_mut();
        page.map(|page| &mut **page).map_err(|corrupt| corrupt.clone())
    }

    fn is_present(&self, life: &NodeLife) -> bool {
        self.lives.get(&life.node) == Some(&life.incarnation)
    }

    /// Valid grants of a version, over all nodes.
    fn valid(&self, pair: &PairId, version: Version) -> Vec<HeldGrant> {
        let Some(Ok(page)) = self.pages.get(pair) else {
            return Vec::new();
        };
        let is_valid = |grant: &&HeldGrant| {
            grant.version == version && self.lives.get(&grant.node) == Some(&grant.incarnation)
        };
        page.state.grants.iter().filter(is_valid).cloned().collect()
    }
}

/// The claims of one version, each with the guard that would refuse it.
pub(super) fn claims_of(
    transaction: &Transaction,
    version: Version,
    key_id: Option<&ProviderKeyId>,
    fp: Option<&Fingerprint>,
) -> Vec<(ClaimKey, Guard)> {
    let provider = &transaction.record.pair.provider;
    let guard = Guard::KeyUnclaimed {
        version,
        key_id: key_id.cloned().unwrap_or_else(no_key),
        fp: fp.copied(),
    };
    let by_key = key_id.map(|key_id| ClaimKey::Key(provider.clone(), key_id.clone()));
    let by_secret = fp.map(|fp| ClaimKey::Secret(*fp));
    by_key.into_iter().chain(by_secret).map(|claim| (claim, guard.clone())).collect()
}
