//! The agent of the benchmark: a program whose steps are calls of a drawn length, and who says
//! when each began and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keybaton::{CredentialUse, Effects, Program, Progress, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::super::demo::agents::{ByHandle, ByKeptKey, Errand, visit};
use super::load::Load;
use super::recorder::Recorder;

/// What an agent is from its first step to its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Which agent.
    pub number: u32,
    /// Whose, as a number.
    pub tenant: u32,
    /// Steps that it takes; without it, as many as there is time for.
    pub steps: Option<u64>,
    /// Steps taken.
    pub taken: u64,
    /// What a real agent would know by now: the size of a checkpoint.
    pub memory: Vec<u8>,
}

/// The kind of agent.
pub struct BenchAgent {
    /// Where the provider's inference API is.
    pub base_url: String,
    /// What it does.
    pub load: Arc<Load>,
    /// Who wants to know.
    pub recorder: Arc<Recorder>,
    /// The run ends: the present step is everybody's last one.
    pub is_closing: Arc<AtomicBool>,
}

impl Program for BenchAgent {
    const KIND: &'static str = "bench-agent/1";
    type State = Notes;
    type Outcome = u64;

    fn credential_use(&self, notes: &Notes) -> CredentialUse {
        if self.load.keeps_key(notes.number) {
            CredentialUse::PerSession
        } else {
            CredentialUse::PerCall
        }
    }

    fn effects(&self, _notes: &Notes) -> Effects {
        Effects::Repeatable
    }

    async fn step(
        &self,
        notes: &Notes,
        context: &StepContext<'_>,
    ) -> Result<Progress<u64>, StepError> {
        let idem = data_encoding::HEXLOWER.encode(&context.idem);
        let (base_url, task, step) = (self.base_url.as_str(), context.task, context.n);
        let errand = Errand { base_url, task, step, idem: &idem };
        let (own_work, stop) = self.load.step(notes.number, step);
        let (number, tenant) = (notes.number, notes.tenant);
        let (bytes, version) = match context.session {
            Some(session) => {
                let version = session.version();
                self.recorder.begins(number, tenant, true, version.0);
                Load::work(own_work).await;
                let caller = ByKeptKey { session, http: context.http };
                (visit(&caller, &errand, stop).await?, version)
            }
            None => {
                // A step begins when it could take a key: waiting at a shut gate is pause.
                let version = context.credential.call().await?.version();
                self.recorder.begins(number, tenant, false, version.0);
                let bytes = visit(&ByHandle(context.credential), &errand, stop).await?;
                (bytes, context.credential.last_used().unwrap_or(version))
            }
        };
        self.recorder.ends(number, version.0);
        let is_last = notes.steps.is_some_and(|steps| notes.taken + 1 >= steps);
        if is_last || self.is_closing.load(Ordering::Relaxed) {
            self.recorder.gone(number);
            return Ok(Progress::Done(bytes));
        }
        Ok(Progress::Continue(bytes))
    }

    fn apply(&self, notes: &mut Notes, _bytes: u64) {
        notes.taken += 1;
    }
}
