//! What an agent task is: a program that takes steps.
//!
//! A step returns an outcome, and `apply` folds it into the state. Resuming is therefore the last
//! checkpoint plus the outcomes that the journal has.
//!
//! **Invariant:** state and outcomes hold no key.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use keybaton_messages::{TaskKey, wire};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::credential::{AcquireError, CallError, CredentialHandle, SessionLease};
use crate::limits::{STEP_ATTEMPTS_MAX, STEP_RETRY_MAX, STEP_RETRY_MIN};

/// Schema of states and outcomes in checkpoints and journals: the envelope's, not the program's.
const SCHEMA: u16 = 1;

/// How a program uses its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialUse {
    /// Each call takes the present version; the default.
    PerCall,
    /// The task holds one version across steps and hands over at a step boundary.
    PerSession,
    /// The task needs no credential.
    None,
}

/// What the next step does to the world, and so what happens when it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// Only asks; repeating it costs money and nothing else. No intent is written.
    Repeatable,
    /// Changes something, and its calls carry the step's idempotency key: repeated with the same
    /// key.
    Idempotent,
    /// Changes something that can be looked up: `look` is asked before it is repeated.
    Queryable,
    /// Changes something blindly: a step that was cut parks the task for a person.
    Neither,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<O> {
    /// Fold this in and go on.
    Continue(O),
    /// Fold this in and rest before the next step.
    Rest(O, Duration),
    /// Fold this in; the task is done, its state is the result.
    Done(O),
}

/// What a step returns.
pub type Step<O> = Result<Progress<O>, StepError>;

/// How often a step is tried, and how long is waited in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Tries of one step, crashes included, before the task fails.
    pub attempts: u32,
    /// First pause; it doubles from try to try.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { attempts: STEP_ATTEMPTS_MAX, pause_min: STEP_RETRY_MIN, pause_max: STEP_RETRY_MAX }
    }
}

impl RestartPolicy {
    /// The pause before the next try, after `tries` of them.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(16);
        self.pause_min.saturating_mul(1 << doublings).min(self.pause_max)
    }
}

/// Why a step has no outcome.
#[derive(Debug, Error)]
pub enum StepError {
    /// It may be tried again (by the rules of its [`Effects`]).
    #[error("{0}")]
    Again(String),
    /// The task cannot succeed.
    #[error("{0}")]
    Fail(String),
    /// A person must look; the task waits.
    #[error("{0}")]
    Park(String),
}

impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        let why = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::Again(why)
    }
}

impl From<AcquireError> for StepError {
    fn from(error: AcquireError) -> Self {
        Self::Again(error.to_string())
    }
}

/// A kind of agent task.
pub trait Program: Send + Sync + 'static {
    /// Names the kind in the journal. Change it when a state of the old kind cannot be read.
    const KIND: &'static str;
    /// What the task knows: conversation, tool results, intermediate outputs. The initial state is
    /// the task's input, the last one its result.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What one step adds.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;

    /// How the program uses its credential.
    fn credential_use(&self, _state: &Self::State) -> CredentialUse {
        CredentialUse::PerCall
    }

    /// What the next step does to the world.
    fn effects(&self, _state: &Self::State) -> Effects {
        Effects::Repeatable
    }

    /// How often a step is tried before the task fails.
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::default()
    }

    /// Takes the next step. It is never cut by a normal rotation.
    fn step(
        &self,
        state: &Self::State,
        context: &StepContext<'_>,
    ) -> impl Future<Output = Step<Self::Outcome>> + Send;

    /// Looks whether a cut [`Effects::Queryable`] step took place, by its idempotency key.
    fn look(
        &self,
        _state: &Self::State,
        _context: &StepContext<'_>,
    ) -> impl Future<Output = Result<Option<Progress<Self::Outcome>>, StepError>> + Send {
        async { Err(StepError::Park("the step was cut and nobody can tell what it did".into())) }
    }

    /// Folds an outcome into the state. Must be pure: it is run again on every resume.
    fn apply(&self, state: &mut Self::State, outcome: Self::Outcome);
}

/// What a step may use.
pub struct StepContext<'a> {
    /// Which task.
    pub task: &'a TaskKey,
    /// Which step, from 0.
    pub n: u64,
    /// The step's idempotency key: the same in every repetition of it.
    pub idem: [u8; 16],
    /// The step was begun before, and it is not known how far it came.
    pub is_repeat: bool,
    /// The task's credential.
    pub credential: &'a CredentialHandle,
    /// The version that the task holds, for [`CredentialUse::PerSession`].
    pub session: Option<&'a SessionLease>,
    /// For building requests; sending goes through the credential.
    pub http: &'a reqwest::Client,
}

/// Largest answer that [`StepContext::post_json`] reads, in bytes: a long completion with its
/// logprobs is some hundred KiB.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

impl StepContext<'_> {
    /// Posts JSON under the task's credential and reads a JSON answer.
    ///
    /// The call carries the step's idempotency key. An answer that is not a success is
    /// [`StepError::Again`]; a request that cannot be built is [`StepError::Fail`].
    ///
    /// # Errors
    /// [`StepError`], ready to be handed on by the step.
    pub async fn post_json<A: DeserializeOwned>(
        &self,
        url: &str,
        body: &impl Serialize,
    ) -> Result<A, StepError> {
        let idem: String = self.idem.iter().map(|byte| format!("{byte:02x}")).collect();
        let request = self.http.post(url).header("idempotency-key", idem).json(body).build();
        let request = request.map_err(|error| StepError::Fail(error.to_string()))?;
        let response = self.credential.send(request).await?;
        let status = response.status();
        let answer = response.bytes(JSON_BYTES_MAX).await?;
        if !status.is_success() {
            return Err(StepError::Again(format!("the provider answered {status}")));
        }
        serde_json::from_slice(&answer)
            .map_err(|error| StepError::Again(format!("the answer is not understood: {error}")))
    }
}

