//! The journal of pair records as a few maps.

use std::collections::{BTreeMap, BTreeSet};

use keybaton_adapters::audit::word_of;
use keybaton_messages::{
    Event, Fingerprint, GrantId, Incarnation, NodeId, PairId, ProviderKeyId, ProviderName, Rev,
    RotationId, TxnId, Version, VersionStatus,
};
use keybaton_ports::{
    CommitError, GrantError, GrantRow, NodeLife, PairSummary, Refusal, Standing, StoredPair,
    Transaction,
};
use keybaton_rotation::{AuditEntry, AuditKind, CopyGrants, Gate, Guard, PairRecord};

/// One call with all its arguments.
#[derive(Clone, Debug)]
pub enum Call {
    /// `begin_life`.
    Begin(NodeId),
    /// `commit`.
    Commit(Box<Transaction>),
    /// `grant`.
    Grant(PairId, Version, NodeLife, GrantId),
    /// `return_grant`.
    Return(PairId, Version, NodeLife, GrantId),
    /// `append_audit`.
    Append(PairId, AuditEntry),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `begin_life`.
    Life(Result<NodeLife, Refusal>),
    /// To `commit`.
    Committed(Result<Rev, CommitError>),
    /// To both grant operations.
    Standing(Result<Standing, GrantError>),
    /// To `append_audit`.
    Appended(Result<(), Refusal>),
}

/// A grant. The store chooses the id of a copied one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    version: Version,
    node: NodeId,
    id: Option<GrantId>,
}

#[derive(Clone, Debug, Default)]
struct Pair {
    stored: Option<StoredPair>,
    grants: Vec<Held>,
    facts: BTreeSet<(String, String)>,
    outbox: Vec<Event>,
    /// The last transaction that was acknowledged or tried, to ask again.
    last: Option<Transaction>,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    lives: BTreeMap<NodeId, NodeLife>,
    pairs: BTreeMap<PairId, Pair>,
    keys: BTreeMap<(ProviderName, ProviderKeyId), (PairId, Version)>,
    prints: BTreeMap<Fingerprint, (PairId, Version)>,
    ids: BTreeSet<GrantId>,
}

/// What can be read of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairView {
    /// Record and transaction.
    pub stored: Option<StoredPair>,
    /// For each life that was asked for.
    pub standings: Vec<Result<Standing, GrantError>>,
    /// Grants of the versions from 1 on.
    pub counts: Vec<u32>,
    /// Kind and dedupe of all audit records; an error when the chain is not whole.
    pub facts: Result<BTreeSet<(String, String)>, String>,
    /// Events that wait.
    pub outbox: Vec<Event>,
}

/// Everything that can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// `pairs`.
    pub listed: Vec<PairSummary>,
    /// Each pair that was asked for.
    pub pairs: BTreeMap<PairId, PairView>,
}

impl Pair {
    fn record(&self) -> Option<&PairRecord> {
        self.stored.as_ref().map(|stored| stored.record.as_ref())
    }

    fn status(&self, version: Version) -> Option<VersionStatus> {
        self.record().and_then(|record| record.status(version))
    }

    fn standing(&self, node: &NodeId) -> Result<Standing, GrantError> {
        let record = self.record().ok_or(GrantError::NoPair)?;
        let mut grants: Vec<_> = self
            .grants
            .iter()
            .filter(|held| held.node == *node)
            .map(|held| GrantRow {
                version: held.version,
                id: held.id.unwrap_or(GrantId([0; 16])),
                status: self.status(held.version).unwrap_or(VersionStatus::Revoked),
            })
            .collect();
        grants.sort_by_key(|row| row.version);
        let active = record.active.and_then(|version| {
            let entry = record.versions.get(&version)?;
            Some((version, entry.secret?, entry.fp?))
        });
        Ok(Standing { rev: record.rev, gate: record.gate, active, grants })
    }

    fn note(&mut self, kind: AuditKind, dedupe: String) {
        self.facts.insert((word_of(kind), dedupe));
    }
}

impl Pairs {
    /// The record as it stands, or as it would be begun.
    pub fn record(&self, pair: &PairId) -> Option<&PairRecord> {
        self.pairs.get(pair).and_then(Pair::record)
    }

    /// The present life of a node; its first one when it has not begun any.
    pub fn life(&self, node: &NodeId) -> NodeLife {
        let none = || NodeLife { node: node.clone(), incarnation: Incarnation(1) };
        self.lives.get(node).cloned().unwrap_or_else(none)
    }

    /// Whether a node has begun a life.
    pub fn is_born(&self, node: &NodeId) -> bool {
        self.lives.contains_key(node)
    }

    /// Whether there is a copied grant whose id was not seen.
    pub fn is_open(&self) -> bool {
        self.pairs.values().any(|pair| pair.grants.iter().any(|held| held.id.is_none()))
    }

    /// The transaction that was tried last.
    pub fn last(&self, pair: &PairId) -> Option<&Transaction> {
        self.pairs.get(pair).and_then(|pair| pair.last.as_ref())
    }

