//! OpenRouter's key management, as far as handing keys over needs it.
//!
//! Shapes from OpenRouter's published specification. A workspace is a project here; the hash of
//! a key is the SHA-256 of its secret and serves as its id.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Op;
use crate::http::admin::{Caller, Done, Order, carry_out};
use crate::http::{self, Payload};
use crate::issue::{Ask, Refusal, Style};
use crate::keys::{Key, KeyNo, Life};
use crate::ledger::Call;
use crate::limits::PAGE_KEYS_MAX;
use crate::state::State;

/// Project of calls that name no workspace.
const WORKSPACE_DEFAULT: &str = "default";

#[derive(Deserialize)]
struct KeyBody {
    name: String,
    workspace_id: Option<String>,
    expires_at: Option<Timestamp>,
}

pub(crate) async fn issue(caller: Caller, payload: Payload) -> Response {
    let body = payload.parse::<KeyBody>();
    let workspace = body.as_ref().ok().and_then(|body| body.workspace_id.clone());
    let project = workspace.unwrap_or_else(|| WORKSPACE_DEFAULT.to_owned());
    let order = order(Call::Issue, Op::Issue, project.clone(), None);
    carry_out(caller, order, move |state, fault| {
        let body = body?;
        let now = i64::try_from(state.ledger.now_us() / 1_000_000).unwrap_or(i64::MAX);
        // A moment that is over becomes a life of zero seconds, which is refused.
        let life = body.expires_at.map(|at| at.as_second().saturating_sub(now));
        let ask = Ask {
            style: Style::OpenRouter,
            project,
            account: None,
            name: body.name,
            expires_in_seconds: life.map(|life| u64::try_from(life).unwrap_or(0)),
        };
        let issued = state.issue(ask, fault)?;
        let key = state.keys.get(issued.no);
        let mut view = key_view(key);
        match &issued.key_id {
            Some(hash) => view["hash"] = json!(hash),
            None => {
                view.as_object_mut().and_then(|view| view.remove("hash"));
            }
        }
        let body = json!({"data": view, "key": issued.secret.expose()});
        Ok(Done { status: 201, body, key_id: Some(key.id.clone()) })
    })
    .await
}

#[derive(Deserialize)]
pub(crate) struct Page {
    offset: Option<usize>,
    workspace_id: Option<String>,
}

pub(crate) async fn list(caller: Caller, page: Result<Query<Page>, QueryRejection>) -> Response {
    let page = http::query(page);
    let workspace = page.as_ref().ok().and_then(|page| page.workspace_id.clone());
    let project = workspace.unwrap_or_else(|| WORKSPACE_DEFAULT.to_owned());
    let order = order(Call::List, Op::List, project.clone(), None);
    carry_out(caller, order, move |state, _| {
        let page = page?;
        state.check_project(&project)?;
        let now_us = state.ledger.now_us();
        let is_listed = |key: &&Key| key.life == Life::Live && key.listed_from_us <= now_us;
        let keys = state.keys.of(&project).map(|no| state.keys.get(no)).filter(is_listed);
        let keys = keys.skip(page.offset.unwrap_or(0)).take(PAGE_KEYS_MAX);
        let body = json!({"data": keys.map(key_view).collect::<Vec<_>>()});
        Ok(Done { status: 200, body, key_id: None })
    })
    .await
}

pub(crate) async fn get(caller: Caller, Path(hash): Path<String>) -> Response {
    let order = order_for(&caller, Call::Get, Op::Get, &hash);
    carry_out(caller, order, move |state, _| {
        let no = find(state, &hash)?;
        let body = json!({"data": key_view(state.keys.get(no))});
        Ok(Done { status: 200, body, key_id: Some(hash) })
    })
    .await
}

pub(crate) async fn revoke(caller: Caller, Path(hash): Path<String>) -> Response {
    let order = order_for(&caller, Call::Revoke, Op::Revoke, &hash);
    carry_out(caller, order, move |state, fault| {
        let no = find(state, &hash)?;
        state.revoke(no, fault);
        Ok(Done { status: 200, body: json!({"deleted": true}), key_id: Some(hash) })
    })
    .await
}

fn order(call: Call, op: Op, project: String, key_id: Option<String>) -> Order {
    Order { style: Style::OpenRouter, call, op: Some(op), project, key_id }
}

/// The path names no workspace, but scripts and the ledger do.
fn order_for(caller: &Caller, call: Call, op: Op, hash: &str) -> Order {
    let state = caller.site.lock();
    let key = state.keys.by_id(hash).map(|no| state.keys.get(no));
    let project = key.map_or(WORKSPACE_DEFAULT, |key| key.project.as_str()).to_owned();
    order(call, op, project, Some(hash.to_owned()))
}

fn find(state: &State, hash: &str) -> Result<KeyNo, Refusal> {
    state.keys.shown(None, hash).ok_or_else(|| Refusal::new(404, "not_found", "API key not found"))
}

fn key_view(key: &Key) -> Value {
    json!({
        "hash": key.id,
        "name": key.name,
        "label": label(key),
        "disabled": false,
        "limit": null,
        "limit_remaining": null,
        "limit_reset": null,
        "include_byok_in_limit": false,
        "usage": 0, "usage_daily": 0, "usage_weekly": 0, "usage_monthly": 0,
        "byok_usage": 0, "byok_usage_daily": 0, "byok_usage_weekly": 0, "byok_usage_monthly": 0,
        "created_at": timestamp(key.created_us / 1_000_000),
        "updated_at": null,
        "expires_at": key.expires_at.map(timestamp),
        "creator_user_id": null,
        "workspace_id": key.project,
    })
}

/// What `GET /api/v1/key` tells a tenant about its own key.
pub(crate) fn own_view(key: &Key) -> Value {
    json!({"data": {
        "label": label(key),
        "limit": null,
        "limit_remaining": null,
        "limit_reset": null,
        "include_byok_in_limit": false,
        "is_free_tier": false,
        "is_management_key": false,
        "is_provisioning_key": false,
        "usage": 0, "usage_daily": 0, "usage_weekly": 0, "usage_monthly": 0,
        "byok_usage": 0, "byok_usage_daily": 0, "byok_usage_weekly": 0, "byok_usage_monthly": 0,
        "expires_at": key.expires_at.map(timestamp),
        "creator_user_id": null,
        "rate_limit": {"interval": "1h", "requests": 1000, "note": "deprecated"},
    }})
}

/// A hint at the secret, from its digest: a restarted simulator has nothing else.
fn label(key: &Key) -> String {
    let hex = crate::secret::hex(&key.digest);
    format!("sk-or-v1-{}...{}", &hex[..3], &hex[61..])
}

fn timestamp(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}
