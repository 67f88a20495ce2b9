//! The socket in the data directory over which `keybaton status` asks a running node.
//!
//! Only who may read the directory can reach it; it answers questions and takes no orders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use keybaton_actors::audit_shipper;
use keybaton_actors::shared::Shared;
use keybaton_ports::AuditKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::{self, AuditReport};
use crate::limits::{ASK_WAIT_MAX, STATUS_BYTES_MAX};
use crate::status::{NodeStatus, of_node};
use crate::stores::{StoreNames, Stores};

const SOCKET: &str = "status.sock";

/// Serves until dropped.
pub(crate) struct StatusServer {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl StatusServer {
    /// Opens the socket; one that a killed process left behind is replaced, since the lock on the
    /// directory says that nobody else is here.
    pub(crate) fn open(dir: &Path, shared: Arc<Shared>, stores: &Stores) -> std::io::Result<Self> {
        let path = dir.join(SOCKET);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        let (audit_key, names) = (stores.audit_key.clone(), stores.names.clone());
        let asked = Asked { shared, audit_key, names };
        let app = Router::new()
            .route("/status", get(answer))
            .route("/audit", get(verify_here))
            .with_state(Arc::new(asked));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the status socket closed");
            }
        });
        Ok(Self { path, serving })
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.serving.abort();
        // What stays behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Asked {
    shared: Arc<Shared>,
    audit_key: Arc<AuditKey>,
    names: StoreNames,
}

#[derive(Serialize, Deserialize)]
struct WhichFile {
    file: PathBuf,
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

async fn answer(State(asked): State<Arc<Asked>>) -> Answer<NodeStatus> {
    of_node(&asked.shared, &asked.names)
        .await
        .map(Json)
        .map_err(|refusal| (StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()))
}

async fn verify_here(
    State(asked): State<Arc<Asked>>,
    Query(which): Query<WhichFile>,
) -> Answer<AuditReport> {
    let look = async || {
        let key = asked.audit_key.clone();
        let looked = audit::report(which.file.clone(), key, asked.shared.ports.journal.as_ref());
        looked.await.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
    };
    let before = look().await?;
    if before.missing.is_empty() {
        return Ok(Json(before));
    }
    // What is on its way to the file is not missing: it is there once everything so far is shipped.
    let _ = tokio::time::timeout(ASK_WAIT_MAX / 2, audit_shipper::flush(&asked.shared)).await;
    let mut after = look().await?;
    after.missing.retain(|gap| before.missing.contains(gap));
    Ok(Json(after))
}

/// Asks the process that works on `dir` for its status; `None` when nobody answers.
pub(crate) async fn ask(dir: &Path) -> Option<NodeStatus> {
    get_from(dir, "http://node/status", None).await
}

/// Asks the process that works on `dir` to verify an audit file.
pub(crate) async fn verify(dir: &Path, file: &Path) -> Option<AuditReport> {
    get_from(dir, "http://node/audit", Some(WhichFile { file: file.to_owned() })).await
}

async fn get_from<T: DeserializeOwned>(
    dir: &Path,
    url: &str,
    query: Option<WhichFile>,
) -> Option<T> {
    let socket = dir.join(SOCKET);
    if !socket.exists() {
        return None;
    }
    let client =
        reqwest::Client::builder().unix_socket(socket).timeout(ASK_WAIT_MAX).build().ok()?;
    let mut response = client.get(url).query(&query).send().await.ok()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > STATUS_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).ok()
}
