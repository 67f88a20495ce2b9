//! One process works on a store in Postgres, as the locked directory says of the embedded store.
//!
//! An advisory lock in a session of its own. The server lets it go when the session ends, so that a
//! killed process leaves nothing behind.
//!
//! **Invariant:** a process that finds its lock with another one stops.
//!
//! The lock guards against a second start, not against a network that is cut in two: whoever starts
//! a second process while the first cannot reach the server must know that the first is gone.

use std::sync::Arc;

use deadpool_postgres::{ClientWrapper, Object};
use keybaton_ports::Entropy;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Error;

use crate::limits::{
    POSTGRES_RESERVE_ASK_EVERY, POSTGRES_RESERVE_LOOK_EVERY, POSTGRES_RESERVE_WAIT_MAX,
};
use crate::postgres::{Pool, PostgresError, why};
use crate::store::SystemEntropy;

/// The advisory lock of whoever works on the store: the letters "kb_owner".
const OWNER_LOCK: i64 = 0x6b62_5f6f_776e_6572;

/// Who has the lock. A lock with a number of 64 bits shows as two of 32
/// (<https://www.postgresql.org/docs/current/view-pg-locks.html>).
const HOLDER: &str = "select l.pid, coalesce(a.application_name, ''),
    coalesce('from ' || host(a.client_addr), 'over a socket')
    from pg_locks l left join pg_stat_activity a using (pid)
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) | l.objid::bigint = $1";

/// Keeps other processes from working on the store until it is dropped.
pub struct Reservation {
    lost: watch::Receiver<Option<String>>,
    keeping: JoinHandle<()>,
}

impl Reservation {
    /// Becomes `Some(why)` when another process has taken the store; this one must then end.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// What came of one try.
enum Try {
    Ours(ClientWrapper),
    /// A session that is being ended had it.
    Leaving,
    Taken {
        by: String,
    },
}

/// Takes the lock and keeps it.
pub(crate) async fn reserve(pool: Arc<Pool>) -> Result<Reservation, PostgresError> {
    let name = format!("keybaton {:016x}", SystemEntropy.bits());
    let deadline = Instant::now() + POSTGRES_RESERVE_WAIT_MAX;
    let session = loop {
        match try_once(&pool, &name).await? {
            Try::Ours(session) => break session,
            Try::Taken { by } if Instant::now() >= deadline => {
                return Err(PostgresError::InUse { by });
            }
            // The session of a process that was killed a moment ago.
            Try::Taken { .. } | Try::Leaving => sleep(POSTGRES_RESERVE_ASK_EVERY).await,
        }
    };
    let (tell, lost) = watch::channel(None);
    let keeping = tokio::spawn(keep(pool, name, session, tell));
    Ok(Reservation { lost, keeping })
}

/// Looks after the lock until another process has it.
async fn keep(
    pool: Arc<Pool>,
    name: String,
    mut session: ClientWrapper,
    tell: watch::Sender<Option<String>>,
) {
    loop {
        sleep(POSTGRES_RESERVE_LOOK_EVERY).await;
        if let Some(Ok(())) = pool.in_time(session.batch_execute("")).await {
            continue;
        }
        drop(session);
        tracing::warn!("the session that reserves the journal in Postgres broke; taken anew");
        session = loop {
            match try_once(&pool, &name).await {
                Ok(Try::Ours(session)) => break session,
                Ok(Try::Taken { by }) => {
                    tell.send_replace(Some(PostgresError::InUse { by }.to_string()));
                    return;
                }
                // While the server is away nobody else gets it either.
                Ok(Try::Leaving) | Err(_) => sleep(POSTGRES_RESERVE_LOOK_EVERY).await,
            }
        };
    }
}

async fn try_once(pool: &Pool, name: &str) -> Result<Try, PostgresError> {
    // Out of the pool: this session is nobody else's.
    let session = Object::take(pool.first().await?);
    let Some(tried) = pool.in_time(lock(&session, name)).await else {
        return Err(PostgresError::Unavailable(pool.silence()));
    };
    match tried.map_err(|error| PostgresError::from_statement(&error))? {
        None => Ok(Try::Ours(session)),
        Some((_, is_leaving)) if is_leaving => Ok(Try::Leaving),
        Some((by, _)) => Ok(Try::Taken { by }),
    }
}

/// Nothing when the lock was taken; otherwise who has it, and whether that one is leaving: a lost
/// session of this process is ended.
async fn lock(session: &ClientWrapper, name: &str) -> Result<Option<(String, bool)>, Error> {
    session.execute("select set_config('application_name', $1, false)", &[&name]).await?;
    let tried = session.query_one("select pg_try_advisory_lock($1)", &[&OWNER_LOCK]).await?;
    if tried.get(0) {
        return Ok(None);
    }
    let Some(holder) = session.query_opt(HOLDER, &[&OWNER_LOCK]).await? else {
        return Ok(Some(("a session that has just ended".into(), true)));
    };
    let (pid, whose): (i32, String) = (holder.get(0), holder.get(1));
    let is_own = whose == name;
    if is_own && let Err(error) = session.execute("select pg_terminate_backend($1)", &[&pid]).await
    {
        tracing::warn!(why = why(&error), "a lost session could not be ended");
    }
    Ok(Some((format!("session {pid} {}", holder.get::<_, String>(2)), is_own)))
}
