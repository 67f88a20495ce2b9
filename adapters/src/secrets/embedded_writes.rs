//! The operations that change the embedded secret store.

use std::sync::Arc;

use keybaton_messages::{Label, PairId, ProviderKeyId, SecretVersion};
use keybaton_ports::{Refusal, Secret, SecretMeta, Witness};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::journals::{Stop, settle};
use crate::secrets::embedded_rows::{
    is_counter, label_key, open_counter, open_label, open_secret, open_witness, plain_of,
    read_number, seal_number, seal_secret, seal_witness, secret_key,
};
use crate::store::{Fault, RowKey, Rows, Sealer, Table, Tables, Work};

/// Stores a secret.
pub(crate) struct Put {
    sealer: Arc<Sealer>,
    pair: PairId,
    label: Option<Label>,
    key_id: ProviderKeyId,
    plain: Zeroizing<Vec<u8>>,
    secret_bytes: usize,
}

impl Put {
    pub(crate) fn prepare(
        sealer: Arc<Sealer>,
        meta: &SecretMeta,
        secret: &Secret,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            sealer,
            pair: meta.pair.clone(),
            label: meta.label.clone(),
            key_id: meta.key_id.clone(),
            plain: plain_of(meta, secret)?,
            secret_bytes: secret.expose().len(),
        })
    }

    fn run(&self, tables: &mut Tables<'_>) -> Result<SecretVersion, Stop<Refusal>> {
        if let Some(version) = self.find(tables)? {
            return Ok(version);
        }
        let counter = secret_key(&self.pair, SecretVersion(0));
        let last = match tables.get(Table::Secrets, counter.as_bytes())? {
            None => SecretVersion(0),
            Some(bytes) => open_counter(&self.sealer, &self.pair, counter.as_bytes(), &bytes)
                .map_err(Stop::Refused)?,
        };
        let version = last.next();
        let bytes = seal_number(&self.sealer, &self.pair, Table::Secrets, &counter, version);
        tables.insert(Table::Secrets, counter.as_bytes(), &bytes)?;
        let key = secret_key(&self.pair, version);
        let bytes = seal_secret(&self.sealer, &self.pair, &key, &self.plain);
        tables.insert(Table::Secrets, key.as_bytes(), &bytes)?;
        if let Some(label) = &self.label {
            let key = label_key(&self.pair, label);
            let table = Table::SecretLabels;
            let bytes = seal_number(&self.sealer, &self.pair, table, &key, version);
            tables.insert(table, key.as_bytes(), &bytes)?;
        }
        Ok(version)
    }

    /// The number under which this secret is stored already. One without a label is recognised by
    /// its key id and its bytes.
    fn find(&self, tables: &mut Tables<'_>) -> Result<Option<SecretVersion>, Stop<Refusal>> {
        let Some(label) = &self.label else {
            return self.find_unlabelled(tables);
        };
        let key = label_key(&self.pair, label);
        let Some(bytes) = tables.get(Table::SecretLabels, key.as_bytes())? else {
            return Ok(None);
        };
        open_label(&self.sealer, &self.pair, key.as_bytes(), &bytes)
            .map(Some)
            .map_err(Stop::Refused)
    }

    fn find_unlabelled(
        &self,
        tables: &mut Tables<'_>,
    ) -> Result<Option<SecretVersion>, Stop<Refusal>> {
        let secret = &self.plain[self.plain.len() - self.secret_bytes..];
        let prefix = RowKey::pair(&self.pair);
        for (key, bytes) in tables.all(Table::Secrets, prefix.as_bytes())? {
            if is_counter(&key) {
                continue;
            }
            let stored =
                open_secret(&self.sealer, &self.pair, &key, &bytes).map_err(Stop::Refused)?;
            let is_same = stored.meta.label.is_none()
                && stored.meta.key_id == self.key_id
                && bool::from(stored.secret.expose().ct_eq(secret));
            if is_same {
                return Ok(Some(read_number(&key)));
            }
        }
        Ok(None)
    }
}

impl Work for Put {
    type Answer = Result<SecretVersion, Refusal>;

    fn bytes(&self) -> usize {
        self.plain.len()
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        settle(self.run(tables))
    }
}

/// Destroys one version. A row that cannot be opened is destroyed all the same.
pub(crate) struct Destroy {
    sealer: Arc<Sealer>,
    pair: PairId,
    version: SecretVersion,
}

impl Destroy {
    pub(crate) fn new(sealer: Arc<Sealer>, pair: &PairId, version: SecretVersion) -> Self {
        Self { sealer, pair: pair.clone(), version }
    }
}

impl Work for Destroy {
    type Answer = Result<(), Refusal>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        let key = secret_key(&self.pair, self.version);
        if self.version == SecretVersion(0) {
            return Ok(Ok(()));
        }
        let Some(bytes) = tables.get(Table::Secrets, key.as_bytes())? else {
            return Ok(Ok(()));
        };
        let stored = open_secret(&self.sealer, &self.pair, key.as_bytes(), &bytes);
        if let Some(label) = stored.ok().and_then(|stored| stored.meta.label) {
            let label = label_key(&self.pair, &label);
            tables.remove(Table::SecretLabels, label.as_bytes())?;
        }
        tables.remove(Table::Secrets, key.as_bytes())?;
        Ok(Ok(()))
    }
}

/// Writes the witness unless the stored one is newer.
pub(crate) struct PutWitness {
    sealer: Arc<Sealer>,
    key: RowKey,
    witness: Witness,
}

impl PutWitness {
    pub(crate) fn new(sealer: Arc<Sealer>, pair: &PairId, witness: Witness) -> Self {
        Self { sealer, key: RowKey::pair(pair), witness }
    }
}

impl Work for PutWitness {
    type Answer = Result<(), Refusal>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        if let Some(bytes) = tables.get(Table::Witnesses, self.key.as_bytes())? {
            match open_witness(&self.sealer, self.key.as_bytes(), &bytes) {
                Ok(stored) if stored.rev >= self.witness.rev => return Ok(Ok(())),
                Ok(_) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        let bytes = seal_witness(&self.sealer, &self.key, &self.witness);
        tables.insert(Table::Witnesses, self.key.as_bytes(), &bytes)?;
        Ok(Ok(()))
    }
}
