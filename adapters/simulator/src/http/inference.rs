//! What a tenant's key opens: the probe, chat completions and tools.
//!
//! The answer depends on nothing but the request, so that a step that is run again gives the
//! same result. Its pace comes from the body's `simulate` object, which real vendors ignore:
//! `{"simulate": {"latency_ms": 20, "chunks": 8, "chunk_interval_ms": 10}}`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::Pace;
use crate::fault::{Fault, Op};
use crate::http::answer::{self, Answer, BrokenOff, HangUp};
use crate::http::{Payload, bearer, openrouter};
use crate::issue::{Refusal, Style};
use crate::ledger::Outcome;
use crate::limits::TEXT_BYTES_MAX;
use crate::requests::{Arrival, Cut, OpenRequest};
use crate::secret::{self, Digest};
use crate::state::Site;

pub(crate) async fn models(visit: Visit) -> Response {
    let models = ["simulated-small", "simulated-large"]
        .map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "simulator"}));
    let body = json!({"object": "list", "data": models});
    visit.probe(Style::OpenAi, |_, _| body).await
}

pub(crate) async fn key(visit: Visit) -> Response {
    let view = |site: &Site, digest: &Digest| {
        let state = site.lock();
        let no = state.keys.by_digest(digest);
        no.map_or(Value::Null, |no| openrouter::own_view(state.keys.get(no)))
    };
    visit.probe(Style::OpenRouter, view).await
}

pub(crate) async fn tool(visit: Visit, Path(name): Path<String>, payload: Payload) -> Response {
    let body = payload
        .parse::<ToolBody>()
        .and_then(|body| visit.pace(body.simulate.as_ref()).map(|pace| (body, pace)));
    let (open, (_, pace)) = match visit.begin(Op::Tool, false, body) {
        Ok(begun) => begun,
        Err(refusal) => return answer::refuse(visit.style(), &refusal),
    };
    let result = json!({
        "tool": name,
        "result": secret::hex(&secret::digest(&payload.0)),
        "executed": open.executed,
        "executions": open.executions,
    });
    visit.finish(open, pace.latency, Answer::ok(result)).await
}

pub(crate) async fn chat(visit: Visit, payload: Payload) -> Response {
    let body = payload
        .parse::<ChatBody>()
        .and_then(|body| visit.pace(body.simulate.as_ref()).map(|pace| (body, pace)));
    let is_stream = matches!(&body, Ok((ChatBody { stream: Some(true), .. }, _)));
    let (open, (body, pace)) = match visit.begin(Op::Chat, is_stream, body) {
        Ok(begun) => begun,
        Err(refusal) => return answer::refuse(visit.style(), &refusal),
    };
    let said = Said::new(&body, &payload.0, pace.chunks);
    // Only these faults leave room for a stream.
    let can_stream = matches!(open.fault, None | Some(Fault::Truncated | Fault::Stall(_)));
    if is_stream && can_stream {
        return visit.stream(open, pace, said).await;
    }
    visit.finish(open, pace.latency, Answer::ok(said.whole())).await
}

#[derive(Deserialize)]
struct ToolBody {
    simulate: Option<Simulate>,
}

#[derive(Deserialize)]
struct ChatBody {
    model: String,
    messages: Vec<IgnoredAny>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    simulate: Option<Simulate>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Simulate {
    latency_ms: Option<u64>,
    chunks: Option<u32>,
    chunk_interval_ms: Option<u64>,
}

/// One request on one connection.
pub(crate) struct Visit {
    site: Arc<Site>,
    hang_up: HangUp,
    headers: HeaderMap,
    path: String,
}

impl FromRequestParts<Arc<Site>> for Visit {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        site: &Arc<Site>,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self {
            site: Arc::clone(site),
            hang_up: parts.extensions.get::<HangUp>().cloned().unwrap_or_default(),
            headers: parts.headers.clone(),
            path: parts.uri.path().to_owned(),
        })
    }
}

impl Visit {
    async fn probe(&self, style: Style, body: impl FnOnce(&Site, &Digest) -> Value) -> Response {
        match self.begin(Op::Probe, false, Ok(())) {
            Ok((open, ())) => {
                let digest = bearer(&self.headers).unwrap_or_default();
                let answer = Answer::ok(body(&self.site, &digest));
                self.finish(open, Duration::ZERO, answer).await
            }
            Err(refusal) => answer::refuse(style, &refusal),
        }
    }

