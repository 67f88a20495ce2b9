//! Secrets in the embedded store, each sealed under a key of its tenant.
//!
//! | table | primary key | holds |
//! |---|---|---|
//! | `secrets` | pair, number | what is known of the secret, and the secret |
//! | `secrets` | pair, 0 | the highest number ever given; no number is given twice |
//! | `secret_labels` | pair, label | the number |
//! | `witnesses` | pair | the witness |
//!
//! Destroying removes the row. The pages that held it are reused later; until then the file may
//! still contain the sealed bytes, which say nothing without the master key.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Label, PairId, SecretVersion};
use keybaton_ports::{Denial, Refusal, Secret, SecretMeta, SecretStore, StoredSecret, Witness};

use crate::secrets::embedded_rows::{
    is_counter, label_key, open_label, open_secret, open_witness, read_number, secret_key,
};
use crate::secrets::embedded_writes::{Destroy, Put, PutWitness};
use crate::store::{RowKey, Rows, Sealer, Store, Table};

/// The secret store of one embedded store.
pub struct EmbeddedSecrets {
    store: Arc<Store>,
    sealer: Arc<Sealer>,
}

impl EmbeddedSecrets {
    pub(crate) fn new(store: Arc<Store>, sealer: Arc<Sealer>) -> Self {
        Self { store, sealer }
    }
}

#[async_trait]
impl SecretStore for EmbeddedSecrets {
    async fn preflight(&self, _pair: &PairId) -> Result<(), Refusal> {
        self.store.check_writable()
    }

    async fn put(&self, meta: &SecretMeta, secret: &Secret) -> Result<SecretVersion, Refusal> {
        let work = Put::prepare(Arc::clone(&self.sealer), meta, secret)?;
        self.store.submit(work).await?
    }

    async fn read(&self, pair: &PairId, version: SecretVersion) -> Result<StoredSecret, Refusal> {
        let key = secret_key(pair, version);
        let bytes = self
            .store
            .read(|reader| reader.get(Table::Secrets, key.as_bytes()))?
            .filter(|_| version != SecretVersion(0))
            .ok_or_else(|| {
                let why = format!("no secret {version} of {pair}; it is destroyed or never was");
                Refusal::denied(Denial::NotFound, why)
            })?;
        open_secret(&self.sealer, pair, key.as_bytes(), &bytes)
    }

    async fn find(
        &self,
        pair: &PairId,
        label: &Label,
    ) -> Result<Option<(SecretVersion, StoredSecret)>, Refusal> {
        let key = label_key(pair, label);
        let found = self.store.read(|reader| {
            let Some(bytes) = reader.get(Table::SecretLabels, key.as_bytes())? else {
                return Ok(None);
            };
            let version = match open_label(&self.sealer, pair, key.as_bytes(), &bytes) {
                Ok(version) => version,
                Err(refusal) => return Ok(Some(Err(refusal))),
            };
            let row = reader.get(Table::Secrets, secret_key(pair, version).as_bytes())?;
            Ok(Some(Ok((version, row))))
        })?;
        let Some((version, row)) = found.transpose()? else {
            return Ok(None);
        };
        let bytes = row.ok_or_else(|| {
            Refusal::denied(Denial::Corrupt, format!("the secret under {label} is missing"))
        })?;
        let key = secret_key(pair, version);
        let stored = open_secret(&self.sealer, pair, key.as_bytes(), &bytes)?;
        if stored.meta.label.as_ref() != Some(label) {
            let why = format!("the secret under {label} has another label");
            return Err(Refusal::denied(Denial::Corrupt, why));
        }
        Ok(Some((version, stored)))
    }

    async fn destroy(&self, pair: &PairId, version: SecretVersion) -> Result<(), Refusal> {
        let work = Destroy::new(Arc::clone(&self.sealer), pair, version);
        self.store.submit(work).await?
    }

    async fn list(&self, pair: &PairId) -> Result<Vec<(SecretVersion, SecretMeta)>, Refusal> {
        let prefix = RowKey::pair(pair);
        let rows = self.store.read(|reader| reader.all(Table::Secrets, prefix.as_bytes()))?;
        rows.iter()
            .filter(|(key, _)| !is_counter(key))
            .map(|(key, bytes)| {
                let stored = open_secret(&self.sealer, pair, key, bytes)?;
                Ok((read_number(key), stored.meta))
            })
            .collect()
    }

    async fn put_witness(&self, pair: &PairId, witness: Witness) -> Result<(), Refusal> {
        let work = PutWitness::new(Arc::clone(&self.sealer), pair, witness);
        self.store.submit(work).await?
    }

    async fn witness(&self, pair: &PairId) -> Result<Option<Witness>, Refusal> {
        let key = RowKey::pair(pair);
        let bytes = self.store.read(|reader| reader.get(Table::Witnesses, key.as_bytes()))?;
        bytes.map(|bytes| open_witness(&self.sealer, key.as_bytes(), &bytes)).transpose()
    }
}
