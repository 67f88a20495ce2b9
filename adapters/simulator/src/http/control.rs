//! What a test in another process does to the simulator. Needs the admin key.

use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use crate::http::Payload;
use crate::http::admin::Caller;
use crate::http::answer;
use crate::issue::{Ask, Refusal, Style};
use crate::ledger::DeathCause;
use crate::script::Script;
use crate::secret::Secret;

pub(crate) async fn state(caller: Caller) -> Response {
    respond(caller.check().map(|()| Json(caller.site.lock().snapshot()).into_response()))
}

/// One script or several, each as text or as an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scripts {
    Many(Vec<serde_json::Value>),
    One(serde_json::Value),
}

pub(crate) async fn arm(caller: Caller, payload: Payload) -> Response {
    respond(caller.check().and_then(|()| {
        let scripts = match payload.parse()? {
            Scripts::Many(scripts) => scripts,
            Scripts::One(script) => vec![script],
        };
        let invalid = |why: String| Refusal::new(400, "invalid_script", why);
        // All or none: a half-armed test would be another test.
        let scripts = scripts
            .into_iter()
            .map(|script| {
                serde_json::from_value::<Script>(script).map_err(|why| invalid(why.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut state = caller.site.lock();
        for script in scripts {
            state.armed.arm(script).map_err(|why| invalid(why.to_string()))?;
        }
        Ok(Json(json!({"armed": state.armed.waiting()})).into_response())
    }))
}

pub(crate) async fn heal(caller: Caller) -> Response {
    respond(caller.check().map(|()| {
        caller.site.lock().armed.heal();
        StatusCode::NO_CONTENT.into_response()
    }))
}

#[derive(Deserialize)]
struct Seed {
    project: String,
    account: Option<String>,
    name: String,
    /// A secret that the test brings along; drawn when absent.
    secret: Option<String>,
    expires_in_seconds: Option<u64>,
}

pub(crate) async fn seed(caller: Caller, payload: Payload) -> Response {
    respond(caller.check().and_then(|()| {
        let seed: Seed = payload.parse()?;
        let ask = Ask {
            style: Style::OpenAi,
            project: seed.project,
            account: seed.account,
            name: seed.name,
            expires_in_seconds: seed.expires_in_seconds,
        };
        let issued = caller.site.lock().seed(ask, seed.secret.map(Secret::new))?;
        let body = json!({"id": issued.key_id, "value": issued.secret.expose()});
        Ok((StatusCode::CREATED, Json(body)).into_response())
    }))
}

pub(crate) async fn kill(caller: Caller, Path(key_id): Path<String>) -> Response {
    respond(caller.check().and_then(|()| {
        let mut state = caller.site.lock();
        let no = state
            .keys
            .by_id(&key_id)
            .ok_or_else(|| Refusal::new(404, "not_found", "no key has this id"))?;
        state.kill(no, DeathCause::Fault);
        Ok(StatusCode::NO_CONTENT.into_response())
    }))
}

fn respond(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| answer::refuse(Style::OpenAi, &refusal))
}