    fn style(&self) -> Style {
        if self.path.starts_with("/api/") { Style::OpenRouter } else { Style::OpenAi }
    }

    fn pace(&self, asked: Option<&Simulate>) -> Result<Pace, Refusal> {
        let usual = self.site.config.pace;
        let Some(asked) = asked else { return Ok(usual) };
        let millis = |asked: Option<u64>, usual| asked.map_or(usual, Duration::from_millis);
        let pace = Pace {
            latency: millis(asked.latency_ms, usual.latency),
            chunks: asked.chunks.unwrap_or(usual.chunks),
            chunk_interval: millis(asked.chunk_interval_ms, usual.chunk_interval),
        };
        if pace.is_within_limits() {
            return Ok(pace);
        }
        let message = "simulate asks for more than 600 s latency, 100000 chunks or 60 s interval";
        Err(Refusal::new(400, "invalid_value", message))
    }

    /// Records the arrival. A body that makes no sense is refused after the key was checked, as
    /// vendors do.
    fn begin<T>(
        &self,
        op: Op,
        streaming: bool,
        body: Result<T, Refusal>,
    ) -> Result<(OpenRequest, T), Refusal> {
        let too_long = self.path.len() > TEXT_BYTES_MAX;
        let texts = ["x-agent-tenant", "x-agent-task", "idempotency-key", "x-agent-stage"];
        let texts = texts.map(|name| self.text(name));
        let body = match texts.iter().any(Result::is_err) || too_long {
            true => Err(Refusal::new(400, "invalid_value", "a header or the path is too long")),
            false => body,
        };
        let [tenant, task, idem, stage] = texts.map(|text| text.ok().flatten());
        let step = self.text("x-agent-step").ok().flatten();
        let path = if too_long { String::from("(too long)") } else { self.path.clone() };
        let open = OpenRequest::begin(
            &self.site,
            Arrival {
                op,
                path,
                digest: bearer(&self.headers),
                tenant,
                task,
                step: step.and_then(|step| step.parse().ok()),
                idem,
                stage,
                streaming,
                is_valid: body.is_ok(),
                is_idempotent: self.headers.get("x-tool-idempotent").is_some_and(|it| it == "true"),
            },
        )?;
        match body {
            Ok(body) => Ok((open, body)),
            Err(refusal) => {
                // A key that died in between changes nothing: nothing was executed.
                let _ = open.end(Outcome::Failed, refusal.status);
                Err(refusal)
            }
        }
    }

    /// A header's text; an error when it is too long or not text.
    fn text(&self, name: &str) -> Result<Option<String>, ()> {
        let Some(value) = self.headers.get(name) else {
            return Ok(None);
        };
        match value.to_str() {
            Ok(text) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.to_owned())),
            _ => Err(()),
        }
    }

    /// Answers in one piece after `latency`.
    async fn finish(&self, mut open: OpenRequest, latency: Duration, answer: Answer) -> Response {
        let fault = open.fault;
        if let Some(early) = fault.filter(|fault| fault.is_before_execution()) {
            let turned = answer::turn_away(self.style(), early);
            let status = turned.as_ref().map_or(0, |(status, _)| *status);
            let ended = open.end(Outcome::Failed, status);
            return match (turned, ended) {
                (Some((_, response)), Ok(())) => response,
                _ => self.hang_up().await,
            };
        }
        let stall = match fault {
            Some(Fault::Stall(delay)) => delay,
            _ => Duration::ZERO,
        };
        let outcome = match fault {
            None | Some(Fault::Stall(_)) => Outcome::Ok,
            Some(_) => Outcome::Failed,
        };
        let waited = open.wait_until(Instant::now() + latency + stall).await;
        let ended = waited.and_then(|()| open.end(outcome, answer.status));
        match ended {
            Ok(()) => answer::deliver(fault, self.hang_up.clone(), answer).await,
            Err(Cut) => self.hang_up().await,
        }
    }

    /// Answers in chunks; the headers leave with the first one.
    async fn stream(&self, mut open: OpenRequest, pace: Pace, said: Said) -> Response {
        let (stall, break_at) = match open.fault {
            Some(Fault::Stall(delay)) => (delay, None),
            Some(Fault::Truncated) => (Duration::ZERO, Some(pace.chunks / 2)),
            _ => (Duration::ZERO, None),
        };
        let first = Instant::now() + pace.latency + stall;
        if open.wait_until(first).await.is_err() {
            return self.hang_up().await;
        }
        let chunks = Chunks {
            open: Some(open),
            said,
            sent: 0,
            next: first,
            interval: pace.chunk_interval,
            break_at,
        };
        let body = Body::from_stream(stream::unfold(chunks, Chunks::next));
        answer::with_type(200, "text/event-stream", body)
    }

    async fn hang_up(&self) -> Response {
        match self.hang_up.clone().now().await {}
    }
}

