//! Where secrets lie: one path per pair, versioned, read by pinned version only.

use async_trait::async_trait;
use keybaton_messages::{
    Epoch, Label, PairId, ProviderKeyId, Rev, SecretVersion, Timestamp, Version,
};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::secret::Secret;

/// What is stored beside a secret. Its status is not: that lives in the record and is joined on
/// display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMeta {
    /// Whose it is: pair and therefore tenant.
    pub pair: PairId,
    /// The label of the version it belongs to; `None` for an imported key.
    pub label: Option<Label>,
    /// The provider's name for the key.
    pub key_id: ProviderKeyId,
    /// When the key was issued.
    pub issued_at: Timestamp,
    /// When the key ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A secret and what is stored beside it.
pub struct StoredSecret {
    /// The bytes.
    pub secret: Secret,
    /// What is known of them.
    pub meta: SecretMeta,
}

/// A copy of three numbers of the record, kept beside the secrets, to notice a record store that
/// went back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The record's revision.
    pub rev: Rev,
    /// The record's epoch.
    pub epoch: Epoch,
    /// The active version.
    pub active: Option<Version>,
}

/// Keeps secrets, one path per pair.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Asks whether a put for this pair can succeed now. Changes nothing.
    async fn preflight(&self, pair: &PairId) -> Result<(), Refusal>;

    /// Stores a secret under the next version number. A secret that is already stored under the
    /// same label answers with its own number, and nothing is stored twice.
    async fn put(&self, meta: &SecretMeta, secret: &Secret) -> Result<SecretVersion, Refusal>;

    /// Reads one version. `NotFound` when it was never there or is destroyed; `Corrupt` when the
    /// bytes are not what was written, or belong to another pair.
    async fn read(&self, pair: &PairId, version: SecretVersion) -> Result<StoredSecret, Refusal>;

    /// Finds what was put under a label.
    async fn find(
        &self,
        pair: &PairId,
        label: &Label,
    ) -> Result<Option<(SecretVersion, StoredSecret)>, Refusal>;

    /// Destroys one version's bytes for good. Destroying one that is gone succeeds.
    async fn destroy(&self, pair: &PairId, version: SecretVersion) -> Result<(), Refusal>;

    /// What is stored for a pair, oldest first, without the bytes.
    async fn list(&self, pair: &PairId) -> Result<Vec<(SecretVersion, SecretMeta)>, Refusal>;

    /// Writes the pair's witness; one that is older than the stored one is ignored.
    async fn put_witness(&self, pair: &PairId, witness: Witness) -> Result<(), Refusal>;

    /// Reads the pair's witness.
    async fn witness(&self, pair: &PairId) -> Result<Option<Witness>, Refusal>;
}
