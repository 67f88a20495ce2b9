//! The agent of the scenarios: a program whose steps are written down in its input.
//!
//! It really calls the provider over HTTP, with a handle or with a kept key, and says in headers
//! which step it takes, so that the ledger can be compared with the journals.

use std::sync::Arc;

use keybaton::{CallError, CredentialUse, Effects, Program, Progress, StepContext, StepError};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

use super::strings::{Cue, Place, Strings};

/// Largest answer that a puppet reads, in bytes; the simulator's are some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What a step does at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Nothing.
    Nothing,
    /// One question, one answer after so many milliseconds.
    Chat(u64),
    /// An answer in so many pieces, 10 ms apart.
    Stream(u32),
    /// A tool with a side effect; calling it twice under one idempotency key is declared harmless.
    Tool(u64),
    /// A tool with a side effect that must happen once.
    OnceTool(u64),
    /// A tool with a side effect that asks the provider itself while it works.
    Nested(u64),
}

/// How a puppet uses its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeps {
    /// One version for each call.
    PerCall,
    /// One version across steps.
    PerSession,
    /// None.
    Nothing,
}

/// What the steps of a puppet do to the world, in the program's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Risk {
    /// As [`Effects::Repeatable`], and [`Effects::Idempotent`] where the deed is a tool.
    ByDeed,
    /// [`Effects::Idempotent`].
    Idempotent,
    /// [`Effects::Queryable`]; what looking finds is in the role.
    Queryable {
        /// Whether looking finds that the step took place.
        happened: bool,
    },
    /// [`Effects::Neither`].
    Neither,
}

/// A puppet's input and state: what it shall do, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// One deed for each step.
    pub deeds: Vec<Deed>,
    /// How it uses its credential.
    pub keeps: Keeps,
    /// What its steps do to the world.
    pub risk: Risk,
    /// Rest between two steps, milliseconds.
    pub rest_ms: u64,
    /// The outcome of each step so far.
    pub outcomes: Vec<String>,
}

impl Role {
    /// Takes these steps with a version for each call.
    #[must_use]
    pub fn of(deeds: impl IntoIterator<Item = Deed>) -> Self {
        Self {
            deeds: deeds.into_iter().collect(),
            keeps: Keeps::PerCall,
            risk: Risk::ByDeed,
            rest_ms: 0,
            outcomes: Vec::new(),
        }
    }

    /// Keeps its key across steps.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { keeps: Keeps::PerSession, ..self }
    }

    /// Uses no credential.
    #[must_use]
    pub fn without_credential(self) -> Self {
        Self { keeps: Keeps::Nothing, ..self }
    }

    /// Says what its steps do to the world.
    #[must_use]
    pub fn with_risk(self, risk: Risk) -> Self {
        Self { risk, ..self }
    }

    /// Rests between its steps.
    #[must_use]
    pub fn resting(self, rest_ms: u64) -> Self {
        Self { rest_ms, ..self }
    }

    /// A life of `steps` steps, different for each `number`: questions, streams, tools and tools
    /// that ask; every fifth one keeps its key.
    #[must_use]
    pub fn mixed(number: u64, steps: u64) -> Self {
        let deed = |step: u64| match (number * 7 + step * 3) % 6 {
            0 | 3 => Deed::Chat(20 + (number * 13 + step * 17) % 120),
            1 => Deed::Stream(5 + u32::try_from((number + step) % 20).unwrap_or(0)),
            2 => Deed::Tool(20 + (number * 11 + step) % 60),
            4 => Deed::Nested(40),
            _ => Deed::Chat(10),
        };
        let role = Self::of((0..steps).map(deed)).resting(60 + number * 7 % 90);
        if number.is_multiple_of(5) { role.keeping() } else { role }
    }
}

/// The program.
pub struct Puppet {
    /// Where the provider's inference API is.
    pub base_url: String,
    /// What the test does with its puppets.
    pub strings: Arc<Strings>,
}

impl Program for Puppet {
    const KIND: &'static str = "puppet/1";
    type State = Role;
    type Outcome = String;

    fn credential_use(&self, role: &Role) -> CredentialUse {
        match role.keeps {
            Keeps::PerCall => CredentialUse::PerCall,
            Keeps::PerSession => CredentialUse::PerSession,
            Keeps::Nothing => CredentialUse::None,
        }
    }

    fn effects(&self, role: &Role) -> Effects {
        match role.risk {
            Risk::Idempotent => Effects::Idempotent,
            Risk::Queryable { .. } => Effects::Queryable,
            Risk::Neither => Effects::Neither,
            Risk::ByDeed => match role.deeds.get(role.outcomes.len()) {
                Some(Deed::Tool(_) | Deed::Nested(_)) => Effects::Idempotent,
                Some(Deed::OnceTool(_)) => Effects::Neither,
                _ => Effects::Repeatable,
            },
        }
    }

    async fn step(
        &self,
        role: &Role,
        context: &StepContext<'_>,
    ) -> Result<Progress<String>, StepError> {
        self.come_through(Place::Before, context).await?;
        let step = usize::try_from(context.n).expect("few steps");
        let outcome = match role.deeds.get(step) {
            Some(deed) => self.act(*deed, context).await?,
            None => "nothing to do".to_owned(),
        };
        self.come_through(Place::After, context).await?;
        Ok(if step + 1 >= role.deeds.len() {
            Progress::Done(outcome)
        } else if role.rest_ms > 0 {
            Progress::Rest(outcome, Duration::from_millis(role.rest_ms))
        } else {
            Progress::Continue(outcome)
        })
    }

