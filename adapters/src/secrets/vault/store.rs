//! The port `SecretStore` on KV v2: versions are Vault's own, pinned by number.
//!
//! A write carries the newest number it has seen as its check-and-set. So a write of ours that is
//! carried out late and its repetition cannot both succeed, and a secret that was stored already is
//! found by its label before anything is written.
//!
//! **Invariant:** reads name a version; the newest one is never asked for.
//! **Invariant:** no write pushes out a version that still holds a value.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use keybaton_messages::{Label, PairId, SecretVersion};
use keybaton_ports::{Denial, Refusal, Secret, SecretMeta, SecretStore, StoredSecret, Witness};
use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep};
use vaultrs::api::kv2::requests::SetSecretMetadataRequest;
use vaultrs::kv2;

use super::document::{Document, ReadAnswer, WriteAnswer, write_body};
use super::limits::{
    LOST_WRITES_MAX, READS_AT_ONCE, STALE_ASK_EVERY, STALE_WAIT_MAX, WITNESS_LOCKS,
};
use super::outcome::{Act, Failure, of_library};
use super::place::Place;
use super::session::Session;
use super::settings::{VaultError, VaultSettings};
use super::shelf::{Shelf, never_ends};
use super::wire::Call;

/// Secrets in one KV v2 engine of Vault or `OpenBao`.
pub struct VaultSecrets {
    session: Arc<Session>,
    place: Place,
    /// The highest number seen of each pair, to notice a Vault that went back in time.
    seen: Mutex<HashMap<PairId, u64>>,
    /// Custom metadata has no check-and-set: writes of one pair's witness take turns here.
    witness_locks: [AsyncMutex<()>; WITNESS_LOCKS],
}

/// What a read of one version found.
enum Found {
    Value(Box<Document>),
    /// Destroyed, or deleted by a person, who could undo that.
    Gone {
        is_destroyed: bool,
    },
    Nothing,
}

impl VaultSecrets {
    /// Checks the settings and reads the authorities to trust. Vault is not asked before the first
    /// call, so that a node starts while Vault is away.
    ///
    /// # Errors
    /// [`VaultError`], each saying what to do next.
    pub fn new(settings: VaultSettings) -> Result<Self, VaultError> {
        let place = Place::new(&settings.mount, &settings.prefix)?;
        Ok(Self {
            session: Session::new(settings)?,
            place,
            seen: Mutex::default(),
            witness_locks: std::array::from_fn(|_| AsyncMutex::new(())),
        })
    }

