//! Pairs to write journals about: small records that a rotation would really write.

use std::sync::Arc;

use keybaton_messages::{
    DeploymentId, Epoch, Fingerprint, GrantId, Label, NodeId, PairId, PairTag, ProviderKeyId, Rev,
    SecretVersion, Timestamp, TxnId, Version, VersionStatus,
};
use keybaton_ports::{CommitError, GrantError, Journal, NodeLife, Standing, Transaction};
use keybaton_rotation::{
    AuditEntry, AuditKind, Class, Gate, Owner, PairRecord, Pause, VersionEntry,
};

/// A tenant's pair at the provider `openai`.
#[must_use]
pub fn pair(tenant: &str) -> PairId {
    PairId::new(tenant.parse().expect("a tenant"), "openai".parse().expect("a provider"))
}

/// A node.
#[must_use]
pub fn node(name: &str) -> NodeId {
    name.parse().expect("a node")
}

/// A label of the pair's n-th version.
#[must_use]
pub fn label(version: u32) -> Label {
    Label::new(&deployment(), &tag(), Version(version))
}

fn deployment() -> DeploymentId {
    DeploymentId::from_digest(&[7; 16])
}

fn tag() -> PairTag {
    PairTag::from_digest(&[8; 16])
}

/// A provider's key id.
#[must_use]
pub fn key_id(name: &str) -> ProviderKeyId {
    name.parse().expect("a key id")
}

/// A grant id.
#[must_use]
pub fn grant_id(n: u8) -> GrantId {
    GrantId([n; 16])
}

/// A version as it is once its key is stored. Key id and fingerprint follow from `key`.
#[must_use]
pub fn version(status: VersionStatus, key: u8) -> VersionEntry {
    VersionEntry {
        status,
        label: Some(label(u32::from(key))),
        key_id: Some(key_id(&format!("key_{key}"))),
        secret: Some(SecretVersion(u64::from(key))),
        fp: Some(Fingerprint([key; 32])),
        issued_at: Some(Timestamp(1)),
        expires_at: None,
        promoted_at: None,
        imported: false,
    }
}

/// An audit entry that says nothing but its kind and what makes it unique.
#[must_use]
pub fn audit_entry(kind: AuditKind, dedupe: &str) -> AuditEntry {
    AuditEntry {
        kind,
        dedupe: dedupe.to_owned(),
        rotation: None,
        version: None,
        key_id: None,
        note: String::new(),
    }
}

/// The record of a transaction, to be changed.
pub fn record_in(transaction: &mut Transaction) -> &mut PairRecord {
    Arc::make_mut(&mut transaction.record)
}

/// One owner of one pair, who knows the record it wrote last.
pub struct Writer {
    /// Where it writes.
    pub journal: Arc<dyn Journal>,
    /// Who it is.
    pub life: NodeLife,
    /// What it wrote last, or what it would write first.
    pub record: Arc<PairRecord>,
    transactions: u8,
}

impl Writer {
    /// Begins a life of `node` and looks at a pair that was never written.
    pub async fn begin(journal: Arc<dyn Journal>, node_name: &str, pair: PairId) -> Self {
        let life = journal.begin_life(&node(node_name)).await.expect("a life");
        Self::with(journal, life, pair)
    }

    /// The same for a life that has begun.
    #[must_use]
    pub fn with(journal: Arc<dyn Journal>, life: NodeLife, pair: PairId) -> Self {
        let owner = Owner { node: life.node.clone(), incarnation: life.incarnation };
        Self {
            journal,
            record: Arc::new(PairRecord::new(pair, deployment(), tag(), Class::A, owner)),
            life,
            transactions: 0,
        }
    }

    /// A writer whose pair has the key `key` as version 1, ACTIVE.
    pub async fn provisioned(
        journal: Arc<dyn Journal>,
        node_name: &str,
        pair: PairId,
        key: u8,
    ) -> Self {
        let mut writer = Self::begin(journal, node_name, pair).await;
        writer.promote(1, key).await;
        writer
    }

