//! Connections to the primary, and what it says beside its answers.
//!
//! A connection that failed is thrown away; the next one is made when it is needed, so that a
//! server that comes back, or another one that took over, is found without anybody's help.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Client, Connect, Manager, ManagerConfig, Object, Pool as Inner, RecyclingMethod, Runtime,
};
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Config, Error, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::tls::connector;
use crate::postgres::{PostgresError, PostgresSettings, Value, is_about_rows, why, written};
use crate::store::Down;

/// Connections to one database.
pub(crate) struct Pool {
    inner: Inner,
    doubts: Arc<AtomicU64>,
    wait_max: Duration,
}

impl Pool {
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let config = settings.config()?;
        let doubts = Arc::new(AtomicU64::new(0));
        let dial = Dial {
            tls: connector(settings.ca_file.as_deref())?,
            settings: settings.clone(),
            doubts: Arc::clone(&doubts),
        };
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let inner = Inner::builder(Manager::from_connect(config, dial, manager_config))
            .max_size(settings.connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.answer_wait_max))
            .create_timeout(Some(settings.answer_wait_max))
            .recycle_timeout(Some(settings.answer_wait_max))
            .build()
            .map_err(|error| PostgresError::Address(error.to_string()))?;
        Ok(Self { inner, doubts, wait_max: settings.answer_wait_max })
    }

    /// A connection; made anew when none is left.
    pub(crate) async fn take(&self) -> Result<Client, Down> {
        self.inner.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => Down::Unavailable(why(&error)),
            other => Down::Unavailable(other.to_string()),
        })
    }

    /// The first connection, whose failure is told in full.
    pub(crate) async fn first(&self) -> Result<Client, PostgresError> {
        self.inner.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => PostgresError::from_statement(&error),
            other => PostgresError::Unavailable(other.to_string()),
        })
    }

    /// Runs statements that change nothing or certainly end with the connection: whatever goes
    /// wrong, nothing was written.
    pub(crate) async fn read<T>(
        &self,
        act: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Down> {
        let client = self.take().await?;
        match self.in_time(act(&client)).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => {
                discard(client);
                Err(Down::Unavailable(why(&error)))
            }
            None => {
                discard(client);
                Err(Down::Unavailable(self.silence()))
            }
        }
    }

    /// Runs one statement that writes, a transaction by itself.
    pub(crate) async fn write(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Unwritten> {
        let client = self.take().await?;
        let doubts = self.doubts();
        let done = self.in_time(async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, values).await
        });
        match done.await {
            Some(Ok(rows)) if self.doubts() == doubts => Ok(rows),
            Some(Ok(_)) => {
                let why = "the wait for the standby was cut short";
                Err(Down::Unknown(why.into()).into())
            }
            Some(Err(error)) if is_about_rows(&error) => Err(Unwritten::Refused(why(&error))),
            Some(Err(error)) => {
                // It may be a sign of another server.
                discard(client);
                Err(written(&error).into())
            }
            None => {
                discard(client);
                Err(Down::Unknown(self.silence()).into())
            }
        }
    }

    /// Waits no longer than the limit.
    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.wait_max, answer).await.ok()
    }

    pub(crate) fn silence(&self) -> String {
        format!("postgres did not answer within {:?}", self.wait_max)
    }

    /// How often the server said that it did not wait for its standby. A commit that sees another
    /// number afterwards than before may be lost with the primary.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Acquire)
    }
}

/// Why a statement wrote nothing, or nobody knows.
pub(crate) enum Unwritten {
    /// Because of a row, a table or a role that it names: others can be written.
    Refused(String),
    Down(Down),
}

impl From<Down> for Unwritten {
    fn from(down: Down) -> Self {
        Self::Down(down)
    }
}

impl From<Unwritten> for Down {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Refused(why) => Self::Unavailable(why),
            Unwritten::Down(down) => down,
        }
    }
}

/// Throws a connection away, with whatever transaction is open on it.
pub(crate) fn discard(client: Client) {
    drop(Object::take(client));
}

/// Makes connections. The password is read for each of them, so that a new one takes effect.
struct Dial {
    tls: MakeRustlsConnect,
    settings: PostgresSettings,
    doubts: Arc<AtomicU64>,
}

type Dialled = Result<(tokio_postgres::Client, JoinHandle<()>), Error>;

impl Connect for Dial {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Dialled> + Send + '_>> {
        let mut config = config.clone();
        match self.settings.password() {
            Ok(Some(password)) => {
                config.password(&*password);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the password for Postgres was not taken"),
        }
        let doubts = Arc::clone(&self.doubts);
        let tls = self.tls.clone();
        Box::pin(async move {
            let (client, mut connection) = config.connect(tls).await?;
            let task = tokio::spawn(async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await
                {
                    match message {
                        Ok(AsyncMessage::Notice(notice)) => {
                            if is_doubt(&notice) {
                                doubts.fetch_add(1, Ordering::Release);
                            }
                            tracing::debug!(notice = notice.message(), "postgres says");
                        }
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(why = why(&error), "a connection to Postgres broke");
                            return;
                        }
                    }
                }
            });
            Ok((client, task))
        })
    }
}

/// The warning with which a cancelled wait for a standby is answered: the commit then succeeds
/// although only the primary has it
/// (<https://www.postgresql.org/docs/current/warm-standby.html#SYNCHRONOUS-REPLICATION>). Known by
/// its place in the server, since its text comes in the server's language.
fn is_doubt(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
}
