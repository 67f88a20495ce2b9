//! The vendor as its callers see it.
//!
//! `admin` runs every call with the admin key, `inference` every request with a tenant key;
//! `openai` and `openrouter` are the shapes that two vendors give to the first, `control` is for
//! tests in another process, and `answer` is how anything is said, or not said.

mod admin;
mod answer;
mod control;
mod inference;
mod openai;
mod openrouter;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use axum::routing::{delete, get, post};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::issue::{Refusal, Style};
use crate::limits::{REQUEST_BODY_BYTES_MAX, REQUEST_BODY_WAIT_MAX};
use crate::secret::{self, Digest};
use crate::state::Site;
pub(crate) use answer::HangUp;

pub(crate) fn router(site: Arc<Site>) -> Router {
    let project = "/v1/organization/projects/{project}";
    Router::new()
        .route(&format!("{project}/service_accounts"), post(openai::create_account))
        .route(&format!("{project}/service_accounts/{{account}}"), delete(openai::delete_account))
        .route(&format!("{project}/service_accounts/{{account}}/api_keys"), post(openai::issue))
        .route(&format!("{project}/api_keys"), get(openai::list))
        .route(&format!("{project}/api_keys/{{key_id}}"), get(openai::get).delete(openai::revoke))
        .route("/v1/models", get(inference::models))
        .route("/v1/chat/completions", post(inference::chat))
        .route("/v1/tools/{name}", post(inference::tool))
        .route("/api/v1/keys", get(openrouter::list).post(openrouter::issue))
        .route("/api/v1/keys/{hash}", get(openrouter::get).delete(openrouter::revoke))
        .route("/api/v1/key", get(inference::key))
        .route("/api/v1/chat/completions", post(inference::chat))
        .route("/_simulator/state", get(control::state))
        .route("/_simulator/faults", post(control::arm).delete(control::heal))
        .route("/_simulator/keys", post(control::seed))
        .route("/_simulator/keys/{key_id}/kill", post(control::kill))
        .fallback(unknown)
        .with_state(site)
}

async fn unknown() -> Response {
    let refusal = Refusal::new(404, "unknown_url", "the simulator does not have this endpoint");
    answer::refuse(Style::OpenAi, &refusal)
}

/// A request body within the limits of size and time.
pub(crate) struct Payload(pub(crate) Bytes);

impl Payload {
    /// The body as `T`; an empty body stands for an empty object.
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let text: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        serde_json::from_slice(text)
            .map_err(|error| Refusal::new(400, "invalid_request", format!("wrong body: {error}")))
    }
}

impl<S: Sync> FromRequest<S> for Payload {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let reading = axum::body::to_bytes(request.into_body(), REQUEST_BODY_BYTES_MAX);
        match tokio::time::timeout(REQUEST_BODY_WAIT_MAX, reading).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(_)) => Err(turned(413, "the body is longer than 1 MiB")),
            Err(_) => Err(turned(408, "the body did not come in time")),
        }
    }
}

fn turned(status: u16, message: &str) -> Response {
    answer::refuse(Style::OpenAi, &Refusal::new(status, "invalid_request", message))
}

/// The query of a URL, or what is wrong with it.
fn query<T>(parsed: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    parsed
        .map(|Query(query)| query)
        .map_err(|error| Refusal::new(400, "invalid_request", error.body_text()))
}

/// The digest of the bearer text, if there is one.
fn bearer(headers: &HeaderMap) -> Option<Digest> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, text) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret::digest(text))
}