/// What a finished step means for its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    Rest(Duration),
    Done,
}

/// A step that was taken: what comes next, and its outcome encoded.
pub(crate) type Taken = (Next, Vec<u8>);

/// A program at work, its types hidden.
pub(crate) trait Running: Send + Sync {
    fn kind(&self) -> &'static str;
    fn credential_use(&self) -> CredentialUse;
    fn effects(&self) -> Effects;
    fn restart_policy(&self) -> RestartPolicy;
    /// Takes a step, folds its outcome in and returns it encoded. On an error nothing changed.
    fn step<'a>(
        &'a mut self,
        context: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<Taken, StepError>>;
    /// As `step`, for a cut step that can be looked up; `None`: it did not take place.
    fn look<'a>(
        &'a mut self,
        context: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<Option<Taken>, StepError>>;
    /// Folds in an outcome that the journal has.
    fn fold(&mut self, outcome: &[u8]) -> Result<Next, wire::WireError>;
    fn save(&self) -> Result<Vec<u8>, wire::WireError>;
}

struct Live<P: Program> {
    program: Arc<P>,
    state: P::State,
}

/// An outcome as the journal has it: what comes next is part of it.
#[derive(Serialize, serde::Deserialize)]
struct Kept<O> {
    rest: Option<Duration>,
    done: bool,
    outcome: O,
}

impl<O> Kept<O> {
    fn next(&self) -> Next {
        match (self.done, self.rest) {
            (true, _) => Next::Done,
            (false, Some(rest)) => Next::Rest(rest),
            (false, None) => Next::Continue,
        }
    }
}

impl<O> From<Progress<O>> for Kept<O> {
    fn from(progress: Progress<O>) -> Self {
        match progress {
            Progress::Continue(outcome) => Self { rest: None, done: false, outcome },
            Progress::Rest(outcome, rest) => Self { rest: Some(rest), done: false, outcome },
            Progress::Done(outcome) => Self { rest: None, done: true, outcome },
        }
    }
}

impl<P: Program> Live<P> {
    fn take(&mut self, progress: Progress<P::Outcome>) -> Result<Taken, StepError> {
        let kept = Kept::from(progress);
        let bytes = wire::encode(SCHEMA, &kept)
            .map_err(|error| StepError::Fail(format!("the outcome cannot be kept: {error}")))?;
        let next = kept.next();
        self.program.apply(&mut self.state, kept.outcome);
        Ok((next, bytes))
    }
}

impl<P: Program> Running for Live<P> {
    fn kind(&self) -> &'static str {
        P::KIND
    }

    fn credential_use(&self) -> CredentialUse {
        self.program.credential_use(&self.state)
    }

    fn effects(&self) -> Effects {
        self.program.effects(&self.state)
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.program.restart_policy()
    }

    fn step<'a>(
        &'a mut self,
        context: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<Taken, StepError>> {
        Box::pin(async move {
            let progress = self.program.step(&self.state, context).await?;
            self.take(progress)
        })
    }

    fn look<'a>(
        &'a mut self,
        context: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<Option<Taken>, StepError>> {
        Box::pin(async move {
            match self.program.look(&self.state, context).await? {
                Some(progress) => self.take(progress).map(Some),
                None => Ok(None),
            }
        })
    }

    fn fold(&mut self, outcome: &[u8]) -> Result<Next, wire::WireError> {
        let kept: Kept<P::Outcome> = wire::decode(SCHEMA, outcome)?;
        let next = kept.next();
        self.program.apply(&mut self.state, kept.outcome);
        Ok(next)
    }

    fn save(&self) -> Result<Vec<u8>, wire::WireError> {
        wire::encode(SCHEMA, &self.state)
    }
}

/// Encodes a program's input or state as the journal keeps it.
///
/// # Errors
/// [`wire::WireError`] when it is too large or cannot be encoded.
pub fn encode_state<S: Serialize>(state: &S) -> Result<Vec<u8>, wire::WireError> {
    wire::encode(SCHEMA, state)
}

/// Decodes what [`encode_state`] wrote.
///
/// # Errors
/// [`wire::WireError`] when the bytes are of another type or schema.
pub fn decode_state<S: DeserializeOwned>(bytes: &[u8]) -> Result<S, wire::WireError> {
    wire::decode(SCHEMA, bytes)
}

type Start =
    Box<dyn Fn(&[u8]) -> Result<Box<dyn Running>, wire::WireError> + Send + Sync + 'static>;

/// The kinds that this node knows.
#[derive(Default)]
pub struct Programs(HashMap<&'static str, Start>);

impl Programs {
    /// Teaches this node a kind; a kind that is known already is replaced.
    pub fn add<P: Program>(&mut self, program: P) {
        let program = Arc::new(program);
        self.0.insert(
            P::KIND,
            Box::new(move |state| {
                let state = wire::decode(SCHEMA, state)?;
                Ok(Box::new(Live { program: program.clone(), state }))
            }),
        );
    }

    /// Whether a kind is known.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    pub(crate) fn start(
        &self,
        kind: &str,
        state: &[u8],
    ) -> Option<Result<Box<dyn Running>, wire::WireError>> {
        self.0.get(kind).map(|start| start(state))
    }
}
