//! A secret store in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use keybaton_messages::{Label, PairId, SecretVersion};
use keybaton_ports::{Denial, Refusal, Secret, SecretMeta, SecretStore, StoredSecret, Witness};
use parking_lot::Mutex;

use crate::faults::Faults;

#[derive(Default)]
struct Path {
    /// `None`: destroyed.
    versions: Vec<Option<(SecretMeta, Secret)>>,
    witness: Option<Witness>,
}

impl Path {
    fn stored(&self) -> impl Iterator<Item = (SecretVersion, &(SecretMeta, Secret))> {
        (1..)
            .map(SecretVersion)
            .zip(&self.versions)
            .filter_map(|(version, stored)| Some((version, stored.as_ref()?)))
    }
}

/// The fake. Clones of its `Arc` are views of one store, as after a restart.
#[derive(Default)]
pub struct FakeSecretStore {
    paths: Mutex<BTreeMap<PairId, Path>>,
    /// What goes wrong with the next writes, and with the next preflights.
    pub faults: Faults,
}

fn copy((meta, secret): &(SecretMeta, Secret)) -> Result<StoredSecret, Refusal> {
    Ok(StoredSecret { secret: Secret::new(secret.expose().to_vec())?, meta: meta.clone() })
}

#[async_trait]
impl SecretStore for FakeSecretStore {
    async fn preflight(&self, _pair: &PairId) -> Result<(), Refusal> {
        self.faults.pass(|| Ok(()))
    }

    async fn put(&self, meta: &SecretMeta, secret: &Secret) -> Result<SecretVersion, Refusal> {
        self.faults.pass(|| {
            let mut paths = self.paths.lock();
            let path = paths.entry(meta.pair.clone()).or_default();
            let known = path.stored().find(|(_, (old, bytes))| match &meta.label {
                Some(_) => old.label == meta.label,
                None => old == meta && bytes.is_same(secret),
            });
            if let Some((version, _)) = known {
                return Ok(version);
            }
            let secret = Secret::new(secret.expose().to_vec())?;
            path.versions.push(Some((meta.clone(), secret)));
            Ok(SecretVersion(path.versions.len() as u64))
        })
    }

    async fn read(&self, pair: &PairId, version: SecretVersion) -> Result<StoredSecret, Refusal> {
        let paths = self.paths.lock();
        let stored =
            paths.get(pair).and_then(|path| path.stored().find(|(number, _)| *number == version));
        match stored {
            Some((_, stored)) => copy(stored),
            None => Err(Refusal::denied(Denial::NotFound, "no such secret")),
        }
    }

    async fn find(
        &self,
        pair: &PairId,
        label: &Label,
    ) -> Result<Option<(SecretVersion, StoredSecret)>, Refusal> {
        let paths = self.paths.lock();
        let found = paths.get(pair).and_then(|path| {
            path.stored().find(|(_, (meta, _))| meta.label.as_ref() == Some(label))
        });
        found.map(|(version, stored)| Ok((version, copy(stored)?))).transpose()
    }

    async fn destroy(&self, pair: &PairId, version: SecretVersion) -> Result<(), Refusal> {
        self.faults.pass(|| {
            let mut paths = self.paths.lock();
            let place = usize::try_from(version.0).ok().and_then(|n| n.checked_sub(1));
            let slot = place.and_then(|at| paths.get_mut(pair)?.versions.get_mut(at));
            if let Some(slot) = slot {
                *slot = None;
            }
            Ok(())
        })
    }

    async fn list(&self, pair: &PairId) -> Result<Vec<(SecretVersion, SecretMeta)>, Refusal> {
        let paths = self.paths.lock();
        let stored = paths.get(pair).into_iter().flat_map(Path::stored);
        Ok(stored.map(|(version, (meta, _))| (version, meta.clone())).collect())
    }

    async fn put_witness(&self, pair: &PairId, witness: Witness) -> Result<(), Refusal> {
        self.faults.pass(|| {
            let mut paths = self.paths.lock();
            let path = paths.entry(pair.clone()).or_default();
            if path.witness.is_none_or(|stored| stored.rev < witness.rev) {
                path.witness = Some(witness);
            }
            Ok(())
        })
    }

    async fn witness(&self, pair: &PairId) -> Result<Option<Witness>, Refusal> {
        let paths = self.paths.lock();
        Ok(paths.get(pair).and_then(|path| path.witness))
    }
}
