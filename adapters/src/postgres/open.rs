//! Opens a Postgres store: checks the server, brings the schema up to date, and hands out the ports.

use std::sync::Arc;

use deadpool_postgres::Client;
use keybaton_messages::{DeploymentId, Timestamp};
use keybaton_ports::{AuditKey, CheckpointStore, Clock, FingerprintKey, Journal, TaskJournal};

use crate::SystemClock;
use crate::checkpoints::PostgresCheckpoints;
use crate::journals::{PostgresJournal, PostgresTaskJournal};
use crate::postgres::identity::{Identity, identify};
use crate::postgres::migrate::migrate;
use crate::postgres::reservation::{Reservation, reserve};
use crate::postgres::{Pool, PostgresError, PostgresSettings};
use crate::store::MasterKey;

/// The first server that keybaton is tested with.
const SERVER_VERSION_MIN: i32 = 150_000;

/// The adapters over one Postgres database.
pub struct Postgres {
    /// Pair records, grants, audit, outbox.
    pub journal: Arc<dyn Journal>,
    /// Tasks and the entries of their steps.
    pub tasks: Arc<dyn TaskJournal>,
    /// Checkpoints, one partition for each tenant.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Store time, not before the last time that the store remembers.
    pub clock: Arc<dyn Clock>,
    /// The deployment's key for fingerprints and tags.
    pub fingerprint_key: Arc<FingerprintKey>,
    /// The key of the audit chains.
    pub audit_key: Arc<AuditKey>,
    /// The deployment part of every label.
    pub deployment: DeploymentId,
    /// What the operator should know.
    pub notices: Vec<String>,
    pool: Arc<Pool>,
}

impl Postgres {
    /// Opens the store, founding it if the database has none.
    ///
    /// # Errors
    /// [`PostgresError`]; each one says what to do next.
    pub async fn open(
        settings: &PostgresSettings,
        master: MasterKey,
    ) -> Result<Self, PostgresError> {
        let pool = Arc::new(Pool::new(settings)?);
        let mut client = pool.first().await?;
        let notices = check_server(&client).await?;
        migrate(&mut client, settings.create).await?;
        let identity = identify(&client, master, settings.create).await?;
        let Identity { sealer, deployment, time_ms, store_id } = identity;
        drop(client);
        let sealer = Arc::new(sealer);
        let clock = Arc::new(SystemClock::start(Timestamp(time_ms)));
        let audit_key = Arc::new(sealer.keyring().audit_key());
        let journal = PostgresJournal::new(
            Arc::clone(&pool),
            Arc::clone(&sealer),
            Arc::clone(&clock),
            Arc::clone(&audit_key),
            time_ms,
        );
        let tasks = PostgresTaskJournal::new(Arc::clone(&pool), Arc::clone(&sealer));
        let checkpoints =
            PostgresCheckpoints::new(Arc::clone(&pool), Arc::clone(&sealer), store_id);
        Ok(Self {
            journal: Arc::new(journal),
            tasks: Arc::new(tasks),
            checkpoints: Arc::new(checkpoints),
            clock,
            fingerprint_key: Arc::new(sealer.keyring().fingerprint_key()),
            audit_key,
            deployment,
            notices,
            pool,
        })
    }

    /// Keeps every other process from working on this store, for as long as the answer lives.
    ///
    /// # Errors
    /// [`PostgresError::InUse`] when another one does.
    pub async fn reserve(&self) -> Result<Reservation, PostgresError> {
        reserve(Arc::clone(&self.pool)).await
    }

    /// Whether the checkpoints can be used: each tenant gets a role on first use.
    ///
    /// # Errors
    /// [`PostgresError::NoRoles`].
    pub async fn check_roles(&self) -> Result<(), PostgresError> {
        let client = self.pool.first().await?;
        let asked = "select rolcreaterole or rolsuper, current_user::text from pg_roles
            where rolname = current_user";
        let row = client.query_one(asked, &[]).await;
        let row = row.map_err(|error| PostgresError::from_statement(&error))?;
        if row.get(0) { Ok(()) } else { Err(PostgresError::NoRoles { user: row.get(1) }) }
    }
}

/// A journal must not lose what it has acknowledged.
async fn check_server(client: &Client) -> Result<Vec<String>, PostgresError> {
    let asked =
        "select current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
        (select rolsuper or rolbypassrls from pg_roles where rolname = current_user)";
    let row = client
        .query_one(asked, &[])
        .await
        .map_err(|error| PostgresError::from_statement(&error))?;
    if row.get::<_, i32>(0) < SERVER_VERSION_MIN {
        return Err(PostgresError::Version { found: row.get(1) });
    }
    for (place, setting) in [(2, "fsync"), (3, "full_page_writes"), (4, "synchronous_commit")] {
        let value: String = row.get(place);
        if value == "off" {
            return Err(PostgresError::NotDurable { setting: setting.into(), value });
        }
    }
    let mut notices = Vec::new();
    if row.get::<_, &str>(5).is_empty() || row.get::<_, &str>(4) == "local" {
        notices.push(
            "postgres waits for no standby: a failover may lose what was acknowledged; see \
             docs/howto/postgres.md"
                .to_owned(),
        );
    }
    if row.get::<_, bool>(6) {
        notices.push(
            "keybaton's Postgres user is a superuser or bypasses row security: tenants are kept \
             apart by keys alone; give it a user of its own"
                .to_owned(),
        );
    }
    Ok(notices)
}
