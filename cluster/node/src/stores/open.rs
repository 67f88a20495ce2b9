//! Opens the chosen stores in the order in which a failure leaves nothing behind that a second try
//! would stumble over: the directory's lock, a journal on a server, the embedded store.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;
use keybaton_adapters::buses::{LocalBus, RedisBus};
use keybaton_adapters::journals::{RedisJournalSettings, RedisReservation, RedisStore};
use keybaton_adapters::postgres::{Postgres, PostgresSettings, Reservation};
use keybaton_adapters::secrets::vault::VaultSecrets;
use keybaton_adapters::store::{DataDir, MasterKey, OpenError};
use keybaton_adapters::{Embedded, Options};
use keybaton_messages::DeploymentId;
use keybaton_ports::{
    AuditKey, CheckpointStore, Clock, Entropy, EventBus, FingerprintKey, Journal, SecretStore,
    TaskJournal,
};
use tokio::sync::watch;

use super::kept::Kept;
use super::{BusChoice, Choice, JournalChoice, SecretsChoice, StoreNames, holds_node};
use crate::builder::existing_master_key;
use crate::error::StartError;

/// The stores of a node, opened.
pub(crate) struct Stores {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) tasks: Arc<dyn TaskJournal>,
    pub(crate) checkpoints: Arc<dyn CheckpointStore>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) fingerprint_key: Arc<FingerprintKey>,
    pub(crate) audit_key: Arc<AuditKey>,
    pub(crate) deployment: DeploymentId,
    pub(crate) names: StoreNames,
    reservation: Option<Reserved>,
    /// Holds the lock on the directory, whatever else is in it.
    embedded: Embedded,
}

/// A journal on a server, with the keys and the time that go with its records.
struct Elsewhere {
    journal: Arc<dyn Journal>,
    tasks: Arc<dyn TaskJournal>,
    /// Where there are none, checkpoints travel in the steps of the tasks, as in the directory.
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    clock: Arc<dyn Clock>,
    fingerprint_key: Arc<FingerprintKey>,
    audit_key: Arc<AuditKey>,
    deployment: DeploymentId,
    may_lose: Option<String>,
    reservation: Option<Reserved>,
}

/// Keeps other processes from a journal on a server.
enum Reserved {
    Postgres(Reservation),
    Redis(RedisReservation),
}

impl Reserved {
    fn lost(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Postgres(reservation) => reservation.lost(),
            Self::Redis(reservation) => reservation.lost(),
        }
    }
}

impl Stores {
    /// Each becomes `Some(why)` when a store has stopped for good.
    pub(crate) fn stops(&self) -> Vec<watch::Receiver<Option<String>>> {
        let lost = self.reservation.as_ref().map(Reserved::lost);
        std::iter::once(self.embedded.stopped()).chain(lost).collect()
    }

    /// Everything in one embedded store.
    fn embedded(embedded: Embedded, bus: Arc<dyn EventBus>, names: StoreNames) -> Self {
        Self {
            journal: embedded.journal.clone(),
            tasks: embedded.tasks.clone(),
            checkpoints: embedded.checkpoints.clone(),
            secrets: embedded.secrets.clone(),
            bus,
            clock: embedded.clock.clone(),
            entropy: embedded.entropy.clone(),
            fingerprint_key: embedded.fingerprint_key.clone(),
            audit_key: embedded.audit_key.clone(),
            deployment: embedded.deployment.clone(),
            names,
            reservation: None,
            embedded,
        }
    }

    /// What belongs to records comes from elsewhere.
    fn with_journal_of(self, elsewhere: Elsewhere) -> Self {
        Self {
            journal: elsewhere.journal,
            tasks: elsewhere.tasks,
            checkpoints: elsewhere.checkpoints.unwrap_or(self.checkpoints),
            clock: elsewhere.clock,
            fingerprint_key: elsewhere.fingerprint_key,
            audit_key: elsewhere.audit_key,
            deployment: elsewhere.deployment,
            names: StoreNames { journal_may_lose: elsewhere.may_lose, ..self.names },
            reservation: elsewhere.reservation,
            ..self
        }
    }

    /// Whether nothing was ever written down here.
    async fn is_blank(&self) -> Result<bool, StartError> {
        let pairs = self.journal.pairs().await.map_err(StartError::Store)?;
        let tasks = self.tasks.list(None).await.map_err(StartError::Store)?;
        Ok(pairs.is_empty() && tasks.is_empty())
    }
}

/// Resolves when the first of them has stopped for good, with what it said.
pub(crate) async fn first_stop(stops: Vec<watch::Receiver<Option<String>>>) -> String {
    let each = stops.into_iter().map(|mut stopped| {
        async move {
            match stopped.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "the store is gone".into(),
            }
        }
        .boxed()
    });
    select_all(each).await.0
}