/// What the model says: as many words as chunks, all from the digest of the request.
struct Said {
    id: String,
    /// As JSON text.
    model: String,
    digest: Digest,
    chunks: u32,
    prompt_tokens: usize,
    includes_usage: bool,
}

impl Said {
    fn new(body: &ChatBody, request: &Bytes, chunks: u32) -> Self {
        let digest = secret::digest(request);
        Self {
            id: format!("chatcmpl-{}", &secret::hex(&digest)[..24]),
            model: json!(body.model).to_string(),
            digest,
            chunks,
            prompt_tokens: body.messages.len(),
            includes_usage: body
                .stream_options
                .as_ref()
                .is_some_and(|options| options.include_usage == Some(true)),
        }
    }

    fn word(&self, place: u32) -> String {
        let byte = self.digest[place as usize % self.digest.len()];
        let space = if place == 0 { "" } else { " " };
        format!("{space}{place}.{byte:02x}")
    }

    fn whole(&self) -> Value {
        let content: String = (0..self.chunks).map(|place| self.word(place)).collect();
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": 0,
            "model": serde_json::from_str::<Value>(&self.model).unwrap_or_default(),
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": self.usage(),
        })
    }

    fn usage(&self) -> Value {
        let total = self.prompt_tokens + self.chunks as usize;
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.chunks,
            "total_tokens": total,
        })
    }

    /// Words need no escapes, so that a chunk is only pasted together.
    fn chunk(&self, place: u32) -> Bytes {
        let role = if place == 0 { r#""role":"assistant","# } else { "" };
        let delta = format!(r#"{{{role}"content":"{}"}}"#, self.word(place));
        Bytes::from(self.event(&delta, "null"))
    }

    fn event(&self, delta: &str, finish_reason: &str) -> String {
        format!(
            "data: {{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":0,\
             \"model\":{},\"choices\":[{{\"index\":0,\"delta\":{delta},\
             \"finish_reason\":{finish_reason}}}]}}\n\n",
            self.id, self.model,
        )
    }

    fn last(&self) -> Bytes {
        let mut text = self.event("{}", "\"stop\"");
        if self.includes_usage {
            text.push_str(&format!(
                "data: {{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":0,\
                 \"model\":{},\"choices\":[],\"usage\":{}}}\n\n",
                self.id,
                self.model,
                self.usage(),
            ));
        }
        text.push_str("data: [DONE]\n\n");
        Bytes::from(text)
    }
}

/// A stream on its way.
struct Chunks {
    /// None after the last chunk.
    open: Option<OpenRequest>,
    said: Said,
    sent: u32,
    next: Instant,
    interval: Duration,
    break_at: Option<u32>,
}

impl Chunks {
    async fn next(mut self) -> Option<(Result<Bytes, BrokenOff>, Self)> {
        let mut open = self.open.take()?;
        if open.wait_until(self.next).await.is_err() {
            return Some((Err(BrokenOff), self));
        }
        if self.break_at == Some(self.sent) {
            // Lets what was said so far leave before the connection ends.
            tokio::task::yield_now().await;
            let _ = open.end(Outcome::Failed, 200);
            return Some((Err(BrokenOff), self));
        }
        if self.sent < self.said.chunks {
            let chunk = self.said.chunk(self.sent);
            self.sent += 1;
            self.next += self.interval;
            self.open = Some(open);
            return Some((Ok(chunk), self));
        }
        match open.end(Outcome::Ok, 200) {
            Ok(()) => Some((Ok(self.said.last()), self)),
            Err(Cut) => Some((Err(BrokenOff), self)),
        }
    }
}