    /// Where the secrets lie.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    async fn read_one(&self, pair: &PairId, number: u64) -> Result<Found, Refusal> {
        let path = self.place.url(pair);
        let (session, path) = (&self.session, &path);
        let answer = session
            .ask(|live| async move {
                let query = [("version", number.to_string())];
                let call = Call {
                    method: Method::GET,
                    path,
                    query: &query,
                    body: None,
                    token: Some(&live.token),
                    act: Act::Read,
                };
                session.wire.send(call).await
            })
            .await
            .map_err(Failure::into_refusal)?;
        // Not Vault's form: somebody between us answered, and knows nothing of versions.
        let said: ReadAnswer = answer.read(Act::Read).map_err(Failure::into_refusal)?;
        match said.data {
            Some(held) if answer.is_absent => {
                Ok(Found::Gone { is_destroyed: held.metadata.destroyed })
            }
            None if answer.is_absent => Ok(Found::Nothing),
            Some(held) if held.metadata.version != number => {
                let why = format!("asked for s{number}, Vault answers s{}", held.metadata.version);
                Err(Refusal::denied(Denial::Corrupt, why))
            }
            Some(held) => Ok(match held.data {
                Some(document) => Found::Value(Box::new(document)),
                None => Found::Gone { is_destroyed: held.metadata.destroyed },
            }),
            None => Err(Refusal::busy("Vault's answer has no data")),
        }
    }

    async fn shelf(&self, pair: &PairId) -> Result<Shelf, Refusal> {
        let path = self.place.path(pair);
        let (session, mount, path) = (&self.session, self.place.mount(), path.as_str());
        let read = session
            .ask(|live| async move {
                let _permit = session.wire.permit().await;
                let read = kv2::read_metadata(&live.client, mount, path).await;
                read.map_err(|error| of_library(&error, Act::Read))
            })
            .await;
        let shelf = match read {
            Ok(answer) => Shelf::new(answer),
            Err(Failure::Absent) => Shelf::default(),
            Err(other) => return Err(other.into_refusal()),
        };
        let mut seen = self.seen.lock();
        let highest = seen.entry(pair.clone()).or_default();
        *highest = shelf.current.max(*highest);
        Ok(shelf)
    }

    /// A number that is given a second time would let one version's secret pass for another's.
    async fn check_forward(&self, pair: &PairId, shelf: &Shelf) -> Result<(), Refusal> {
        let highest = self.seen.lock().get(pair).copied().unwrap_or_default();
        if shelf.current >= highest {
            return Ok(());
        }
        if self.session.wire.may_be_stale().await {
            return Err(Refusal::busy("a standby of Vault lags behind"));
        }
        let why = format!(
            "Vault went back from s{highest} to s{} at {}: it was restored from an older state; \
             docs/howto/vault.md says what to do",
            shelf.current,
            self.place.path(pair)
        );
        Err(Refusal::denied(Denial::Corrupt, why))
    }

    async fn write_metadata(
        &self,
        pair: &PairId,
        fill: impl Fn(&mut vaultrs::api::kv2::requests::SetSecretMetadataRequestBuilder) + Send + Sync,
    ) -> Result<(), Refusal> {
        let path = self.place.path(pair);
        let (session, mount, path, fill) =
            (&self.session, self.place.mount(), path.as_str(), &fill);
        let written = session.ask(|live| async move {
            let mut request = SetSecretMetadataRequest::builder();
            fill(&mut request);
            let _permit = session.wire.permit().await;
            let written = kv2::set_metadata(&live.client, mount, path, Some(&mut request)).await;
            written.map_err(|error| of_library(&error, Act::Write))
        });
        written.await.map_err(Failure::into_refusal)
    }

    /// Makes Vault keep what the next write would push out, and take no write without a check.
    async fn make_room(&self, pair: &PairId, shelf: &Shelf) -> Result<(), Refusal> {
        let Some(versions) = shelf.room_needed()? else {
            return Ok(());
        };
        self.write_metadata(pair, |request| {
            request.max_versions(versions).cas_required(true).delete_version_after("0s");
        })
        .await
    }

    /// Stores the value as the version behind `newest`, if that still is the newest.
    async fn write(
        &self,
        meta: &SecretMeta,
        secret: &Secret,
        newest: u64,
    ) -> Result<SecretVersion, Failure> {
        // Refused before anything is sent when it cannot be written down.
        drop(write_body(meta, secret, newest).map_err(Failure::Refused)?);
        let path = self.place.url(&meta.pair);
        let (session, path) = (&self.session, &path);
        let answer = session
            .ask(|live| async move {
                let body = write_body(meta, secret, newest).map_err(Failure::Refused)?;
                let call = Call {
                    method: Method::POST,
                    path,
                    query: &[],
                    body: Some(body),
                    token: Some(&live.token),
                    act: Act::Write,
                };
                session.wire.send(call).await
            })
            .await?;
        if answer.is_absent {
            return Err(Failure::Absent);
        }
        let said: WriteAnswer = answer.read(Act::Write)?;
        if !said.data.deletion_time.is_empty() {
            tracing::error!(
                pair = %meta.pair, version = said.data.version,
                "Vault will delete this version by itself: set delete_version_after of the mount to 0"
            );
        }
        let mut seen = self.seen.lock();
        let highest = seen.entry(meta.pair.clone()).or_default();
        *highest = said.data.version.max(*highest);
        Ok(SecretVersion(said.data.version))
    }

    /// The newest version of ours that `is_it` recognises. One that a person deleted is not looked
    /// into: it can be handed out to nobody, and a key that is issued anew replaces it.
    async fn search(
        &self,
        pair: &PairId,
        shelf: &Shelf,
        is_it: impl Fn(&Document) -> bool + Send + Sync,
    ) -> Result<Option<(SecretVersion, Box<Document>)>, Refusal> {
        for &number in shelf.held.iter().rev() {
            match self.read_one(pair, number).await? {
                Found::Value(document) if !document.is_ours() => {
                    tracing::warn!(%pair, number, "somebody else wrote a version to this path");
                }
                Found::Value(document) if is_it(&document) => {
                    return Ok(Some((SecretVersion(number), document)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The number under which this secret is stored already. One without a label is recognised by
    /// its key id and its bytes.
    async fn stored(
        &self,
        meta: &SecretMeta,
        secret: &Secret,
        shelf: &Shelf,
    ) -> Result<Option<SecretVersion>, Refusal> {
        let pair = &meta.pair;
        let Some(label) = &meta.label else {
            for &number in shelf.held.iter().rev() {
                let Found::Value(document) = self.read_one(pair, number).await? else {
                    continue;
                };
                let is_same = document.open(pair).is_ok_and(|stored| {
                    stored.meta.label.is_none()
                        && stored.meta.key_id == meta.key_id
                        && stored.secret.is_same(secret)
                });
                if is_same {
                    return Ok(Some(SecretVersion(number)));
                }
            }
            return Ok(None);
        };
        let label = label.as_str();
        let found = self.search(pair, shelf, |document| document.label() == Some(label)).await?;
        Ok(found.map(|(version, _)| version))
    }

    /// What is known of one version; `None` when it holds nothing of ours.
    async fn described(
        &self,
        pair: &PairId,
        number: u64,
    ) -> Result<Option<(SecretVersion, SecretMeta)>, Refusal> {
        match self.read_one(pair, number).await? {
            Found::Value(document) if document.is_ours() => {
                Ok(Some((SecretVersion(number), document.open(pair)?.meta)))
            }
            _ => Ok(None),
        }
    }

    fn witness_lock(&self, pair: &PairId) -> &AsyncMutex<()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(pair);
        let locks = WITNESS_LOCKS as u64;
        let index = usize::try_from(hash % locks).expect("below the number of locks");
        &self.witness_locks[index]
    }

    /// What the token may do on the paths that a rotation uses.
    async fn check_capabilities(&self, pair: &PairId) -> Result<(), Refusal> {
        #[derive(Deserialize)]
        struct Capabilities {
            data: HashMap<String, serde_json::Value>,
        }
        let needs = self.place.needs(pair);
        let paths: Vec<_> = needs.iter().map(|(path, _)| path.as_str()).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "paths": paths }))
            .expect("texts are always JSON");
        let url = ["v1", "sys", "capabilities-self"].map(str::to_owned);
        let (session, url, body) = (&self.session, &url, &body);
        let answer = session
            .ask(|live| async move {
                let call = Call {
                    method: Method::POST,
                    path: url,
                    query: &[],
                    body: Some(body.clone().into()),
                    token: Some(&live.token),
                    act: Act::Read,
                };
                session.wire.send(call).await
            })
            .await
            .map_err(Failure::into_refusal)?;
        let said: Capabilities = answer.read(Act::Read).map_err(Failure::into_refusal)?;
        for (path, needed) in &needs {
            let has = |word: &str| {
                let list = said.data.get(path).and_then(serde_json::Value::as_array);
                list.is_some_and(|list| list.iter().any(|it| it.as_str() == Some(word)))
            };
            let is_missing = |word: &&&str| !has(word) && !has("root");
            if let Some(missing) = needed.iter().find(is_missing) {
                let tenant = &pair.tenant;
                let why = format!(
                    "the token may not {missing} {path}: apply `keybaton vault policy --tenant \
                     {tenant}`"
                );
                return Err(Refusal::denied(Denial::Admin, why));
            }
        }
        Ok(())
    }

    /// A mount that deletes versions by the clock would take a key from under its holders.
    async fn check_mount(&self) -> Result<(), Refusal> {
        let (session, mount) = (&self.session, self.place.mount());
        let read = session.ask(|live| async move {
            let _permit = session.wire.permit().await;
            let read = kv2::config::read(&live.client, mount).await;
            read.map_err(|error| of_library(&error, Act::Read))
        });
        match read.await.map_err(Failure::into_refusal)? {
            config if never_ends(&config.delete_version_after) => Ok(()),
            config => {
                let after = config.delete_version_after;
                let why = format!(
                    "the mount deletes versions after {after}, also those in use: set its \
                     delete_version_after to 0"
                );
                Err(Refusal::denied(Denial::BadRequest, why))
            }
        }
    }
}

/// Numbers that Vault can have given. Zero would be the newest version to it.
fn is_number(version: SecretVersion) -> bool {
    (1..=i64::MAX.unsigned_abs()).contains(&version.0)
}

#[async_trait]
impl SecretStore for VaultSecrets {
    async fn preflight(&self, pair: &PairId) -> Result<(), Refusal> {
        self.session.check_lasting().await?;
        self.check_capabilities(pair).await?;
        self.check_mount().await?;
        let shelf = self.shelf(pair).await?;
        self.check_forward(pair, &shelf).await?;
        shelf.room_needed().map(drop)
    }

    async fn put(&self, meta: &SecretMeta, secret: &Secret) -> Result<SecretVersion, Refusal> {
        for _ in 0..LOST_WRITES_MAX {
            let shelf = self.shelf(&meta.pair).await?;
            self.check_forward(&meta.pair, &shelf).await?;
            if let Some(version) = self.stored(meta, secret, &shelf).await? {
                return Ok(version);
            }
            self.make_room(&meta.pair, &shelf).await?;
            match self.write(meta, secret, shelf.current).await {
                Ok(version) => return Ok(version),
                // Ours, carried out late, or another's: the next look tells.
                Err(Failure::Lost) => {}
                Err(other) => return Err(other.into_refusal()),
            }
        }
        Err(Refusal::busy("others write to this path all the time: look who else may"))
    }

    async fn read(&self, pair: &PairId, version: SecretVersion) -> Result<StoredSecret, Refusal> {
        let missing = |why: &str| {
            let path = self.place.path(pair);
            Refusal::denied(Denial::NotFound, format!("no secret {version} at {path}: {why}"))
        };
        if !is_number(version) {
            return Err(missing("Vault never gives such a number"));
        }
        let begun = Instant::now();
        loop {
            match self.read_one(pair, version.0).await? {
                Found::Value(document) => return document.open(pair),
                Found::Gone { is_destroyed: true } => return Err(missing("it is destroyed")),
                Found::Gone { is_destroyed: false } => {
                    let path = self.place.path(pair);
                    let why = format!("{version} at {path} is deleted: `vault kv undelete` it");
                    return Err(Refusal::busy(why));
                }
                Found::Nothing => {}
            }
            if begun.elapsed() >= STALE_WAIT_MAX || !self.session.wire.may_be_stale().await {
                return Err(missing("it never was"));
            }
            sleep(STALE_ASK_EVERY).await;
        }
    }

    async fn find(
        &self,
        pair: &PairId,
        label: &Label,
    ) -> Result<Option<(SecretVersion, StoredSecret)>, Refusal> {
        let begun = Instant::now();
        loop {
            let shelf = self.shelf(pair).await?;
            let is_it = |document: &Document| document.label() == Some(label.as_str());
            if let Some((version, document)) = self.search(pair, &shelf, is_it).await? {
                return Ok(Some((version, document.open(pair)?)));
            }
            if begun.elapsed() >= STALE_WAIT_MAX || !self.session.wire.may_be_stale().await {
                return Ok(None);
            }
            sleep(STALE_ASK_EVERY).await;
        }
    }

    async fn destroy(&self, pair: &PairId, version: SecretVersion) -> Result<(), Refusal> {
        if !is_number(version) {
            return Ok(());
        }
        let path = self.place.path(pair);
        let (session, mount, path) = (&self.session, self.place.mount(), path.as_str());
        let destroyed = session.ask(|live| async move {
            let _permit = session.wire.permit().await;
            let destroyed = kv2::destroy_versions(&live.client, mount, path, vec![version.0]).await;
            destroyed.map_err(|error| of_library(&error, Act::Write))
        });
        destroyed.await.map_err(Failure::into_refusal)
    }

    async fn list(&self, pair: &PairId) -> Result<Vec<(SecretVersion, SecretMeta)>, Refusal> {
        let shelf = self.shelf(pair).await?;
        let reads: Vec<_> = shelf.held.iter().map(|&number| self.described(pair, number)).collect();
        let found: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn put_witness(&self, pair: &PairId, witness: Witness) -> Result<(), Refusal> {
        let _turn = self.witness_lock(pair).lock().await;
        let shelf = self.shelf(pair).await?;
        if shelf.witness()?.is_some_and(|stored| stored.rev >= witness.rev) {
            return Ok(());
        }
        let custom = shelf.with_witness(witness);
        self.write_metadata(pair, |request| {
            request.custom_metadata(custom.clone());
        })
        .await
    }

    async fn witness(&self, pair: &PairId) -> Result<Option<Witness>, Refusal> {
        self.shelf(pair).await?.witness()
    }
}
