//! What we promise, looked at after every change of a journal: S2, S3, S6, S7, S8, and that nothing
//! is promoted or destroyed that should not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keybaton_actors::shared::Shared;
use keybaton_messages::{
    Incarnation, PairId, ProviderKeyId, ProviderName, SecretVersion, TaskKey, Version,
    VersionStatus,
};
use keybaton_ports::{
    CheckpointStore, Entry, Journal, NodeLife, SealedAudit, Secret, TaskJournal, TaskState,
    Transaction, verify_chain,
};
use keybaton_rotation::{AuditKind, Gate, PairRecord, Phase};

use crate::ports::at_once;
use crate::world::World;

/// A key of a vendor.
pub(crate) type KeyName = (ProviderName, ProviderKeyId);

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    records: BTreeMap<PairId, Arc<PairRecord>>,
    /// Keys that an honest probe accepted.
    proven: BTreeSet<KeyName>,
    /// Versions whose revocation was forced.
    forced: BTreeSet<(PairId, Version)>,
    /// Keys that died by what we asked for.
    pub(crate) killed: BTreeSet<KeyName>,
    /// Keys that live.
    pub(crate) alive: BTreeSet<KeyName>,
    /// Results of each task.
    results: BTreeMap<TaskKey, u64>,
    shipped: BTreeMap<PairId, u64>,
    incarnation: Incarnation,
}

impl World {
    /// The record as the journal has it.
    pub(crate) fn record(&self, pair: &PairId) -> Option<Arc<PairRecord>> {
        let stored = at_once(self.journal.load(pair)).expect("the fake reads");
        stored.map(|stored| stored.record)
    }

    /// A life of the node began.
    pub(crate) fn began(&self, life: &NodeLife) {
        let mut seen = self.seen.lock();
        let before = std::mem::replace(&mut seen.incarnation, life.incarnation);
        drop(seen);
        if life.incarnation <= before {
            self.violate("S8", format!("{:?} began after {before:?}", life.incarnation));
        }
    }

    /// A transaction was carried out.
    pub(crate) fn committed(&self, transaction: &Transaction) {
        let pair = &transaction.record.pair;
        for entry in &transaction.audit {
            if let (AuditKind::ForcedRevoke, Some(version)) = (entry.kind, entry.version) {
                self.seen.lock().forced.insert((pair.clone(), version));
            }
        }
        let Some(record) = self.record(pair) else {
            return self.violate("S8", format!("{pair} is gone"));
        };
        let last = self.seen.lock().records.insert(pair.clone(), record.clone());
        if let Some(last) = last.filter(|last| *last != record) {
            self.check_monotone(&last, &record);
        }
        self.check_record(&record);
        self.check_holders(pair);
        self.check_named(pair);
    }

    pub(crate) fn is_forced(&self, pair: &PairId, version: Version) -> bool {
        self.seen.lock().forced.contains(&(pair.clone(), version))
    }

    /// S2, and the gate.
    fn check_record(&self, record: &PairRecord) {
        let is_active = |status| status == VersionStatus::Active;
        let active: Vec<_> = record
            .versions
            .iter()
            .filter(|(_, entry)| is_active(entry.status))
            .map(|(version, _)| *version)
            .collect();
        if active.len() > 1 || active.first().copied() != record.active {
            let named = record.active;
            self.violate("S2", format!("{}: {active:?} are ACTIVE, {named:?} named", record.pair));
        }
        if record.active.is_some() != (record.gate == Gate::Open) {
            self.violate("S2", format!("{:?} while {:?} is active", record.gate, record.active));
        }
        let phase = record.rotation.as_ref().map(|rotation| &rotation.phase);
        if matches!(phase, Some(Phase::Failed { .. })) && record.active.is_none() {
            self.violate("FAILED", format!("{}: no version is active", record.pair));
        }
    }

    /// S8 and R8.
    fn check_monotone(&self, last: &PairRecord, record: &PairRecord) {
        let pair = &record.pair;
        if record.rev <= last.rev || record.epoch < last.epoch {
            let (rev, epoch) = (record.rev, record.epoch);
            self.violate(
                "S8",
                format!("{pair}: {rev} of {epoch} after {} of {}", last.rev, last.epoch),
            );
        }
        if record.next_version < last.next_version || record.next_rotation < last.next_rotation {
            self.violate("S8", format!("{pair}: a counter went back"));
        }
        for (version, entry) in &record.versions {
            let Some(before) = last.status(*version) else { continue };
            let is_reopened =
                before == VersionStatus::Draining && entry.status == VersionStatus::Active;
            if entry.status < before && !is_reopened {
                let status = entry.status;
                self.violate("S8", format!("{pair} {version} went from {before} to {status}"));
            }
            let is_promoted = entry.status == VersionStatus::Active && before != entry.status;
            let key = entry.key_id.clone().map(|key_id| (pair.provider.clone(), key_id));
            let is_proven = key.is_some_and(|key| self.seen.lock().proven.contains(&key));
            if is_promoted && !is_reopened && !is_proven {
                self.violate("R8", format!("{pair} {version} was promoted without a good probe"));
            }
        }
    }

    /// S3: who holds what on the node that lives.
    pub(crate) fn check_holders(&self, pair: &PairId) {
        let Some(node) = self.node().filter(|_| !self.is_crashed()) else { return };
        let Some(record) = self.record(pair) else { return };
        let granted = granted(self, &node, pair);
        let cell = node.broker.cell(pair);
        for (version, entry) in &record.versions {
            let is_held = cell.holder_count(*version) > 0 || cell.is_open(*version);
            let may_be = matches!(entry.status, VersionStatus::Active | VersionStatus::Draining)
                && granted.contains(version);
            if is_held && !may_be && !self.is_forced(pair, *version) {
                let (status, has_grant) = (entry.status, granted.contains(version));
                self.violate(
                    "S3",
                    format!("{pair} {version} ({status}) is held, grant: {has_grant}"),
                );
            }
        }
    }

