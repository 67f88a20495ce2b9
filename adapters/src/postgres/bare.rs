//! What one durable write costs in a database, without keybaton around it: the unit in which what
//! keybaton does there is stated.
//!
//! **Invariant:** nothing of a store is touched: the rows lie in a schema of their own. It goes with
//! the last commit, and one that an error has left goes with the next measurement.

use std::time::{Duration, Instant};

use crate::postgres::{Pool, PostgresError, PostgresSettings};

const MAKE: &str = "drop schema if exists keybaton_bare cascade; create schema keybaton_bare;
    create table keybaton_bare.row (id bigint primary key, body bytea not null)";
const WRITE: &str = "insert into keybaton_bare.row values ($1, $2)";
const REMOVE: &str = "drop schema keybaton_bare cascade";

impl PostgresSettings {
    /// How long each of so many transactions takes that write one row of so many bytes, one after
    /// the other: a prepared statement, a round trip and a sync each.
    ///
    /// # Errors
    /// When the database is away, or the user may not make a schema.
    pub async fn bare_commits(
        &self,
        commits: u32,
        bytes: usize,
    ) -> Result<Vec<Duration>, PostgresError> {
        let failed = |error: tokio_postgres::Error| PostgresError::from_statement(&error);
        let client = Pool::new(self)?.first().await?;
        client.batch_execute(MAKE).await.map_err(failed)?;
        let write = client.prepare(WRITE).await.map_err(failed)?;
        let body = vec![0x5a_u8; bytes];
        let mut times = Vec::new();
        for id in 0..i64::from(commits) {
            let begun = Instant::now();
            client.execute(&write, &[&id, &body]).await.map_err(failed)?;
            times.push(begun.elapsed());
        }
        client.batch_execute(REMOVE).await.map_err(failed)?;
        Ok(times)
    }
}
