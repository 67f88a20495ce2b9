//! A journal of pair records in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use keybaton_adapters::audit::{body_of, word_of};
use keybaton_messages::{
    Epoch, Event, Fingerprint, GrantId, Incarnation, NodeId, PairId, ProviderKeyId, ProviderName,
    Rev, RotationId, Timestamp, Version, VersionStatus,
};
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{
    AuditKey, CommitError, GrantError, GrantRow, Journal, NodeLife, PairSummary, Refusal,
    SealedAudit, Standing, StoredPair, Transaction, name_outstanding, seal,
};
use keybaton_rotation::{AuditEntry, AuditKind, CopyGrants, Gate, Guard, PairRecord};
use parking_lot::Mutex;

use crate::faults::Faults;

#[derive(Clone)]
struct Grant {
    version: Version,
    life: NodeLife,
    id: GrantId,
}

#[derive(Clone, Default)]
struct Pair {
    stored: Option<StoredPair>,
    grants: Vec<Grant>,
    audit: Vec<SealedAudit>,
    outbox: Vec<Event>,
}

#[derive(Clone, Default)]
struct Books {
    pairs: BTreeMap<PairId, Pair>,
    lives: HashMap<NodeId, Incarnation>,
    keys: HashMap<(ProviderName, ProviderKeyId), (PairId, Version)>,
    secrets: HashMap<Fingerprint, (PairId, Version)>,
    copies: u64,
}

/// What is wrong with a journal, for tests that must notice it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFlaws {
    /// Grants that are out do not refuse a commit.
    pub ignores_grants: bool,
    /// A key that somebody else claims does not refuse a commit.
    pub ignores_claims: bool,
    /// Neither life nor epoch nor revision of a writer is looked at.
    pub compares_nothing: bool,
    /// [`FakeJournal::forget_last_write`] has something to forget.
    pub forgets: bool,
}

/// The fake. Clones of its `Arc` are views of one store, as after a restart.
pub struct FakeJournal {
    books: Mutex<Books>,
    before: Mutex<Option<Books>>,
    audit_key: Arc<AuditKey>,
    flaws: JournalFlaws,
    /// What goes wrong with the next writes.
    pub faults: Faults,
}

impl FakeJournal {
    /// An empty journal that seals its audit with this key.
    #[must_use]
    pub fn new(audit_key: Arc<AuditKey>) -> Self {
        Self::flawed(audit_key, JournalFlaws::default())
    }

    /// As [`FakeJournal::new`], with something wrong.
    #[must_use]
    pub fn flawed(audit_key: Arc<AuditKey>, flaws: JournalFlaws) -> Self {
        let (books, before) = (Mutex::default(), Mutex::default());
        Self { books, before, audit_key, flaws, faults: Faults::default() }
    }

    /// Takes the last write back that was acknowledged, as no store may.
    pub fn forget_last_write(&self) {
        if let Some(before) = self.before.lock().take() {
            *self.books.lock() = before;
        }
    }

    fn keep_before(&self) {
        if self.flaws.forgets {
            let before = self.books.lock().clone();
            *self.before.lock() = Some(before);
        }
    }

    /// The key of its audit.
    #[must_use]
    pub fn audit_key(&self) -> Arc<AuditKey> {
        self.audit_key.clone()
    }
}

impl Pair {
    fn record(&self) -> Option<&PairRecord> {
        self.stored.as_ref().map(|stored| stored.record.as_ref())
    }

    fn standing(&self, of: &NodeLife) -> Result<Standing, GrantError> {
        let record = self.record().ok_or(GrantError::NoPair)?;
        let mine = self.grants.iter().filter(|grant| grant.life == *of);
        Ok(Standing {
            rev: record.rev,
            gate: record.gate,
            active: record.active.and_then(|version| {
                let entry = record.versions.get(&version)?;
                Some((version, entry.secret?, entry.fp?))
            }),
            grants: mine
                .map(|grant| GrantRow {
                    version: grant.version,
                    id: grant.id,
                    status: record.status(grant.version).unwrap_or(VersionStatus::Revoked),
                })
                .collect(),
        })
    }

