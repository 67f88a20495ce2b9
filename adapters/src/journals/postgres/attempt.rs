//! One transaction in Postgres: read behind locks, applied in memory, written with the commit.

use keybaton_ports::Clock;

use crate::journals::postgres::Shared;
use crate::journals::postgres::read::read;
use crate::journals::postgres::rows::signed;
use crate::journals::postgres::write::{End, write};
use crate::journals::queue::{Database, Done, Failure, Op};
use crate::journals::redb::pairs::Corrupt;
use crate::limits::POSTGRES_BATCH_MAX;
use crate::postgres::{discard, is_refused_write, why};
use crate::store::Down;

impl Database for Shared {
    const NAME: &'static str = "postgres";
    const BATCH_MAX: usize = POSTGRES_BATCH_MAX;

    async fn attempt(&self, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
        attempt(self, ops, is_thorough).await
    }
}

fn not_written(error: &tokio_postgres::Error) -> Failure {
    if is_refused_write(error) {
        Failure::Refused(why(error))
    } else {
        Failure::Down(Down::Unavailable(why(error)))
    }
}

async fn attempt(shared: &Shared, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
    let pool = &shared.pool;
    let client = pool.take().await.map_err(Failure::Down)?;
    let found = pool.in_time(read(&client, shared, ops.iter().copied(), is_thorough)).await;
    let mut book = match found {
        Some(Ok(book)) => book,
        Some(Err(error)) => {
            discard(client);
            return Err(not_written(&error));
        }
        None => {
            discard(client);
            return Err(Failure::Down(Down::Unavailable(pool.silence())));
        }
    };
    let answers: Vec<_> = ops.iter().map(|op| op.apply(&mut book)).collect();
    let doubts = pool.doubts();
    let now = shared.marks.stale(shared.clock.now().0);
    let end = pool.in_time(write(&client, &shared.sealer, &book, now.map(signed))).await;
    match end {
        Some(Ok(End::Committed)) if pool.doubts() == doubts => {
            shared.marks.written(now);
            Ok(answers)
        }
        Some(Ok(End::Committed)) => {
            let why = "the wait for the standby was cut short; only the primary has it for sure";
            Err(Failure::Down(Down::Unknown(why.into())))
        }
        Some(Ok(End::Not(error))) => {
            discard(client);
            Err(not_written(&error))
        }
        Some(Ok(End::Unknown(error))) => {
            discard(client);
            Err(Failure::Down(Down::Unknown(why(&error))))
        }
        Some(Err(Corrupt(why))) => {
            discard(client);
            Err(Failure::Refused(why))
        }
        None => {
            discard(client);
            Err(Failure::Down(Down::Unknown(pool.silence())))
        }
    }
}
