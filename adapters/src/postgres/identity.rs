//! What a Postgres store says about itself, founded by whoever comes first.

use deadpool_postgres::Client;
use keybaton_messages::DeploymentId;

use crate::postgres::PostgresError;
use crate::store::{Broken, Founding, MasterKey, Sealer, recognise};

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
    let Founding { store_id, sealer, deployment, sealed } = Founding::new(master);
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
    let opened = recognise(master, store_id, row.get(1));
    let (sealer, deployment) = opened.map_err(|broken| match broken {
        Broken::Key => PostgresError::WrongKey,
        other => PostgresError::Corrupt(other.to_string()),
    })?;
    let time_ms = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
    Ok(Identity { sealer, deployment, time_ms, store_id })
}
