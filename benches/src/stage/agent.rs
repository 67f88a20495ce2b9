//! An agent whose steps end on a cue, and the cues.
//!
//! A cue comes from outside of the runtime: timers of a runtime gather what is due within a
//! millisecond, and a bench that rests on them measures the timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keybaton::{CredentialUse, Program, Progress, StepContext, StepError};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Bytes that an agent of the rotation benches knows: what its checkpoint carries.
pub const STATE_BYTES: usize = 2048;

/// Bytes of what a step comes to.
pub const OUTCOME_BYTES: usize = 300;

/// Rest that outlasts every bench.
const REST: Duration = Duration::from_secs(24 * 3600);

/// What a step does before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Play {
    /// Nothing.
    AtOnce,
    /// Waits for its agent's cue.
    OnCue,
    /// Nothing; then the agent rests for longer than any bench.
    Rest,
}

/// What an agent knows.
#[derive(Serialize, Deserialize)]
pub struct Notes {
    /// Its number.
    pub agent: u32,
    /// Steps so far.
    pub steps: u64,
    /// What it read and wrote.
    pub text: String,
}

/// The program.
pub struct Agent(pub Arc<Cues>);

impl Program for Agent {
    const KIND: &'static str = "bench-agent/1";
    type State = Notes;
    type Outcome = String;

    fn credential_use(&self, _: &Notes) -> CredentialUse {
        CredentialUse::PerSession
    }

    async fn step(
        &self,
        notes: &Notes,
        _: &StepContext<'_>,
    ) -> Result<Progress<String>, StepError> {
        let outcome = "o".repeat(OUTCOME_BYTES);
        match self.0.enter() {
            Play::AtOnce => {}
            Play::OnCue => self.0.wait(notes.agent).await,
            Play::Rest => return Ok(Progress::Rest(outcome, REST)),
        }
        Ok(Progress::Continue(outcome))
    }

    fn apply(&self, notes: &mut Notes, _: String) {
        notes.steps += 1;
    }
}

/// The cues of all agents, and the count of steps that began.
pub struct Cues {
    play: AtomicU8,
    cues: Vec<Notify>,
    entered: AtomicU64,
    awaited: AtomicU64,
    last_ns: AtomicU64,
    complete: Notify,
    origin: Instant,
}

impl Cues {
    /// For so many agents.
    #[must_use]
    pub fn new(agents: usize, play: Play) -> Arc<Self> {
        Arc::new(Self {
            play: AtomicU8::new(play as u8),
            cues: std::iter::repeat_with(Notify::new).take(agents).collect(),
            entered: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            complete: Notify::new(),
            origin: Instant::now(),
        })
    }

    /// What steps do that begin from here on.
    pub fn set_play(&self, play: Play) {
        self.play.store(play as u8, Ordering::Release);
    }

    /// Lets the agent end its step, or its next one if it waits in none.
    pub fn cue(&self, agent: usize) {
        self.cues[agent].notify_one();
    }

    /// Lets all agents end their steps.
    pub fn cue_all(&self) {
        self.cues.iter().for_each(Notify::notify_one);
    }

    /// From here on [`complete`](Self::complete) waits for so many steps.
    pub fn expect(&self, steps: usize) {
        let entered = self.entered();
        self.awaited.store(entered + steps as u64, Ordering::Release);
    }

    /// Waits until the expected steps have begun, and tells when the last one did.
    pub async fn complete(&self) -> Instant {
        while self.entered() < self.awaited.load(Ordering::Acquire) {
            self.complete.notified().await;
        }
        self.origin + Duration::from_nanos(self.last_ns.load(Ordering::Acquire))
    }

    /// Steps that have begun. The result of every step before an agent's last one is durable.
    #[must_use]
    pub fn entered(&self) -> u64 {
        self.entered.load(Ordering::Acquire)
    }

    fn enter(&self) -> Play {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_ns.fetch_max(now, Ordering::AcqRel);
        let entered = self.entered.fetch_add(1, Ordering::AcqRel) + 1;
        if entered == self.awaited.load(Ordering::Acquire) {
            self.complete.notify_one();
        }
        match self.play.load(Ordering::Acquire) {
            play if play == Play::AtOnce as u8 => Play::AtOnce,
            play if play == Play::OnCue as u8 => Play::OnCue,
            _ => Play::Rest,
        }
    }

    async fn wait(&self, agent: u32) {
        let agent = usize::try_from(agent).unwrap_or(usize::MAX);
        if let Some(cue) = self.cues.get(agent) {
            cue.notified().await;
        }
    }
}
