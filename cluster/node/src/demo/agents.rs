//! The demo's agents: programs that really call a provider, with an itinerary drawn from a seed.
//!
//! The same itinerary is walked under keybaton and under the naive rotation, so that the ledger
//! judges both on the same calls.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use keybaton::messages::TaskKey;
use keybaton::{
    CallError, CredentialHandle, CredentialUse, Effects, Program, Progress, SessionLease,
    StepContext, StepError,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Largest answer that an agent reads, in bytes; the simulator's are some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// One agent's life, known before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Itinerary {
    /// Where its randomness comes from.
    pub seed: u64,
    /// How many steps it takes.
    pub steps: u64,
    /// Rest between two steps, milliseconds, about.
    pub think_ms: u64,
    /// It keeps the key across steps instead of asking for it per call.
    pub keeps_key: bool,
    /// One of its steps is a stream much longer than the others.
    pub has_long_step: bool,
}

/// What an agent knows: the beginning of its conversation and what came of each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diary {
    /// The plan.
    pub itinerary: Itinerary,
    /// Bytes of each answer so far.
    pub answers: Vec<u64>,
}

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// One question, one answer.
    Chat { latency_ms: u64 },
    /// An answer that arrives in pieces.
    Stream { chunks: u64, every_ms: u64 },
    /// A tool with a side effect that asks the provider itself while it works.
    Tool { latency_ms: u64 },
}

impl Itinerary {
    /// What the step does.
    pub fn stop(&self, step: u64) -> Stop {
        let mut rng = StdRng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if self.has_long_step && step == self.steps / 2 {
            return Stop::Stream { chunks: 60, every_ms: 50 };
        }
        match rng.random_range(0..10u32) {
            0..5 => Stop::Chat { latency_ms: rng.random_range(20..200) },
            5..8 => {
                Stop::Stream { chunks: rng.random_range(5..25), every_ms: rng.random_range(10..40) }
            }
            _ => Stop::Tool { latency_ms: rng.random_range(20..150) },
        }
    }

    /// How long the agent rests after the step.
    pub fn rest(&self, step: u64) -> Duration {
        let mut rng = StdRng::seed_from_u64(self.seed.rotate_left(17) ^ step);
        let spread = self.think_ms.max(2);
        Duration::from_millis(rng.random_range(spread / 2..spread * 3 / 2))
    }
}

/// Whoever can send an agent's requests: with a handle, with a kept key, or naively.
pub trait Caller: Sync {
    /// Sends a request under the agent's credential and reads the whole answer.
    fn call(
        &self,
        request: reqwest::Request,
    ) -> impl Future<Output = Result<Vec<u8>, StepError>> + Send;
}

/// Takes one step and returns how many bytes were answered.
pub async fn walk<C: Caller>(
    caller: &C,
    base_url: &str,
    task: &TaskKey,
    itinerary: &Itinerary,
    step: u64,
    idem: &str,
) -> Result<u64, StepError> {
    let errand = Errand { base_url, task, step, idem };
    visit(caller, &errand, itinerary.stop(step)).await
}

/// Makes the calls of one stop and returns how many bytes were answered.
pub async fn visit<C: Caller>(
    caller: &C,
    errand: &Errand<'_>,
    stop: Stop,
) -> Result<u64, StepError> {
    let answer = match stop {
        Stop::Chat { latency_ms } => caller.call(errand.chat("step", latency_ms)?).await?,
        Stop::Stream { chunks, every_ms } => caller.call(errand.stream(chunks, every_ms)?).await?,
        Stop::Tool { latency_ms } => {
            let tool = caller.call(errand.tool(latency_ms)?).await?;
            // The tool works with the same handle, at its own call's time.
            let nested = caller.call(errand.chat("nested", latency_ms / 2)?).await?;
            [tool, nested].concat()
        }
    };
    Ok(answer.len() as u64)
}

/// What all calls of one step have in common.
pub struct Errand<'a> {
    /// Where the provider's inference API is.
    pub base_url: &'a str,
    /// Whose step.
    pub task: &'a TaskKey,
    /// Which step.
    pub step: u64,
    /// The step's idempotency key.
    pub idem: &'a str,
}