    async fn look(
        &self,
        role: &Role,
        context: &StepContext<'_>,
    ) -> Result<Option<Progress<String>>, StepError> {
        self.come_through(Place::Look, context).await?;
        let Risk::Queryable { happened: true } = role.risk else {
            return Ok(None);
        };
        let is_last = context.n + 1 >= role.deeds.len() as u64;
        let found = "found".to_owned();
        Ok(Some(if is_last { Progress::Done(found) } else { Progress::Continue(found) }))
    }

    fn apply(&self, role: &mut Role, outcome: String) {
        role.outcomes.push(outcome);
    }
}

impl Puppet {
    async fn come_through(&self, place: Place, context: &StepContext<'_>) -> Result<(), StepError> {
        let facts = (context.is_repeat, context.idem);
        let cue = self.strings.pass(context.task, context.n, place, facts);
        let at = || format!("by cue, {place:?} step {}", context.n);
        match cue.await {
            None | Some(Cue::Hold | Cue::Seize) => Ok(()),
            Some(Cue::Panic) => panic!("{}", at()),
            Some(Cue::Again) => Err(StepError::Again(at())),
            Some(Cue::Fail) => Err(StepError::Fail(at())),
            Some(Cue::Park) => Err(StepError::Park(at())),
        }
    }

    async fn act(&self, deed: Deed, context: &StepContext<'_>) -> Result<String, StepError> {
        let chat = |stage, simulate: Value| {
            let question = json!({"role": "user", "content": format!("step {}", context.n)});
            let is_stream = simulate.get("chunks").is_some();
            let body = json!({
                "model": "m", "messages": [question], "stream": is_stream, "simulate": simulate,
            });
            ("/v1/chat/completions", stage, body)
        };
        let tool = |ms| {
            let body = json!({"note": context.n, "simulate": {"latency_ms": ms}});
            ("/v1/tools/notebook", "tool", body)
        };
        match deed {
            Deed::Nothing => Ok("nothing".to_owned()),
            Deed::Chat(ms) => {
                self.call(context, chat("step", json!({"latency_ms": ms})), true).await
            }
            Deed::Stream(chunks) => {
                let pace = json!({"latency_ms": 5, "chunks": chunks, "chunk_interval_ms": 10});
                self.call(context, chat("step", pace), true).await
            }
            Deed::Tool(ms) => self.call(context, tool(ms), true).await,
            Deed::OnceTool(ms) => self.call(context, tool(ms), false).await,
            Deed::Nested(ms) => {
                self.call(context, tool(ms), true).await?;
                let pace = json!({"latency_ms": ms / 2});
                self.call(context, chat("nested", pace), true).await
            }
        }
    }

    async fn call(
        &self,
        context: &StepContext<'_>,
        (path, stage, body): (&str, &str, Value),
        is_idempotent: bool,
    ) -> Result<String, StepError> {
        let mut request = context
            .http
            .post(format!("{}{path}", self.base_url))
            .headers(headers(context, stage, is_idempotent))
            .body(body.to_string())
            .build()
            .map_err(|error| StepError::Fail(error.to_string()))?;
        let (status, bytes) = match context.session {
            None => {
                let response = context.credential.send(request).await?;
                (response.status(), response.bytes(ANSWER_BYTES_MAX).await?)
            }
            Some(session) => {
                let version = session.version();
                let bearer = [b"Bearer ", session.danger_expose_key()].concat();
                let mut key = HeaderValue::from_bytes(&bearer)
                    .map_err(|_| StepError::Fail("the key does not fit a header".into()))?;
                key.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, key);
                tokio::select! {
                    biased;
                    () = session.cut() => return Err(CallError::Cut { version }.into()),
                    answer = read_all(context.http, request) => answer?,
                }
            }
        };
        if status.is_success() {
            Ok(format!("{} bytes", bytes.len()))
        } else {
            Err(StepError::Again(format!("HTTP {status}")))
        }
    }
}

async fn read_all(
    http: &reqwest::Client,
    request: reqwest::Request,
) -> Result<(reqwest::StatusCode, Vec<u8>), StepError> {
    let broken = |error: reqwest::Error| StepError::Again(error.without_url().to_string());
    let response = http.execute(request).await.map_err(broken)?;
    let status = response.status();
    let bytes = response.bytes().await.map_err(broken)?;
    Ok((status, bytes.to_vec()))
}

fn headers(context: &StepContext<'_>, stage: &str, is_idempotent: bool) -> HeaderMap {
    let idem: String = context.idem.iter().map(|b| format!("{b:02x}")).collect();
    let n = context.n.to_string();
    let mut pairs = vec![
        ("content-type", "application/json"),
        ("x-agent-tenant", context.task.tenant.as_str()),
        ("x-agent-task", context.task.task.as_str()),
        ("x-agent-step", n.as_str()),
        ("x-agent-stage", stage),
        ("idempotency-key", idem.as_str()),
    ];
    if is_idempotent {
        pairs.push(("x-tool-idempotent", "true"));
    }
    pairs
        .into_iter()
        .map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("names and numbers fit a header");
            (HeaderName::from_static(name), value)
        })
        .collect()
}
