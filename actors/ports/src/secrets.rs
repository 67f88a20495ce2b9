//! Where secrets lie: one path per pair, versioned, read by pinned version only.

use std::fmt;

use async_trait::async_trait;
use keybaton_messages::{
    DeploymentId, Epoch, Label, PairId, ProviderKeyId, Rev, SecretVersion, Timestamp, Version,
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

/// Which journal a record is in: as many characters as a deployment's id has. A journal that is
/// founded anew is another one; a copy of it is the same one, with other revisions.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation([u8; Self::CHARS]);

impl Generation {
    const CHARS: usize = 8;

    /// The generation of the journal with this id.
    ///
    /// # Panics
    /// Never: ids have one length.
    #[must_use]
    pub fn of(journal: &DeploymentId) -> Self {
        Self::parse(journal.as_str()).expect("an id of a deployment has eight characters")
    }

    /// Reads what was shown.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes().try_into().ok()?;
        text.is_ascii().then_some(Self(bytes))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Other bytes than of ASCII come from nowhere but a damaged store.
        out.write_str(std::str::from_utf8(&self.0).unwrap_or("unreadable"))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A copy of what marks the record's age, kept beside the secrets, to notice a record store that
/// went back in time or is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The record's revision.
    pub rev: Rev,
    /// The record's epoch.
    pub epoch: Epoch,
    /// The active version.
    pub active: Option<Version>,
    /// The journal that it is in. Witnesses of an older keybaton do not say.
    pub journal: Option<Generation>,
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
