//! How a decided answer reaches the caller, or does not.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fault::Fault;
use crate::issue::{Refusal, Style};
use crate::limits::HUGE_BODY_BYTES;

/// Ends the connection that a request came on. Every request carries the one of its connection.
#[derive(Clone, Default)]
pub(crate) struct HangUp(Arc<Notify>);

impl HangUp {
    /// Ends the connection. It never returns, since the connection owns the caller.
    pub(crate) async fn now(self) -> Infallible {
        self.0.notify_one();
        std::future::pending().await
    }

    /// Waits for the wish to end the connection.
    pub(crate) async fn wished(&self) {
        self.0.notified().await;
    }
}

/// The body breaks off here. It ends the connection in the middle of an answer.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the simulator breaks the answer off")
    }
}

impl std::error::Error for BrokenOff {}

/// An answer that was decided.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }
}

/// Hands `answer` over, spoilt as `fault` asks.
pub(crate) async fn deliver(fault: Option<Fault>, hang_up: HangUp, answer: Answer) -> Response {
    let text = answer.body.to_string();
    match fault {
        Some(Fault::AckLost) => match hang_up.now().await {},
        Some(Fault::Truncated) => truncated(answer.status, text),
        Some(Fault::HtmlBody) => {
            let page = "<!doctype html><title>Service</title><h1>Please come back later</h1>";
            with_type(answer.status, "text/html; charset=utf-8", page)
        }
        Some(Fault::EmptyBody) => with_type(answer.status, "application/json", ""),
        Some(Fault::HugeBody) => with_type(answer.status, "application/json", huge()),
        _ => with_type(answer.status, "application/json", text),
    }
}

/// Says no in the vendor's words.
pub(crate) fn refuse(style: Style, refusal: &Refusal) -> Response {
    let body = match style {
        Style::OpenAi => json!({"error": {
            "message": refusal.message,
            "type": error_type(refusal.status),
            "param": null,
            "code": refusal.code,
        }}),
        Style::OpenRouter => json!({"error": {
            "code": refusal.status,
            "message": refusal.message,
        }}),
    };
    with_type(refusal.status, "application/json", body.to_string())
}

/// Says no because of a fault that ends a call before it is executed. `None` when the fault
/// does not answer at all.
pub(crate) fn turn_away(style: Style, fault: Fault) -> Option<(u16, Response)> {
    let (status, code, message) = match fault {
        Fault::RateLimited(_) => (429, "rate_limit_exceeded", "Rate limit reached, try later."),
        Fault::ServerError => (500, "server_error", "The server had an error."),
        Fault::Quota => (400, "api_keys_limit_reached", "The limit of API keys is reached."),
        Fault::Forbidden => (
            403,
            "missing_scope",
            "You have insufficient permissions for this operation. Missing scopes: api.model.read.",
        ),
        _ => return None,
    };
    let mut response = refuse(style, &Refusal::new(status, code, message));
    if let Fault::RateLimited(delay) = fault {
        let seconds = delay.as_millis().div_ceil(1000);
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, number(seconds));
        headers.insert("retry-after-ms", number(delay.as_millis()));
    }
    Some((status, response))
}

fn number(value: u128) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("digits are a header value")
}

/// OpenAI's `type` for a status. [docs of error codes; 403 and 5xx as its SDKs map them]
fn error_type(status: u16) -> &'static str {
    match status {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

pub(crate) fn with_type(
    status: u16,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Announces the whole text and sends the first half.
fn truncated(status: u16, text: String) -> Response {
    let whole = text.len();
    let mut half = text.into_bytes();
    half.truncate(whole / 2);
    let halves = stream::unfold(Some(Bytes::from(half)), async |half| match half {
        Some(half) => Some((Ok(half), None)),
        None => {
            // Lets the first half leave before the connection ends.
            tokio::task::yield_now().await;
            Some((Err(BrokenOff), None))
        }
    });
    let mut response = with_type(status, "application/json", Body::from_stream(halves));
    response.headers_mut().insert(CONTENT_LENGTH, number(whole as u128));
    response
}

/// Well-formed JSON that nobody should read to the end.
fn huge() -> String {
    let mut text = String::with_capacity(HUGE_BODY_BYTES + 16);
    text.push_str(r#"{"padding":""#);
    text.extend(std::iter::repeat_n('x', HUGE_BODY_BYTES));
    text.push_str(r#""}"#);
    text
}
