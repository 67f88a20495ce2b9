//! Brings the schema up to date, once, whoever starts first.
//!
//! **Invariant:** a schema that is newer than this program is refused before anything is changed.

use deadpool_postgres::Client;

use crate::postgres::{PostgresError, why};

/// In order; each one's number is its place, from 1. A migration that was released is never
/// changed.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_pairs.sql"),
    include_str!("migrations/0002_tasks.sql"),
    include_str!("migrations/0003_checkpoints.sql"),
    include_str!("migrations/0004_write.sql"),
    include_str!("migrations/0005_together.sql"),
];

/// The advisory lock under which the schema changes: the letters "kb_schem".
const SCHEMA_LOCK: i64 = 0x6b62_5f73_6368_656d;

const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Runs every migration that has not run, all of them or none; only checks unless `create` says so.
pub(crate) async fn migrate(client: &mut Client, create: bool) -> Result<(), PostgresError> {
    // Without the lock first: a node that finds everything done must not need the right to change.
    if number(client).await? == Some(KNOWN) {
        return Ok(());
    }
    if !create {
        return Err(PostgresError::Missing);
    }
    let transaction =
        client.transaction().await.map_err(|error| PostgresError::from_statement(&error))?;
    // Others may take longer than one statement may: they wait for the schema, not for a row.
    let locked = async {
        transaction
            .batch_execute("set local statement_timeout = 0; set local lock_timeout = 0")
            .await?;
        transaction.execute("select pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await
    };
    locked.await.map_err(|error| PostgresError::from_statement(&error))?;
    run(&transaction).await?;
    transaction.commit().await.map_err(|error| PostgresError::from_statement(&error))
}

/// The schema's number; none for a database that has none yet.
async fn number(
    client: &impl deadpool_postgres::GenericClient,
) -> Result<Option<i64>, PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::from_statement(&error);
    // Read as rows: a look-up by name may answer from what this session knew before it waited for
    // the lock.
    let exists = client
        .query_one(
            "select exists (select from pg_tables
                where schemaname = 'keybaton' and tablename = 'migration')",
            &[],
        )
        .await
        .map_err(failed)?;
    if !exists.get::<_, bool>(0) {
        return Ok(None);
    }
    let last = client
        .query_one("select coalesce(max(number), 0) from keybaton.migration", &[])
        .await
        .map_err(failed)?
        .get(0);
    if last > KNOWN {
        return Err(PostgresError::NewerSchema { found: last, known: KNOWN });
    }
    Ok(Some(last))
}

async fn run(transaction: &deadpool_postgres::Transaction<'_>) -> Result<(), PostgresError> {
    let failed = |number| {
        move |error: tokio_postgres::Error| PostgresError::Migration { number, why: why(&error) }
    };
    let done = match number(transaction).await? {
        Some(done) => done,
        None => {
            let table = "create schema if not exists keybaton;
                create table keybaton.migration (
                    number bigint primary key,
                    run_at timestamptz not null default now())";
            transaction.batch_execute(table).await.map_err(failed(0))?;
            0
        }
    };
    for (number, sql) in (1i64..).zip(MIGRATIONS) {
        if number <= done {
            continue;
        }
        transaction.batch_execute(sql).await.map_err(failed(number))?;
        transaction
            .execute("insert into keybaton.migration (number) values ($1)", &[&number])
            .await
            .map_err(failed(number))?;
        tracing::info!(number, "the schema in Postgres was brought up to date");
    }
    Ok(())
}