impl Errand<'_> {
    fn chat(&self, stage: &'static str, latency_ms: u64) -> Result<reqwest::Request, StepError> {
        self.post(
            "/v1/chat/completions",
            stage,
            &json!({
                "model": "demo",
                "messages": [{"role": "user", "content": format!("step {}", self.step)}],
                "simulate": {"latency_ms": latency_ms},
            }),
        )
    }

    fn stream(&self, chunks: u64, every_ms: u64) -> Result<reqwest::Request, StepError> {
        self.post(
            "/v1/chat/completions",
            "step",
            &json!({
                "model": "demo",
                "stream": true,
                "messages": [{"role": "user", "content": format!("step {}", self.step)}],
                "simulate": {"latency_ms": 10, "chunks": chunks, "chunk_interval_ms": every_ms},
            }),
        )
    }

    fn tool(&self, latency_ms: u64) -> Result<reqwest::Request, StepError> {
        let mut request = self.post(
            "/v1/tools/notebook",
            "tool",
            &json!({
                "note": self.step,
                "simulate": {"latency_ms": latency_ms},
            }),
        )?;
        let yes = HeaderValue::from_static("true");
        request.headers_mut().insert(HeaderName::from_static("x-tool-idempotent"), yes);
        Ok(request)
    }

    fn post(
        &self,
        path: &str,
        stage: &'static str,
        body: &serde_json::Value,
    ) -> Result<reqwest::Request, StepError> {
        let broken = |why: String| StepError::Fail(format!("the request cannot be built: {why}"));
        let url = reqwest::Url::parse(&format!("{}{path}", self.base_url))
            .map_err(|error| broken(error.to_string()))?;
        let mut request = reqwest::Request::new(reqwest::Method::POST, url);
        let step = self.step.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-agent-tenant", self.task.tenant.as_str()),
            ("x-agent-task", self.task.task.as_str()),
            ("x-agent-step", step.as_str()),
            ("x-agent-stage", stage),
            ("idempotency-key", self.idem),
        ];
        fill(request.headers_mut(), &headers).map_err(|error| broken(error.to_string()))?;
        *request.body_mut() = Some(body.to_string().into());
        Ok(request)
    }
}

fn fill(
    headers: &mut HeaderMap,
    pairs: &[(&'static str, &str)],
) -> Result<(), http::header::InvalidHeaderValue> {
    for (name, value) in pairs {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
    }
    Ok(())
}

/// Calls through the handle: each call takes the version of its moment.
pub struct ByHandle<'a>(pub &'a CredentialHandle);

impl Caller for ByHandle<'_> {
    async fn call(&self, request: reqwest::Request) -> Result<Vec<u8>, StepError> {
        let response = self.0.send(request).await?;
        let status = response.status();
        let body = response.bytes(ANSWER_BYTES_MAX).await?;
        if status.is_success() { Ok(body) } else { Err(StepError::Again(format!("HTTP {status}"))) }
    }
}

/// Calls with a key that the agent keeps for as long as its session lasts.
pub struct ByKeptKey<'a> {
    /// The right to keep it.
    pub session: &'a SessionLease,
    /// Sends the requests.
    pub http: &'a reqwest::Client,
}

impl Caller for ByKeptKey<'_> {
    async fn call(&self, mut request: reqwest::Request) -> Result<Vec<u8>, StepError> {
        let cut = || StepError::from(CallError::Cut { version: self.session.version() });
        let mut key =
            HeaderValue::from_bytes(&[b"Bearer ", self.session.danger_expose_key()].concat())
                .map_err(|_| StepError::Fail("the key does not fit a header".into()))?;
        key.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, key);
        tokio::select! {
            biased;
            () = self.session.cut() => Err(cut()),
            answer = read_all(self.http, request) => answer,
        }
    }
}

/// Sends a request as it is and reads the whole answer.
pub async fn read_all(
    http: &reqwest::Client,
    request: reqwest::Request,
) -> Result<Vec<u8>, StepError> {
    let broken = |error: reqwest::Error| StepError::Again(error.without_url().to_string());
    let mut response = http.execute(request).await.map_err(broken)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(StepError::Fail("the answer is too large".into()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() { Ok(body) } else { Err(StepError::Again(format!("HTTP {status}"))) }
}

/// The demo's agent.
pub struct DemoAgent {
    /// Where the provider's inference API is.
    pub base_url: String,
}

impl Program for DemoAgent {
    const KIND: &'static str = "demo-agent/1";
    type State = Diary;
    type Outcome = u64;

    fn credential_use(&self, diary: &Diary) -> CredentialUse {
        if diary.itinerary.keeps_key { CredentialUse::PerSession } else { CredentialUse::PerCall }
    }

    fn effects(&self, diary: &Diary) -> Effects {
        match diary.itinerary.stop(diary.answers.len() as u64) {
            Stop::Tool { .. } => Effects::Idempotent,
            Stop::Chat { .. } | Stop::Stream { .. } => Effects::Repeatable,
        }
    }

    async fn step(
        &self,
        diary: &Diary,
        context: &StepContext<'_>,
    ) -> Result<Progress<u64>, StepError> {
        let idem = data_encoding::HEXLOWER.encode(&context.idem);
        let plan = &diary.itinerary;
        let bytes = match context.session {
            Some(session) => {
                let caller = ByKeptKey { session, http: context.http };
                walk(&caller, &self.base_url, context.task, plan, context.n, &idem).await?
            }
            None => {
                let caller = ByHandle(context.credential);
                walk(&caller, &self.base_url, context.task, plan, context.n, &idem).await?
            }
        };
        if context.n + 1 >= plan.steps {
            Ok(Progress::Done(bytes))
        } else {
            Ok(Progress::Rest(bytes, plan.rest(context.n)))
        }
    }

    fn apply(&self, diary: &mut Diary, bytes: u64) {
        diary.answers.push(bytes);
    }
}