    /// The next transaction: the record as it stands, one revision on, then `change`.
    pub fn next(&mut self, change: impl FnOnce(&mut Transaction)) -> Transaction {
        self.transactions += 1;
        let expect = (self.record.epoch, self.record.rev);
        let mut record = PairRecord::clone(&self.record);
        record.rev = record.rev.next();
        if record.epoch == Epoch(0) {
            record.epoch = Epoch(1);
        }
        let transaction_id = self.transaction_id();
        let mut transaction = Transaction {
            id: transaction_id,
            by: self.life.clone(),
            expect,
            record: Arc::new(record),
            guards: Vec::new(),
            grants: None,
            audit: Vec::new(),
            outbox: Vec::new(),
            published: None,
        };
        change(&mut transaction);
        transaction
    }

    /// Never the same for two pairs, two lives or two transactions.
    fn transaction_id(&self) -> TxnId {
        let mut id = [0; 16];
        let tenant = self.record.pair.tenant.as_str().bytes();
        id.iter_mut().take(8).zip(tenant).for_each(|(to, from)| *to = from);
        id[8..].copy_from_slice(&self.life.incarnation.0.to_be_bytes());
        id[8] = self.transactions;
        TxnId(id)
    }

    /// Commits, and knows the new record if that succeeds.
    pub async fn try_commit(&mut self, transaction: Transaction) -> Result<Rev, CommitError> {
        let record = transaction.record.clone();
        let rev = self.journal.commit(transaction).await?;
        self.record = record;
        Ok(rev)
    }

    /// Commits the next transaction.
    pub async fn commit(&mut self, change: impl FnOnce(&mut Transaction)) -> Rev {
        let transaction = self.next(change);
        self.try_commit(transaction).await.expect("committed")
    }

    /// Makes `new` the ACTIVE version, with the key `key`; the one before is DRAINING.
    pub async fn promote(&mut self, new: u32, key: u8) -> Rev {
        self.commit(|transaction| promoted(record_in(transaction), new, key)).await
    }

    /// Gives a version another status.
    pub async fn set(&mut self, version: u32, status: VersionStatus) -> Rev {
        self.commit(|transaction| {
            let record = record_in(transaction);
            let entry = record.versions.get_mut(&Version(version)).expect("a version");
            entry.status = status;
            if record.active == Some(Version(version)) && status != VersionStatus::Active {
                record.active = None;
                record.gate = Gate::Paused(Pause::NoCredential);
            }
        })
        .await
    }

    /// K1 for this life.
    pub async fn grant(&self, version: u32, id: u8) -> Result<Standing, GrantError> {
        let pair = &self.record.pair;
        self.journal.grant(pair, Version(version), &self.life, grant_id(id)).await
    }

    /// K1 for another life.
    pub async fn grant_to(
        &self,
        life: &NodeLife,
        version: u32,
        id: u8,
    ) -> Result<Standing, GrantError> {
        let pair = &self.record.pair;
        self.journal.grant(pair, Version(version), life, grant_id(id)).await
    }

    /// Returns a grant of this life.
    pub async fn return_grant(&self, version: u32, id: GrantId) -> Result<Standing, GrantError> {
        self.journal.return_grant(&self.record.pair, Version(version), &self.life, id).await
    }

    /// Valid grants of a version.
    pub async fn count(&self, version: u32) -> u32 {
        self.journal.count_grants(&self.record.pair, Version(version)).await.expect("counted")
    }
}

/// The record after a promotion.
pub fn promoted(record: &mut PairRecord, new: u32, key: u8) {
    if let Some(old) = record.active.and_then(|old| record.versions.get_mut(&old)) {
        old.status = VersionStatus::Draining;
    }
    record.versions.insert(Version(new), version(VersionStatus::Active, key));
    record.active = Some(Version(new));
    record.gate = Gate::Open;
    record.next_version = Version(new + 1);
}
