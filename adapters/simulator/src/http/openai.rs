//! OpenAI's administration API, as far as handing keys over needs it.
//!
//! Shapes from OpenAI's published specification of 2026-08-21; deleting keys of service accounts
//! from openai-node 7.42.0.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::KeyDelete;
use crate::fault::{Fault, Op};
use crate::http::admin::{Caller, Done, Order, carry_out};
use crate::http::{self, Payload};
use crate::issue::{Ask, Issued, Refusal, Style};
use crate::keys::{Key, KeyNo, Keys, Life};
use crate::ledger::Call;
use crate::limits::{PAGE_KEYS_DEFAULT, PAGE_KEYS_MAX};
use crate::secret;
use crate::state::State;

/// Name of the first key of an account, as OpenAI gives it.
const FIRST_KEY_NAME: &str = "Secret Key";

#[derive(Deserialize)]
struct KeyBody {
    name: Option<String>,
    /// Accepted and not enforced: the simulator does not know what a scope opens.
    #[serde(rename = "scopes")]
    _scopes: Option<Vec<String>>,
    expires_in_seconds: Option<u64>,
}

pub(crate) async fn issue(
    caller: Caller,
    Path((project, account)): Path<(String, String)>,
    payload: Payload,
) -> Response {
    let ask = payload.parse().map(|body: KeyBody| Ask {
        style: Style::OpenAi,
        project: project.clone(),
        account: Some(account),
        name: body.name.unwrap_or_else(|| FIRST_KEY_NAME.to_owned()),
        expires_in_seconds: body.expires_in_seconds,
    });
    let order = order(Call::Issue, Some(Op::Issue), project, None);
    carry_out(caller, order, |state, fault| {
        let issued = state.issue(ask?, fault)?;
        let key_id = Some(state.keys.get(issued.no).id.clone());
        Ok(Done { status: 200, body: issued_view(state, &issued), key_id })
    })
    .await
}

#[derive(Deserialize)]
struct AccountBody {
    name: String,
    create_service_account_only: Option<bool>,
    expires_in_seconds: Option<u64>,
}

pub(crate) async fn create_account(
    caller: Caller,
    Path(project): Path<String>,
    payload: Payload,
) -> Response {
    let body = payload.parse::<AccountBody>();
    let has_key = !matches!(&body, Ok(AccountBody { create_service_account_only: Some(true), .. }));
    let op = has_key.then_some(Op::Issue);
    let order = order(Call::CreateAccount, op, project.clone(), None);
    carry_out(caller, order, move |state, fault| {
        let body = body?;
        let account = secret::fresh_id("svc_acct_");
        let created_at = state.ledger.now_us() / 1_000_000;
        let mut view = json!({
            "object": "organization.project.service_account",
            "id": account,
            "name": body.name,
            "role": if has_key { "member" } else { "none" },
            "created_at": created_at,
            "api_key": null,
        });
        state.check_project(&project)?;
        if !has_key {
            if body.expires_in_seconds.is_some() {
                let message = "expires_in_seconds needs a key";
                return Err(Refusal::new(400, "invalid_value", message));
            }
            state.keys.add_account(&project, &account, &body.name);
            return Ok(Done { status: 200, body: view, key_id: None });
        }
        state.keys.add_account(&project, &account, &body.name);
        // In the ledger the key has the label that was asked for; listings show it as the name
        // of the account, as OpenAI does.
        let ask = Ask {
            style: Style::OpenAi,
            project,
            account: Some(account),
            name: body.name,
            expires_in_seconds: body.expires_in_seconds,
        };
        let issued = state.issue(ask, fault)?;
        if fault != Some(Fault::ForeignKey) {
            state.keys.set_first(issued.no);
        }
        view["api_key"] = issued_view(state, &issued);
        let key_id = Some(state.keys.get(issued.no).id.clone());
        Ok(Done { status: 200, body: view, key_id })
    })
    .await
}

pub(crate) async fn delete_account(
    caller: Caller,
    Path((project, account)): Path<(String, String)>,
) -> Response {
    let order = order(Call::DeleteAccount, Some(Op::Revoke), project.clone(), None);
    carry_out(caller, order, move |state, fault| {
        let Some(keys) = state.keys.delete_account(&project, &account) else {
            return Err(not_found("service account", &account));
        };
        // Named in the ledger when it is the only one, so that a slow death is not forgotten.
        let key_id = match keys.as_slice() {
            [only] => Some(state.keys.get(*only).id.clone()),
            _ => None,
        };
        for no in keys {
            state.revoke(no, fault);
        }
        let body = json!({
            "object": "organization.project.service_account.deleted",
            "id": account,
            "deleted": true,
        });
        Ok(Done { status: 200, body, key_id })
    })
    .await
}

#[derive(Deserialize)]
pub(crate) struct Page {
    limit: Option<usize>,
    after: Option<String>,
    owner_project_access: Option<String>,
}

pub(crate) async fn list(
    caller: Caller,
    Path(project): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    let order = order(Call::List, Some(Op::List), project.clone(), None);
    carry_out(caller, order, move |state, _| {
        state.check_project(&project)?;
        let body = page_view(state, &project, &http::query(page)?)?;
        Ok(Done { status: 200, body, key_id: None })
    })
    .await
}