    fn is_active(&self, version: Version) -> bool {
        let status = self.record().and_then(|record| record.status(version));
        status == Some(VersionStatus::Active)
    }

    fn append(
        &mut self,
        key: &AuditKey,
        pair: &PairId,
        entry: &AuditEntry,
        by: Option<&NodeLife>,
        written: Option<(Epoch, Rev)>,
    ) {
        let kind = word_of(entry.kind);
        let is_known = |record: &SealedAudit| record.kind == kind && record.dedupe == entry.dedupe;
        if self.audit.iter().any(is_known) {
            return;
        }
        let (seq, prev) = self.audit.last().map_or((1, [0; 32]), |last| (last.seq + 1, last.hash));
        let body = body_of(entry, Timestamp(seq), by, written);
        self.audit.push(seal(key, pair, seq, prev, &kind, &entry.dedupe, body));
    }

    fn append_grant(
        &mut self,
        key: &AuditKey,
        pair: &PairId,
        kind: AuditKind,
        version: Version,
        id: GrantId,
        life: &NodeLife,
    ) {
        let entry = AuditEntry {
            kind,
            dedupe: id.to_string(),
            rotation: None,
            version: Some(version),
            key_id: None,
            note: String::new(),
        };
        self.append(key, pair, &entry, Some(life), None);
    }
}

impl Books {
    fn is_present(&self, life: &NodeLife) -> bool {
        self.lives.get(&life.node) == Some(&life.incarnation)
    }

    fn valid(&self, pair: &PairId, version: Version) -> Vec<Grant> {
        let grants = self.pairs.get(pair).map_or(&[][..], |pair| &pair.grants);
        grants
            .iter()
            .filter(|grant| grant.version == version && self.is_present(&grant.life))
            .cloned()
            .collect()
    }

    fn is_claimed(
        &self,
        pair: &PairId,
        version: Version,
        key_id: Option<&ProviderKeyId>,
        fp: Option<&Fingerprint>,
    ) -> bool {
        let own = (pair.clone(), version);
        let by_key =
            key_id.and_then(|key_id| self.keys.get(&(pair.provider.clone(), key_id.clone())));
        let by_secret = fp.and_then(|fp| self.secrets.get(fp));
        by_key.into_iter().chain(by_secret).any(|who| *who != own)
    }

    fn check_writer(&self, transaction: &Transaction) -> Result<(), CommitError> {
        let record = &transaction.record;
        let stored = self.pairs.get(&record.pair).and_then(Pair::record);
        let (epoch, rev) = stored.map_or_else(Default::default, |old| (old.epoch, old.rev));
        if !self.is_present(&transaction.by) || transaction.expect.0 != epoch {
            return Err(CommitError::Fenced);
        }
        if transaction.expect.1 != rev {
            return Err(CommitError::Conflict);
        }
        if record.rev != rev.next() || record.epoch < epoch {
            return Err(CommitError::Corrupt("the record does not follow the stored one".into()));
        }
        Ok(())
    }

