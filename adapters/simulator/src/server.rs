//! The running simulator: the listener, its connections, the housekeeping, the end.
//!
//! hyper is driven directly, since a vendor must be able to end a connection without an answer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::config::{Builder, Config};
use crate::http::{self, HangUp};
use crate::issue::{Ask, Style};
use crate::ledger::{DeathCause, FILE_NAME, LedgerError, Outcome};
use crate::limits::{
    ACCEPT_BACKLOG, ACCEPT_PAUSE, CONNECTIONS_MAX, HOUSEKEEPING_PERIOD, REQUEST_HEAD_BYTES_MAX,
    REQUEST_HEAD_WAIT_MAX, STOP_WAIT_MAX,
};
use crate::script::{Script, ScriptError};
use crate::secret::Secret;
use crate::state::{Site, Snapshot};

/// A vendor that is serving. Dropping it ends it like a crash; [`Simulator::stop`] lets open
/// requests end first.
pub struct Simulator {
    site: Arc<Site>,
    addr: SocketAddr,
    ledger_path: PathBuf,
    stop: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: choose a free address")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The admin key cannot be sent in a header.
    #[error("the admin key is empty or not plain text: choose letters, digits and dashes")]
    AdminKey,
    /// The pace is outside the limits.
    #[error("the pace is too slow: see LATENCY_MAX, CHUNKS_MAX and CHUNK_INTERVAL_MAX")]
    Pace,
    /// Too many scripts.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

/// A key that a test made without a call.
pub struct Seeded {
    /// The vendor's id.
    pub key_id: String,
    /// Opens the inference API.
    pub secret: Secret,
}

/// Why a test's wish was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Simulator {
    /// Begins to describe a simulator.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn start(mut config: Config) -> Result<Self, StartError> {
        let admin_key = config.admin_key.expose();
        if admin_key.is_empty() || !admin_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::AdminKey);
        }
        if !config.pace.is_within_limits() {
            return Err(StartError::Pace);
        }
        let addr = config.bind;
        let ledger_path = config.dir.join(FILE_NAME);
        let scripts = std::mem::take(&mut config.scripts);
        let listener = listen(addr).map_err(|source| StartError::Bind { addr, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { addr, source })?;
        let site = Arc::new(Site::open(config)?);
        for script in scripts {
            site.lock().armed.arm(script)?;
        }
        let (stop, stopping) = watch::channel(false);
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&site), stopping));
        let housekeeper = tokio::spawn(keep_house(Arc::clone(&site)));
        Ok(Self { site, addr, ledger_path, stop, acceptor, housekeeper })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL before `/v1`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The ledger's file.
    pub fn ledger_path(&self) -> &Path {
        &self.ledger_path
    }

    /// Arms a fault.
    ///
    /// # Errors
    /// [`ScriptError::TooMany`] when the bound is reached.
    pub fn arm(&self, script: Script) -> Result<(), ScriptError> {
        self.site.lock().armed.arm(script)
    }

    /// Disarms every fault that did not happen yet. What was delayed still happens.
    pub fn heal(&self) {
        self.site.lock().armed.heal();
    }

    /// Makes a key of `project` that no call asked for, as found at a vendor that was used
    /// before.
    ///
    /// # Errors
    /// [`Refused`] when the vendor would refuse such a key.
    pub fn seed(&self, project: &str, name: &str) -> Result<Seeded, Refused> {
        let ask = Ask {
            style: Style::OpenAi,
            project: project.to_owned(),
            account: None,
            name: name.to_owned(),
            expires_in_seconds: None,
        };
        let issued = self.site.lock().seed(ask, None);
        let issued = issued.map_err(|refusal| Refused(refusal.message))?;
        let key_id = issued.key_id.unwrap_or_default();
        Ok(Seeded { key_id, secret: issued.secret })
    }

    /// Kills a key as a vendor does on its own account. Returns whether it was alive.
    pub fn kill(&self, key_id: &str) -> bool {
        let mut state = self.site.lock();
        let Some(no) = state.keys.by_id(key_id) else {
            return false;
        };
        let was_alive = state.keys.get(no).life != crate::keys::Life::Dead;
        state.kill(no, DeathCause::Fault);
        was_alive
    }

    /// What it looks like at this instant.
    pub fn snapshot(&self) -> Snapshot {
        self.site.lock().snapshot()
    }

    /// Writes every line so far to the ledger's file.
    pub fn flush(&self) {
        self.site.lock().ledger.flush();
    }

    /// Stops accepting, lets open requests end for at most [`STOP_WAIT_MAX`], closes the ledger.
    /// What was delayed (late executions, slow revokes) does not happen in this life.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.acceptor).await {
            tracing::error!(%error, "the listener of the simulator ended badly");
        }
        // Dropping closes the ledger.
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.housekeeper.abort();
        // At once, not when the last connection is gone: another simulator may be waiting for
        // the directory.
        self.site.lock().ledger.close();
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Simulator").field("addr", &self.addr).finish_non_exhaustive()
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted simulator comes back on the address of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(ACCEPT_BACKLOG)
}

async fn accept(listener: TcpListener, site: Arc<Site>, mut stopping: watch::Receiver<bool>) {
    let router = http::router(Arc::clone(&site));
    let for_connections = stopping.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, router.clone(), for_connections.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stop_wished(&mut stopping) => break,
        }
    }
    drop(listener);
    let ends = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT_MAX, ends).await.is_err() {
        site.lock().loose_end = Outcome::Failed;
        connections.shutdown().await;
    }
}

async fn stop_wished(stopping: &mut watch::Receiver<bool>) {
    // An error means that the simulator was dropped, which is a wish to stop as well.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Chunks are small and each matters at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let hang_up = HangUp::default();
    let for_requests = hang_up.clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(for_requests.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_WAIT_MAX)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            // Dropping the connection closes it.
            () = hang_up.wished() => return,
            () = stop_wished(&mut stopping), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn keep_house(site: Arc<Site>) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.lock().keep_house();
    }
}
