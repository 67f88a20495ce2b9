//! What a Postgres store says about itself: its id, its deployment, and proof that the master key
//! fits. Founded by whoever comes first.

use deadpool_postgres::Client;
use keybaton_messages::DeploymentId;
use keybaton_ports::Entropy;
use serde::{Deserialize, Serialize};

use crate::postgres::PostgresError;
use crate::store::{Broken, MasterKey, Place, Sealer, SystemEntropy, Whose};

const IDENTITY_SCHEMA: u16 = 1;
const PLACE: Place<'static> =
    Place { table: "meta", key: b"identity", clear: &[], schema: IDENTITY_SCHEMA };

/// Sealed: opens only with the right master key.
#[derive(Serialize, Deserialize)]
struct Sealed {
    deployment: DeploymentId,
}

/// An opened store's identity.
pub(crate) struct Identity {
    pub(crate) sealer: Sealer,
    pub(crate) deployment: DeploymentId,
    /// The stored high-water mark of the clock, milliseconds since the epoch.
    pub(crate) time_ms: u64,
    pub(crate) store_id: [u8; 16],
}

/// Reads who the store is, or makes it somebody if `create` says so.
pub(crate) async fn identify(
    client: &Client,
    master: MasterKey,
    create: bool,
) -> Result<Identity, PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::from_statement(&error);
    let read = "select store_id, identity, time_ms from keybaton.meta";
    let row = match client.query_opt(read, &[]).await.map_err(failed)? {
        Some(row) => row,
        None if !create => return Err(PostgresError::Missing),
        None => return found(client, master, read).await,
    };
    open(&row, master)
}

async fn found(client: &Client, master: MasterKey, read: &str) -> Result<Identity, PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::from_statement(&error);
    let store_id = SystemEntropy.bytes16();
    let deployment = DeploymentId::from_digest(&SystemEntropy.bytes16());
    let sealer = Sealer::new(master, store_id);
    let sealed = sealer
        .seal_value(Whose::Store, &PLACE, &Sealed { deployment: deployment.clone() })
        .expect("a deployment id is short");
    let insert = "insert into keybaton.meta (store_id, identity) values ($1, $2)
        on conflict do nothing";
    if client.execute(insert, &[&&store_id[..], &sealed]).await.map_err(failed)? == 1 {
        return Ok(Identity { sealer, deployment, time_ms: 0, store_id });
    }
    // Another node was faster: its store is the one.
    let row = client.query_one(read, &[]).await.map_err(failed)?;
    open(&row, sealer.into_master())
}

fn open(row: &tokio_postgres::Row, master: MasterKey) -> Result<Identity, PostgresError> {
    let store_id: [u8; 16] = row
        .get::<_, &[u8]>(0)
        .try_into()
        .map_err(|_| PostgresError::Corrupt("its store id is unreadable".into()))?;
    let sealer = Sealer::new(master, store_id);
    let sealed: Sealed =
        sealer.open_value(Whose::Store, &PLACE, row.get(1)).map_err(|broken| match broken {
            Broken::Key => PostgresError::WrongKey,
            other => PostgresError::Corrupt(other.to_string()),
        })?;
    let time_ms = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
    Ok(Identity { sealer, deployment: sealed.deployment, time_ms, store_id })
}
