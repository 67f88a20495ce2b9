//! One connection for questions that are answered at once, and what an answer's absence means.
//!
//! **Invariant:** no call takes longer than [`REDIS_CONNECT_MAX`] twice and its wait for an answer
//! once ([`REDIS_ANSWER_MAX`] for a single question), whether the server is gone, stopped or slow:
//! whoever publishes is not held up by hints.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keybaton_ports::{Denial, Refusal};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    RedisResult, Value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::limits::{REDIS_ANSWER_MAX, REDIS_CONNECT_MAX, REDIS_RECONNECT_AFTER};

/// What a server says that has become a replica.
const MOVED: &str = "READONLY";

/// The connection that all short questions of a bus share.
pub(crate) struct Link {
    client: Client,
    state: Mutex<State>,
    /// Connections that turned out to be of no more use, each counted before there is another.
    breaks: AtomicU64,
}

/// One connection: whoever holds it asks this server and no other.
#[derive(Clone)]
pub(crate) struct Connected {
    number: u64,
    connection: MultiplexedConnection,
}

/// Either connected, or not before a moment, or neither yet.
#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a call that failed on an old one leaves the new one alone.
    number: u64,
    refused: Option<(Instant, Refusal)>,
}

impl Link {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, state: Mutex::default(), breaks: AtomicU64::new(0) }
    }

    /// How many connections have broken. Whoever finds it unchanged after [`Self::connected`] asks
    /// the server that everything was asked of before.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks one question.
    pub(crate) async fn ask<T: FromRedisValue>(&self, question: &Cmd) -> Result<T, Refusal> {
        let Connected { number, mut connection } = self.connected().await?;
        let (answer, is_broken) = ask_on(&mut connection, question, REDIS_ANSWER_MAX).await;
        if is_broken {
            self.drop_connection(number).await;
        }
        answer
    }

    /// Asks several questions on one connection, in order, and waits so long for all answers. A
    /// question that the server refuses is answered with its error, the others as usual.
    pub(crate) async fn ask_all(
        &self,
        questions: &Pipeline,
        wait: Duration,
    ) -> Result<Vec<Value>, Refusal> {
        self.ask_all_on(self.connected().await?, questions, wait).await
    }

    /// As [`Self::ask_all`], on a connection that was taken before.
    pub(crate) async fn ask_all_on(
        &self,
        Connected { number, mut connection }: Connected,
        questions: &Pipeline,
        wait: Duration,
    ) -> Result<Vec<Value>, Refusal> {
        let answers = timeout(wait, questions.query_async(&mut connection)).await;
        let (answers, mut is_broken) = settle::<Vec<Value>>(answers.ok(), wait);
        if let Ok(answers) = &answers {
            let is_moved = |answer: &Value| matches!(answer, Value::ServerError(error) if error.code() == MOVED);
            is_broken = answers.iter().any(is_moved);
        }
        if is_broken {
            self.drop_connection(number).await;
        }
        answers
    }

    /// The connection; made anew when there is none.
    pub(crate) async fn connected(&self) -> Result<Connected, Refusal> {
        let waited = timeout(REDIS_CONNECT_MAX, self.state.lock()).await;
        let mut state = waited.map_err(|_| Refusal::busy("redis has not answered yet"))?;
        if let Some(connection) = &state.connection {
            return Ok(Connected { number: state.number, connection: connection.clone() });
        }
        // While the server is away everybody is told so at once, and one tries now and then.
        if let Some((until, refusal)) = &state.refused
            && Instant::now() < *until
        {
            return Err(refusal.clone());
        }
        match connect(&self.client).await {
            Ok(connection) => {
                state.refused = None;
                state.number += 1;
                state.connection = Some(connection.clone());
                Ok(Connected { number: state.number, connection })
            }
            Err(refusal) => {
                state.refused = Some((Instant::now() + REDIS_RECONNECT_AFTER, refusal.clone()));
                Err(refusal)
            }
        }
    }

    async fn drop_connection(&self, number: u64) {
        if let Ok(mut state) = timeout(REDIS_CONNECT_MAX, self.state.lock()).await
            && state.number == number
            && state.connection.take().is_some()
        {
            self.breaks.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Connects and signs in. Nothing has been asked of the server when this fails.
pub(super) async fn connect(client: &Client) -> Result<MultiplexedConnection, Refusal> {
    // Every deadline is set here, so the library's own ones are off.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(REDIS_CONNECT_MAX, connected).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match refused(&error) {
            Refusal::Unknown { why } => Refusal::busy(why),
            refusal => refusal,
        }),
        Err(_) => Err(Refusal::busy(format!("no connection to redis in {REDIS_CONNECT_MAX:?}"))),
    }
}

/// Asks one question on a connection; also says whether the connection is of no more use.
pub(super) async fn ask_on<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    question: &Cmd,
    wait: Duration,
) -> (Result<T, Refusal>, bool) {
    settle(timeout(wait, question.query_async(connection)).await.ok(), wait)
}

/// What came within the wait; also says whether the connection is of no more use.
fn settle<T>(answer: Option<RedisResult<T>>, wait: Duration) -> (Result<T, Refusal>, bool) {
    match answer {
        Some(Ok(answer)) => (Ok(answer), false),
        Some(Err(error)) => {
            let refusal = refused(&error);
            // A server that became a replica is asked again where the primary is now.
            let is_moved = error.code() == Some(MOVED);
            let is_broken = is_moved || matches!(refusal, Refusal::Unknown { .. });
            (Err(refusal), is_broken)
        }
        None => (Err(Refusal::unknown(format!("no answer from redis in {wait:?}"))), true),
    }
}

/// What an error says about whether something happened. Only the code counts: the texts differ
/// between Redis and Valkey, and may repeat arguments.
pub(crate) fn refused(error: &RedisError) -> Refusal {
    if let Some(cause) = cause_of_abort(error) {
        return refused(&cause);
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return denied_user("redis refuses the user or the password");
    }
    match error.code() {
        Some("NOPERM") => denied_user("redis does not permit this to the user (NOPERM)"),
        Some(code @ ("NOAUTH" | "WRONGPASS")) => denied_user(&format!("redis says {code}")),
        // All of these are said before anything is written.
        Some(
            code @ ("OOM" | "LOADING" | "READONLY" | "MISCONF" | "MASTERDOWN" | "CLUSTERDOWN"
            | "TRYAGAIN" | "NOREPLICAS" | "BUSY"),
        ) => Refusal::busy(format!("redis says {code}")),
        Some("NOGROUP") => Refusal::denied(Denial::NotFound, "redis says NOGROUP"),
        Some(code) => Refusal::denied(Denial::BadRequest, format!("redis says {code}")),
        None if error.kind() == ErrorKind::UnexpectedReturnType => {
            Refusal::denied(Denial::Corrupt, "redis answers in a form that is not known")
        }
        None => Refusal::unknown(format!("the connection to redis failed: {}", error.category())),
    }
}

/// Why a transaction was not carried out: what was said of the first of its commands.
fn cause_of_abort(error: &RedisError) -> Option<RedisError> {
    let errors = error.clone().into_server_errors()?;
    let (_, first) = errors.first()?;
    (error.code() == Some("EXECABORT") && first.code() != "EXECABORT").then(|| first.clone().into())
}

fn denied_user(why: &str) -> Refusal {
    let next = "compare its access control list with `keybaton redis acl`";
    Refusal::denied(Denial::Admin, format!("{why}; {next}"))
}