    fn check_guards(&self, flaws: JournalFlaws, txn: &Transaction) -> Result<(), CommitError> {
        let record = &txn.record;
        for guard in &txn.guards {
            let (is_met, left) = match guard {
                Guard::NoGrants(_) if flaws.ignores_grants => (true, 0),
                Guard::KeyUnclaimed { .. } if flaws.ignores_claims => (true, 0),
                Guard::NoGrants(version) => {
                    let left = self.valid(&record.pair, *version).len();
                    (left == 0, left)
                }
                Guard::KeyUnclaimed { version, key_id, fp } => {
                    let is_claimed =
                        self.is_claimed(&record.pair, *version, Some(key_id), fp.as_ref());
                    (!is_claimed, 0)
                }
            };
            if !is_met {
                return Err(CommitError::Refused {
                    guard: guard.clone(),
                    left: u32::try_from(left).expect("few grants"),
                });
            }
        }
        for (version, entry) in record.versions.iter().filter(|_| !flaws.ignores_claims) {
            let (key_id, fp) = (entry.key_id.as_ref(), entry.fp.as_ref());
            if self.is_claimed(&record.pair, *version, key_id, fp) {
                let guard = Guard::KeyUnclaimed {
                    version: *version,
                    key_id: key_id.cloned().expect("the tests give both"),
                    fp: fp.copied(),
                };
                return Err(CommitError::Refused { guard, left: 0 });
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        key: &AuditKey,
        flaws: JournalFlaws,
        transaction: Transaction,
    ) -> Result<Rev, CommitError> {
        let id = transaction.record.pair.clone();
        let stored = self.pairs.get(&id).and_then(|pair| pair.stored.as_ref());
        if let Some(stored) = stored.filter(|stored| stored.last_txn == transaction.id) {
            return Ok(stored.record.rev);
        }
        if !flaws.compares_nothing {
            self.check_writer(&transaction)?;
        }
        self.check_guards(flaws, &transaction)?;
        let copies = self.copies_of(&transaction);
        let record = transaction.record;
        for (version, entry) in &record.versions {
            let own = (id.clone(), *version);
            if let Some(key_id) = &entry.key_id {
                let name = (id.provider.clone(), key_id.clone());
                self.keys.insert(name, own.clone());
            }
            if let Some(fp) = entry.fp {
                self.secrets.insert(fp, own);
            }
        }
        let pair = self.pairs.entry(id.clone()).or_default();
        for entry in &transaction.audit {
            let out = pair.grants.iter().filter(|grant| entry.version == Some(grant.version));
            let out: Vec<_> = out.map(|grant| (grant.life.node.clone(), grant.id)).collect();
            let entry = name_outstanding(entry, &out);
            pair.append(key, &id, &entry, Some(&transaction.by), Some((record.epoch, record.rev)));
        }
        for grant in copies {
            pair.append_grant(key, &id, AuditKind::Granted, grant.version, grant.id, &grant.life);
            pair.grants
                .retain(|old| (old.version, &old.life.node) != (grant.version, &grant.life.node));
            pair.grants.push(grant);
        }
        if let Some(published) = transaction.published {
            pair.outbox.retain(|event| event.rev > published);
        }
        let rotation = record.rotation.as_ref().map_or_else(
            || RotationId { pair: id.clone(), n: record.next_rotation - 1 },
            |rotation| rotation.id.clone(),
        );
        let events = transaction.outbox.into_iter();
        pair.outbox.extend(events.map(|(kind, old, new)| Event {
            pair: id.clone(),
            rotation: rotation.clone(),
            rev: record.rev,
            kind,
            old,
            new,
        }));
        let rev = record.rev;
        pair.stored = Some(StoredPair { record, last_txn: transaction.id });
        Ok(rev)
    }

    fn copies_of(&mut self, transaction: &Transaction) -> Vec<Grant> {
        let Some(CopyGrants { from, to }) = transaction.grants else {
            return Vec::new();
        };
        let holders = self.valid(&transaction.record.pair, from);
        holders
            .into_iter()
            .map(|grant| {
                self.copies += 1;
                let mut id = [0xcc; 16];
                id[8..].copy_from_slice(&self.copies.to_be_bytes());
                Grant { version: to, id: GrantId(id), ..grant }
            })
            .collect()
    }

    /// The pair and how it stands for this life, which must be the present one.
    fn look(
        &mut self,
        pair: &PairId,
        life: &NodeLife,
    ) -> Result<(&mut Pair, Standing), GrantError> {
        if !self.is_present(life) {
            return Err(GrantError::Fenced);
        }
        let pair = self.pairs.get_mut(pair).ok_or(GrantError::NoPair)?;
        let standing = pair.standing(life)?;
        Ok((pair, standing))
    }
}

#[async_trait]
impl Journal for FakeJournal {
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal> {
        self.faults.pass(|| {
            let mut books = self.books.lock();
            let incarnation = books.lives.get(node).copied().unwrap_or_default().next();
            books.lives.insert(node.clone(), incarnation);
            for pair in books.pairs.values_mut() {
                pair.grants.retain(|grant| grant.life.node != *node);
            }
            Ok(NodeLife { node: node.clone(), incarnation })
        })
    }

    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal> {
        let books = self.books.lock();
        let mut pairs: Vec<_> = books
            .pairs
            .iter()
            .filter_map(|(id, pair)| {
                let record = pair.record()?;
                let rotation = record.rotation.as_ref();
                Some(PairSummary {
                    pair: id.clone(),
                    has_work: rotation.is_some_and(|rotation| !rotation.phase.is_final())
                        || record.queued.is_some()
                        || !record.obligations.is_empty(),
                    next_rotate_at: record.next_rotate_at.map(|due| due.at),
                })
            })
            .collect();
        pairs.sort_by_key(|summary| !summary.has_work);
        Ok(pairs)
    }

    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal> {
        let books = self.books.lock();
        Ok(books.pairs.get(pair).and_then(|pair| pair.stored.clone()))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Rev, CommitError> {
        self.keep_before();
        self.faults.pass(|| self.books.lock().commit(&self.audit_key, self.flaws, transaction))
    }

    async fn grant(
        &self,
        id: &PairId,
        version: Version,
        to: &NodeLife,
        grant: GrantId,
    ) -> Result<Standing, GrantError> {
        self.keep_before();
        self.faults.pass(|| {
            let mut books = self.books.lock();
            let (pair, standing) = books.look(id, to)?;
            if !pair.is_active(version) || standing.gate != Gate::Open {
                return Err(GrantError::Refused(Box::new(standing)));
            }
            if standing.grants.iter().any(|row| row.version == version) {
                return Ok(standing);
            }
            pair.grants.push(Grant { version, life: to.clone(), id: grant });
            pair.append_grant(&self.audit_key, id, AuditKind::Granted, version, grant, to);
            pair.standing(to)
        })
    }

    async fn return_grant(
        &self,
        id: &PairId,
        version: Version,
        by: &NodeLife,
        grant: GrantId,
    ) -> Result<Standing, GrantError> {
        self.keep_before();
        self.faults.pass(|| {
            let mut books = self.books.lock();
            let (pair, standing) = books.look(id, by)?;
            let is_it = |row: &GrantRow| row.version == version && row.id == grant;
            if !standing.grants.iter().any(is_it) {
                return Ok(standing);
            }
            if pair.is_active(version) {
                return Err(GrantError::Refused(Box::new(standing)));
            }
            pair.grants.retain(|row| row.id != grant || row.life.node != by.node);
            let kind = AuditKind::GrantReturned;
            pair.append_grant(&self.audit_key, id, kind, version, grant, by);
            pair.standing(by)
        })
    }

    async fn standing(&self, pair: &PairId, of: &NodeLife) -> Result<Standing, GrantError> {
        let (_, standing) = self.books.lock().look(pair, of)?;
        Ok(standing)
    }

    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal> {
        let left = self.books.lock().valid(pair, version).len();
        Ok(u32::try_from(left).expect("few grants"))
    }

    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal> {
        let books = self.books.lock();
        let events = books.pairs.get(pair).map(|pair| pair.outbox.clone());
        Ok(events.unwrap_or_default())
    }

    async fn append_audit(&self, id: &PairId, entry: &AuditEntry) -> Result<(), Refusal> {
        self.faults.pass(|| {
            let mut books = self.books.lock();
            let pair = books.pairs.entry(id.clone()).or_default();
            pair.append(&self.audit_key, id, entry, None, None);
            Ok(())
        })
    }

    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal> {
        let books = self.books.lock();
        let records = books.pairs.get(pair).map_or(&[][..], |pair| &pair.audit);
        let page = records.iter().filter(|record| record.seq > after);
        Ok(page.take(AUDIT_PAGE_MAX).cloned().collect())
    }
}