pub(crate) async fn get(
    caller: Caller,
    Path((project, key_id)): Path<(String, String)>,
) -> Response {
    let order = order(Call::Get, Some(Op::Get), project.clone(), Some(key_id.clone()));
    carry_out(caller, order, move |state, _| {
        let no = find(state, &project, &key_id)?;
        Ok(Done { status: 200, body: key_view(&state.keys, no), key_id: Some(key_id) })
    })
    .await
}

pub(crate) async fn revoke(
    caller: Caller,
    Path((project, key_id)): Path<(String, String)>,
) -> Response {
    let order = order(Call::Revoke, Some(Op::Revoke), project.clone(), Some(key_id.clone()));
    carry_out(caller, order, move |state, fault| {
        let no = find(state, &project, &key_id)?;
        let is_refused = state.config.key_delete == KeyDelete::RefusedForAccounts;
        if is_refused && state.keys.get(no).account.is_some() {
            let message = "The API key belongs to a service account and cannot be deleted: \
                           delete the service account.";
            return Err(Refusal::new(400, "service_account_key", message));
        }
        state.revoke(no, fault);
        let body = json!({
            "object": "organization.project.api_key.deleted",
            "id": key_id,
            "deleted": true,
        });
        Ok(Done { status: 200, body, key_id: Some(key_id) })
    })
    .await
}

fn order(call: Call, op: Option<Op>, project: String, key_id: Option<String>) -> Order {
    Order { style: Style::OpenAi, call, op, project, key_id }
}

fn find(state: &State, project: &str, key_id: &str) -> Result<KeyNo, Refusal> {
    state.check_project(project)?;
    state.keys.shown(Some(project), key_id).ok_or_else(|| not_found("API key", key_id))
}

fn not_found(kind: &str, id: &str) -> Refusal {
    Refusal::new(404, "not_found", format!("No such {kind}: {id}"))
}

fn page_view(state: &mut State, project: &str, page: &Page) -> Result<Value, Refusal> {
    let invalid = |message: &str| Refusal::new(400, "invalid_value", message);
    let limit = page.limit.unwrap_or(PAGE_KEYS_DEFAULT);
    if limit == 0 || limit > PAGE_KEYS_MAX {
        return Err(invalid("limit is between 1 and 100"));
    }
    let access = page.owner_project_access.as_deref();
    if !matches!(access, None | Some("active" | "inactive" | "any")) {
        return Err(invalid("owner_project_access is active, inactive or any"));
    }
    // The key of the last page may have been deleted since; its place stays.
    let after = match &page.after {
        Some(id) => Some(state.keys.by_id(id).ok_or_else(|| invalid("after is not a key id"))?),
        None => None,
    };
    let now_us = state.ledger.now_us();
    let hides = state.config.hides_from_default_listing && access != Some("any");
    let is_listed = |&no: &KeyNo| {
        let key = state.keys.get(no);
        key.life == Life::Live
            && key.listed_from_us <= now_us
            && access != Some("inactive")
            && !(hides && no % 2 == 1)
            && after.is_none_or(|after| no > after)
    };
    let mut found: Vec<KeyNo> = state.keys.of(project).filter(is_listed).take(limit + 1).collect();
    let has_more = found.len() > limit;
    found.truncate(limit);
    let id = |no: Option<&KeyNo>| no.map(|&no| state.keys.get(no).id.clone());
    Ok(json!({
        "object": "list",
        "data": found.iter().map(|&no| key_view(&state.keys, no)).collect::<Vec<_>>(),
        "first_id": id(found.first()),
        "last_id": id(found.last()),
        "has_more": has_more,
    }))
}

fn issued_view(state: &State, issued: &Issued) -> Value {
    let key = state.keys.get(issued.no);
    let mut view = json!({
        "object": "organization.project.service_account.api_key",
        "name": shown_name(key),
        "value": issued.secret.expose(),
        "created_at": key.created_us / 1_000_000,
        "expires_at": key.expires_at,
    });
    if let Some(id) = &issued.key_id {
        view["id"] = json!(id);
    }
    view
}

fn key_view(keys: &Keys, no: KeyNo) -> Value {
    let key = keys.get(no);
    let created_at = key.created_us / 1_000_000;
    let owner = match &key.account {
        Some(account) => json!({"type": "service_account", "service_account": {
            "id": account,
            "name": keys.account_name(key),
            "created_at": created_at,
            "role": "member",
        }}),
        None => json!({"type": "user", "user": {
            "id": "user_simulator",
            "email": "owner@example.com",
            "name": "Owner",
            "created_at": created_at,
            "role": "owner",
        }}),
    };
    json!({
        "object": "organization.project.api_key",
        "id": key.id,
        "name": shown_name(key),
        // The last letters of the digest stand for those of the secret, which a restarted
        // simulator does not know.
        "redacted_value": format!("sk-***{}", &secret::hex(&key.digest)[60..]),
        "created_at": created_at,
        "last_used_at": key.last_used_us.map(|us| us / 1_000_000),
        "expires_at": key.expires_at,
        "owner_project_access": "active",
        "owner": owner,
    })
}

fn shown_name(key: &Key) -> &str {
    if key.is_first { FIRST_KEY_NAME } else { &key.name }
}