/// Opens what was chosen, founding what is not there.
pub(crate) async fn open(
    dir: &Path,
    key: MasterKey,
    key_file: Option<&Path>,
    choice: Choice,
) -> Result<Stores, StartError> {
    let mut chosen = Kept::of(&choice);
    if let JournalChoice::Postgres(settings) = &choice.journal {
        // Checked before anything names them: an address may hold a password.
        settings.check()?;
    }
    let Choice { journal, secrets, bus } = choice;
    let (secrets, bus) = (secrets_of(secrets)?, bus_of(bus)?);
    let taken = DataDir::take(dir, true)?;
    let kept = Kept::read(dir)?;
    if let Some(kept) = &kept {
        kept.demand_same(&chosen, dir)?;
    }
    let elsewhere = open_elsewhere(&journal, || existing_master_key(dir, key_file), true).await?;
    let embedded = Embedded::open_in(taken, key, &Options::default())?;
    for notice in &embedded.notices {
        tracing::warn!("{notice}");
    }
    let mut stores = Stores::embedded(embedded, bus, chosen.names());
    if kept.is_none() && !stores.is_blank().await? {
        // Written by a keybaton that knew of nothing else.
        Kept::embedded().demand_same(&chosen, dir)?;
    }
    if let Some(elsewhere) = elsewhere {
        chosen.found(&elsewhere.deployment);
        stores = stores.with_journal_of(elsewhere);
        match &kept {
            Some(kept) => kept.demand_same(&chosen, dir)?,
            None if secrets.is_none() && !stores.is_blank().await? => {
                return Err(StartError::SecretsElsewhere { dir: dir.to_owned() });
            }
            None => {}
        }
    }
    stores.secrets = secrets.unwrap_or(stores.secrets);
    if kept.as_ref() != Some(&chosen) {
        chosen.write(dir)?;
    }
    Ok(stores)
}

/// Opens the stores of a directory that nobody works on, without making anything. Of the secrets
/// nothing is asked.
pub(crate) async fn open_stopped(
    dir: &Path,
    key_file: Option<&Path>,
) -> Result<Stores, StartError> {
    if !holds_node(dir) {
        return Err(OpenError::Missing { dir: dir.to_owned() }.into());
    }
    let kept = Kept::read(dir)?.unwrap_or_else(Kept::embedded);
    let only_look = Options { create: false, ..Options::default() };
    let embedded = Embedded::open(dir, existing_master_key(dir, key_file)?, &only_look)?;
    let stores = Stores::embedded(embedded, Arc::new(LocalBus::default()), kept.names());
    let journal = kept.journal_to_read()?;
    let key = || existing_master_key(dir, key_file);
    let Some(elsewhere) = open_elsewhere(&journal, key, false).await? else {
        return Ok(stores);
    };
    let mut found = kept.clone();
    found.found(&elsewhere.deployment);
    kept.demand_same(&found, dir)?;
    Ok(stores.with_journal_of(elsewhere))
}

/// Opens a journal on a server, and nothing for the one in the directory, which needs no second
/// copy of the key.
async fn open_elsewhere(
    choice: &JournalChoice,
    key: impl FnOnce() -> Result<MasterKey, StartError>,
    to_work: bool,
) -> Result<Option<Elsewhere>, StartError> {
    match choice {
        JournalChoice::Embedded => Ok(None),
        JournalChoice::Postgres(settings) => {
            open_postgres(settings, key()?, to_work).await.map(Some)
        }
        JournalChoice::Redis(settings) => open_redis(settings, key()?, to_work).await.map(Some),
    }
}

async fn open_postgres(
    settings: &PostgresSettings,
    key: MasterKey,
    to_work: bool,
) -> Result<Elsewhere, StartError> {
    let postgres = Postgres::open(settings, key).await?;
    let mut reservation = None;
    if to_work {
        for notice in &postgres.notices {
            tracing::warn!("{notice}");
        }
        postgres.check_roles().await?;
        reservation = Some(Reserved::Postgres(postgres.reserve().await?));
    }
    Ok(Elsewhere {
        journal: postgres.journal,
        tasks: postgres.tasks,
        checkpoints: Some(postgres.checkpoints),
        clock: postgres.clock,
        fingerprint_key: postgres.fingerprint_key,
        audit_key: postgres.audit_key,
        deployment: postgres.deployment,
        may_lose: None,
        reservation,
    })
}

async fn open_redis(
    settings: &RedisJournalSettings,
    key: MasterKey,
    to_work: bool,
) -> Result<Elsewhere, StartError> {
    let redis = RedisStore::open(settings, key).await?;
    let mut reservation = None;
    if to_work {
        for notice in &redis.notices {
            tracing::warn!("{notice}");
        }
        reservation = Some(Reserved::Redis(redis.reserve().await?));
    }
    Ok(Elsewhere {
        journal: redis.journal,
        tasks: redis.tasks,
        checkpoints: None,
        clock: redis.clock,
        fingerprint_key: redis.fingerprint_key,
        audit_key: redis.audit_key,
        deployment: redis.deployment,
        may_lose: Some(redis.durability.to_string()),
        reservation,
    })
}

fn secrets_of(choice: SecretsChoice) -> Result<Option<Arc<dyn SecretStore>>, StartError> {
    Ok(match choice {
        SecretsChoice::Embedded => None,
        SecretsChoice::Vault(settings) => Some(Arc::new(VaultSecrets::new(settings)?)),
        SecretsChoice::Given(secrets) => Some(secrets),
    })
}

fn bus_of(choice: BusChoice) -> Result<Arc<dyn EventBus>, StartError> {
    Ok(match choice {
        BusChoice::Local => Arc::new(LocalBus::default()),
        BusChoice::Redis(settings) => Arc::new(RedisBus::new(*settings)?),
        BusChoice::Given(bus) => bus,
    })
}