    /// S3 (a): a lease was given just now.
    pub(crate) fn check_lease(&self, pair: &PairId, version: Version) {
        let status = self.record(pair).and_then(|record| record.status(version));
        let may_be = matches!(status, Some(VersionStatus::Active | VersionStatus::Draining));
        if !may_be && !self.is_forced(pair, version) {
            self.violate("S3", format!("{pair}: a lease of {version} ({status:?}) was given"));
        }
    }

    /// The provider accepted this key when it was probed.
    pub(crate) fn proven(&self, provider: &ProviderName, secret: &Secret) {
        let vendor = self.vendors.get(provider).expect("a vendor of the world");
        if let Some(key) = vendor.books.key_of(secret.expose()) {
            self.seen.lock().proven.insert((provider.clone(), key.id));
        }
    }

    /// The secret of a version that may be used is never destroyed.
    pub(crate) fn check_destroy(&self, pair: &PairId, secret: SecretVersion) {
        use VersionStatus::{Active, Draining, Staged};
        let Some(record) = self.record(pair) else { return };
        let mut versions = record.versions.iter();
        let user = versions.find(|(_, entry)| entry.secret == Some(secret));
        if let Some((version, entry)) = user
            && matches!(entry.status, Staged | Active | Draining)
        {
            let status = entry.status;
            self.violate("secret", format!("that of {pair} {version} ({status}) is destroyed"));
        }
    }

    /// S6: an entry was written.
    pub(crate) fn appended(&self, key: &TaskKey) {
        let entries = at_once(self.tasks.entries(key)).unwrap_or_default();
        let results = entries.iter().filter_map(|entry| match entry {
            Entry::Result { n, .. } => Some(*n),
            _ => None,
        });
        let results: Vec<_> = results.collect();
        if results.iter().zip(0..).any(|(n, place)| *n != place) {
            return self.violate("S6", format!("{key} has results of the steps {results:?}"));
        }
        let now = results.len() as u64;
        let before = self.seen.lock().results.insert(key.clone(), now).unwrap_or(0);
        if now < before {
            self.violate("S6", format!("{key} had {before} results and has {now}"));
        }
        self.check_checkpoint(key);
    }

    /// S6: the checkpoint that a task would go on from lies where its journal says. Looked at when an
    /// entry was written and when a checkpoint was deleted.
    pub(crate) fn check_checkpoint(&self, key: &TaskKey) {
        let entries = at_once(self.tasks.entries(key)).unwrap_or_default();
        let newest = entries.iter().rev();
        let has_ended = newest.clone().any(|entry| match entry {
            Entry::State { state, .. } => {
                !matches!(state, TaskState::Running | TaskState::Parked(_))
            }
            _ => false,
        });
        let named = newest.clone().find_map(|entry| match entry {
            Entry::Result { checkpoint, .. } => checkpoint.as_ref(),
            Entry::Checkpoint { checkpoint, .. } => Some(checkpoint),
            _ => None,
        });
        let list = at_once(self.checkpoints.list(&key.tenant, Some(&key.task)));
        let lying = list.expect("the fake reads");
        if let Some(named) = named.filter(|_| !has_ended)
            && !lying.iter().any(|(_, at)| at == named)
        {
            self.violate(
                "S6",
                format!("{named:?} of {key} is gone, and it would go on from there"),
            );
        }
    }

    /// S7: records went to the sink.
    pub(crate) fn shipped(&self, records: &[SealedAudit]) {
        for record in records {
            let mut seen = self.seen.lock();
            let last = seen.shipped.entry(record.pair.clone()).or_default();
            let is_next = record.seq <= *last + 1;
            *last = (*last).max(record.seq);
            drop(seen);
            if !is_next {
                self.violate(
                    "S7",
                    format!("{} is shipped with a gap at {}", record.pair, record.seq),
                );
            }
        }
    }

    pub(crate) fn shipped_of(&self, pair: &PairId) -> u64 {
        self.seen.lock().shipped.get(pair).copied().unwrap_or_default()
    }

    /// S7: every chain is whole.
    pub(crate) fn check_audit(&self) {
        for pair in &self.pairs {
            let records = self.audit_of(pair);
            if let Err(broken) = verify_chain(&self.audit_key, pair, &records) {
                self.violate("S7", broken);
            }
        }
    }

    pub(crate) fn audit_of(&self, pair: &PairId) -> Vec<SealedAudit> {
        let mut records: Vec<SealedAudit> = Vec::new();
        loop {
            let after = records.last().map_or(0, |last| last.seq);
            let page = at_once(self.journal.audit(pair, after)).expect("the fake reads");
            if page.is_empty() {
                return records;
            }
            records.extend(page);
        }
    }

    /// A pair that was stopped found something impossible.
    pub(crate) fn check_stopped(&self) {
        let Some(node) = self.node() else { return };
        for (pair, view) in node.views.all() {
            if let Some(why) = view.stopped {
                self.violate("impossible", format!("{pair} is stopped: {why}"));
            }
        }
    }
}

fn granted(world: &World, node: &Arc<Shared>, pair: &PairId) -> BTreeSet<Version> {
    let standing = at_once(world.journal.standing(pair, &node.life));
    let grants = standing.map(|standing| standing.grants).unwrap_or_default();
    grants.into_iter().map(|grant| grant.version).collect()
}
