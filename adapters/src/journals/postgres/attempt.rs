//! One transaction in Postgres: applied in memory to what is remembered and written in one round
//! trip; in doubt read behind locks first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Client;
use keybaton_ports::Clock;

use crate::journals::book::Book;
use crate::journals::memory::Taken;
use crate::journals::operations::{Database, Done, Failure, Op};
use crate::journals::postgres::Shared;
use crate::journals::postgres::read::read;
use crate::journals::postgres::rows::signed;
use crate::journals::postgres::write::{End, Under, write};
use crate::journals::wanted::Wanted;
use crate::limits::POSTGRES_BATCH_MAX;
use crate::postgres::{discard, is_refused_write, why};
use crate::store::Down;

impl Database for Shared {
    const NAME: &'static str = "postgres";
    const BATCH_MAX: usize = POSTGRES_BATCH_MAX;

    async fn attempt(&self, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
        let answers = async {
            if !is_thorough && let Some(answers) = remembered(self, ops).await? {
                return Ok(answers);
            }
            attempt(self, ops, is_thorough).await
        };
        let answers = answers.await;
        if answers.is_err() {
            // Whatever failed may have been the sign of another server.
            self.memory.forget_all();
        }
        answers
    }
}

fn not_written(error: &tokio_postgres::Error) -> Failure {
    if is_refused_write(error) {
        Failure::Refused(why(error))
    } else {
        Failure::Down(Down::Unavailable(why(error)))
    }
}

/// Applies to what is remembered, compares and writes, in one round trip; nothing when that does not
/// do, and then nothing was written.
async fn remembered(shared: &Shared, ops: &[&Op]) -> Result<Option<Vec<Done>>, Failure> {
    let mut wanted = Wanted::default();
    ops.iter().for_each(|op| wanted.add(op, false));
    let doubts = shared.pool.doubts();
    let Some(Taken { pages, lives }) = shared.memory.take(&wanted, doubts) else {
        return Ok(None);
    };
    let mut book = Book {
        clock: Arc::clone(&shared.clock),
        audit_key: Arc::clone(&shared.audit_key),
        lives,
        pages,
        claims: HashMap::new(),
        facts: HashSet::new(),
    };
    let answers: Vec<_> = ops.iter().map(|op| op.apply(&mut book)).collect();
    if !book.is_all_agreed(&answers) {
        return Ok(None);
    }
    let client = shared.pool.take().await.map_err(Failure::Down)?;
    match finish(shared, client, &mut book, Under::Nothing).await {
        Ok(()) => {
            shared.memory.keep(book, doubts, true);
            Ok(Some(answers))
        }
        // Something is not as it was remembered, or an index knows more.
        Err(Failure::Refused(_)) => {
            shared.memory.was_wrong();
            Ok(None)
        }
        Err(down) => Err(down),
    }
}

async fn attempt(shared: &Shared, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
    let pool = &shared.pool;
    let doubts = pool.doubts();
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
    finish(shared, client, &mut book, Under::Locks).await?;
    shared.memory.keep(book, doubts, false);
    Ok(answers)
}

/// Writes the book; then it is committed for sure.
async fn finish(
    shared: &Shared,
    client: Client,
    book: &mut Book,
    under: Under,
) -> Result<(), Failure> {
    let pool = &shared.pool;
    let doubts = pool.doubts();
    let now = shared.marks.stale(shared.clock.now().0);
    let end = pool.in_time(write(&client, &shared.sealer, book, under, now.map(signed))).await;
    match end {
        Some(End::Committed) if pool.doubts() == doubts => {
            shared.marks.written(now);
            Ok(())
        }
        Some(End::Committed) => {
            let why = "the wait for the standby was cut short; only the primary has it for sure";
            Err(Failure::Down(Down::Unknown(why.into())))
        }
        Some(End::Not { error, is_over }) => {
            if !(is_over && is_refused_write(&error)) {
                discard(client);
            }
            Err(not_written(&error))
        }
        Some(End::Unknown(error)) => {
            discard(client);
            Err(Failure::Down(Down::Unknown(why(&error))))
        }
        None => {
            discard(client);
            Err(Failure::Down(Down::Unknown(pool.silence())))
        }
    }
}