    /// The oldest version that this node holds.
    pub fn held(&self, pair: &PairId, node: &NodeId) -> Option<(Version, GrantId)> {
        let grants = &self.pairs.get(pair)?.grants;
        let held = grants.iter().filter(|held| held.node == *node).min()?;
        Some((held.version, held.id?))
    }

    fn is_present(&self, life: &NodeLife) -> bool {
        self.lives.get(&life.node) == Some(life)
    }

    /// What a call answers.
    pub fn expect(&mut self, call: &Call) -> Answer {
        match call {
            Call::Begin(node) => Answer::Life(Ok(self.begin(node))),
            Call::Commit(transaction) => Answer::Committed(self.commit(transaction)),
            Call::Grant(pair, version, life, id) => {
                Answer::Standing(self.grant(pair, *version, life, *id))
            }
            Call::Return(pair, version, life, id) => {
                Answer::Standing(self.give_back(pair, *version, life, *id))
            }
            Call::Append(pair, entry) => {
                let pair = self.pairs.entry(pair.clone()).or_default();
                pair.note(entry.kind, entry.dedupe.clone());
                Answer::Appended(Ok(()))
            }
        }
    }

    fn begin(&mut self, node: &NodeId) -> NodeLife {
        let incarnation = match self.lives.get(node) {
            Some(life) => life.incarnation.next(),
            None => Incarnation(1),
        };
        let life = NodeLife { node: node.clone(), incarnation };
        self.lives.insert(node.clone(), life.clone());
        for pair in self.pairs.values_mut() {
            pair.grants.retain(|held| held.node != *node);
        }
        life
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<Rev, CommitError> {
        let record = &transaction.record;
        let is_present = self.is_present(&transaction.by);
        let pair = self.pairs.entry(record.pair.clone()).or_default();
        pair.last = Some(transaction.clone());
        if let Some(stored) = pair.stored.as_ref().filter(|it| it.last_txn == transaction.id) {
            return Ok(stored.record.rev);
        }
        let (epoch, rev) =
            pair.record().map_or_else(Default::default, |record| (record.epoch, record.rev));
        if !is_present || transaction.expect.0 != epoch {
            return Err(CommitError::Fenced);
        }
        if transaction.expect.1 != rev {
            return Err(CommitError::Conflict);
        }
        self.check_guards(transaction)?;
        self.check_claims(record)?;
        self.write(transaction);
        Ok(record.rev)
    }

    fn check_guards(&self, transaction: &Transaction) -> Result<(), CommitError> {
        let pair = &transaction.record.pair;
        for guard in &transaction.guards {
            let refused = |left| Err(CommitError::Refused { guard: guard.clone(), left });
            match guard {
                Guard::NoGrants(version) => match self.count(pair, *version) {
                    0 => {}
                    left => return refused(left),
                },
                Guard::KeyUnclaimed { version, key_id, fp } => {
                    if self.is_claimed(pair, *version, Some(key_id), fp.as_ref()) {
                        return refused(0);
                    }
                }
            }
        }
        Ok(())
    }

    /// No two versions ever share a key, asked for or not.
    fn check_claims(&self, record: &PairRecord) -> Result<(), CommitError> {
        for (version, entry) in &record.versions {
            let (key_id, fp) = (entry.key_id.as_ref(), entry.fp.as_ref());
            if self.is_claimed(&record.pair, *version, key_id, fp) {
                let key_id = key_id.cloned().expect("these records give both");
                let guard = Guard::KeyUnclaimed { version: *version, key_id, fp: fp.copied() };
                return Err(CommitError::Refused { guard, left: 0 });
            }
        }
        Ok(())
    }

    fn is_claimed(
        &self,
        pair: &PairId,
        version: Version,
        key_id: Option<&ProviderKeyId>,
        fp: Option<&Fingerprint>,
    ) -> bool {
        let own = (pair.clone(), version);
        let by_key = key_id.and_then(|id| self.keys.get(&(pair.provider.clone(), id.clone())));
        let by_print = fp.and_then(|fp| self.prints.get(fp));
        by_key.into_iter().chain(by_print).any(|owner| *owner != own)
    }

    fn write(&mut self, transaction: &Transaction) {
        let record = &transaction.record;
        for (version, entry) in &record.versions {
            let own = (record.pair.clone(), *version);
            if let Some(key_id) = &entry.key_id {
                let key = (record.pair.provider.clone(), key_id.clone());
                self.keys.insert(key, own.clone());
            }
            if let Some(fp) = entry.fp {
                self.prints.insert(fp, own);
            }
        }
        let pair = self.pairs.entry(record.pair.clone()).or_default();
        for entry in &transaction.audit {
            pair.note(entry.kind, entry.dedupe.clone());
        }
        if let Some(CopyGrants { from, to }) = transaction.grants {
            let held: Vec<_> =
                pair.grants.iter().filter(|held| held.version == from).cloned().collect();
            for Held { node, .. } in held {
                pair.grants.retain(|old| (old.version, &old.node) != (to, &node));
                pair.grants.push(Held { version: to, node, id: None });
            }
        }
        if let Some(published) = transaction.published {
            pair.outbox.retain(|event| event.rev > published);
        }
        let rotation =
            RotationId { pair: record.pair.clone(), n: record.next_rotation.saturating_sub(1) };
        pair.outbox.extend(transaction.outbox.iter().map(|(kind, old, new)| Event {
            pair: record.pair.clone(),
            rotation: rotation.clone(),
            rev: record.rev,
            kind: *kind,
            old: *old,
            new: *new,
        }));
        pair.stored = Some(StoredPair { record: record.clone(), last_txn: transaction.id });
    }

    fn grant(
        &mut self,
        pair: &PairId,
        version: Version,
        life: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        if !self.is_present(life) {
            return Err(GrantError::Fenced);
        }
        let pair = self.pairs.get_mut(pair).ok_or(GrantError::NoPair)?;
        let standing = pair.standing(&life.node)?;
        if pair.status(version) != Some(VersionStatus::Active) || standing.gate != Gate::Open {
            return Err(GrantError::Refused(Box::new(standing)));
        }
        if standing.grants.iter().any(|row| row.version == version) {
            return Ok(standing);
        }
        self.ids.insert(id);
        pair.grants.push(Held { version, node: life.node.clone(), id: Some(id) });
        pair.note(AuditKind::Granted, id.to_string());
        pair.standing(&life.node)
    }

    fn give_back(
        &mut self,
        pair: &PairId,
        version: Version,
        life: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        if !self.is_present(life) {
            return Err(GrantError::Fenced);
        }
        let pair = self.pairs.get_mut(pair).ok_or(GrantError::NoPair)?;
        let standing = pair.standing(&life.node)?;
        let this = Held { version, node: life.node.clone(), id: Some(id) };
        if !pair.grants.contains(&this) {
            return Ok(standing);
        }
        if pair.status(version) == Some(VersionStatus::Active) {
            return Err(GrantError::Refused(Box::new(standing)));
        }
        pair.grants.retain(|held| *held != this);
        pair.note(AuditKind::GrantReturned, id.to_string());
        pair.standing(&life.node)
    }

    fn count(&self, pair: &PairId, version: Version) -> u32 {
        let grants = self.pairs.get(pair).map_or(&[][..], |pair| &pair.grants);
        let count = grants.iter().filter(|held| held.version == version).count();
        u32::try_from(count).expect("few grants")
    }

    /// Takes over the ids of copied grants, each of which must be a new one.
    pub fn adopt(&mut self, lives: &[NodeLife], view: &View) {
        for (id, pair) in &mut self.pairs {
            let Some(seen) = view.pairs.get(id) else {
                continue;
            };
            for held in &mut pair.grants {
                let standings = lives.iter().zip(&seen.standings);
                let rows = standings
                    .filter(|(life, _)| life.node == held.node)
                    .filter_map(|(_, standing)| standing.as_ref().ok())
                    .flat_map(|standing| &standing.grants);
                let row = rows.into_iter().find(|row| row.version == held.version);
                if let (None, Some(row)) = (held.id, row)
                    && self.ids.insert(row.id)
                {
                    held.id = Some(row.id);
                    pair.facts.insert((word_of(AuditKind::Granted), row.id.to_string()));
                }
            }
        }
    }

    /// Everything that can be read.
    pub fn view(&self, pairs: &[PairId], lives: &[NodeLife]) -> View {
        let none = Pair::default();
        let of = |id: &PairId| {
            let pair = self.pairs.get(id).unwrap_or(&none);
            let standing = |life: &NodeLife| {
                if self.is_present(life) {
                    pair.standing(&life.node)
                } else {
                    Err(GrantError::Fenced)
                }
            };
            PairView {
                stored: pair.stored.clone(),
                standings: lives.iter().map(standing).collect(),
                counts: versions(pair.record()).map(|version| self.count(id, version)).collect(),
                facts: Ok(pair.facts.clone()),
                outbox: pair.outbox.clone(),
            }
        };
        let is_stored = |id: &&PairId| self.record(id).is_some();
        let summary = |pair: &PairId| PairSummary {
            pair: pair.clone(),
            has_work: false,
            next_rotate_at: None,
        };
        View {
            listed: pairs.iter().filter(is_stored).map(summary).collect(),
            pairs: pairs.iter().map(|id| (id.clone(), of(id))).collect(),
        }
    }
}

/// The versions that are asked for grants.
pub fn versions(record: Option<&PairRecord>) -> impl Iterator<Item = Version> {
    let end = record.map_or(1, |record| record.next_version.0);
    (1..=end).map(Version)
}

/// A name for the n-th transaction.
pub fn txn(n: u64) -> TxnId {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    TxnId(id)
}

/// A name for the n-th grant.
pub fn grant_id(n: u64) -> GrantId {
    GrantId(txn(n).0)
}
