//! Requests with a tenant key, from arrival to end.
//!
//! **Invariant:** every request that started ends exactly once in the ledger, whoever ends it:
//! its own answer, its key's death, its caller or the simulator's stop.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::fault::{Fault, Op};
use crate::issue::Refusal;
use crate::keys::{KeyNo, Life};
use crate::ledger::{Event, Outcome};
use crate::secret::Digest;
use crate::state::{Site, State};
use crate::tools::ToolRuns;

/// A request as it arrives.
pub(crate) struct Arrival {
    pub(crate) op: Op,
    pub(crate) path: String,
    /// Of the bearer text; none when there is none.
    pub(crate) digest: Option<Digest>,
    pub(crate) tenant: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) step: Option<u64>,
    pub(crate) idem: Option<String>,
    pub(crate) stage: Option<String>,
    pub(crate) streaming: bool,
    /// Whether it makes enough sense to be carried out.
    pub(crate) is_valid: bool,
    /// Header `x-tool-idempotent`.
    pub(crate) is_idempotent: bool,
}

impl Arrival {
    fn fact(self, req: u64, project: Option<String>, key_id: Option<String>) -> Event {
        Event::RequestStarted {
            req,
            path: self.path,
            project,
            key_id,
            tenant: self.tenant,
            task: self.task,
            step: self.step,
            idem: self.idem,
            streaming: self.streaming,
            stage: self.stage,
        }
    }
}

/// The key died while the request was open; its end is in the ledger already.
#[derive(Debug)]
pub(crate) struct Cut;

/// A request whose key was live when it arrived. Dropping it unfinished means that its caller
/// is gone.
pub(crate) struct OpenRequest {
    site: Arc<Site>,
    req: u64,
    key: KeyNo,
    death: watch::Receiver<bool>,
    is_ended: bool,
    /// What strikes it.
    pub(crate) fault: Option<Fault>,
    /// Whether the work was done on arrival.
    pub(crate) executed: bool,
    /// How often this tool call was executed, with this time.
    pub(crate) executions: u64,
}

impl OpenRequest {
    /// Checks the key and records the arrival. Work is done at once, before any latency: the
    /// worst case for a caller, whose lost answer then always stands for a real effect.
    pub(crate) fn begin(site: &Arc<Site>, arrival: Arrival) -> Result<Self, Refusal> {
        let begun = site.lock().begin(arrival)?;
        let Begun { req, key, death, fault, executed, executions } = begun;
        let site = Arc::clone(site);
        Ok(Self { site, req, key, death, is_ended: false, fault, executed, executions })
    }

    /// Waits until `moment`, or less when the key dies.
    pub(crate) async fn wait_until(&mut self, moment: Instant) -> Result<(), Cut> {
        if *self.death.borrow() {
            return Err(Cut);
        }
        if moment <= Instant::now() {
            return Ok(());
        }
        tokio::select! {
            biased;
            _ = self.death.wait_for(|is_dead| *is_dead) => Err(Cut),
            () = tokio::time::sleep_until(moment) => Ok(()),
        }
    }

    /// Records the end, unless the key died before.
    pub(crate) fn end(mut self, outcome: Outcome, status: u16) -> Result<(), Cut> {
        self.is_ended = true;
        if self.site.lock().end(self.key, self.req, outcome, status) { Ok(()) } else { Err(Cut) }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if !self.is_ended {
            let mut state = self.site.lock();
            let outcome = state.loose_end;
            state.end(self.key, self.req, outcome, 0);
        }
    }
}

struct Begun {
    req: u64,
    key: KeyNo,
    death: watch::Receiver<bool>,
    fault: Option<Fault>,
    executed: bool,
    executions: u64,
}

impl State {
    fn begin(&mut self, arrival: Arrival) -> Result<Begun, Refusal> {
        if self.ledger.is_broken() {
            return Err(Refusal::ledger());
        }
        self.requests += 1;
        let req = self.requests;
        let key = arrival.digest.as_ref().and_then(|digest| self.keys.by_digest(digest));
        let owner = key.map(|no| self.keys.get(no));
        let run = ToolRuns::name_of(
            owner.map(|key| key.project.as_str()),
            &arrival.path,
            arrival.idem.as_deref(),
        );
        let project = owner.map(|key| key.project.clone());
        let key_id = owner.map(|key| key.id.clone());
        let Arrival { op, is_valid, is_idempotent, .. } = arrival;
        self.ledger.append(arrival.fact(req, project.clone(), key_id));
        let Some(no) = key.filter(|&no| self.keys.get(no).life != Life::Dead) else {
            let (outcome, status, executed) = (Outcome::Refused, 401, false);
            self.ledger.append(Event::RequestEnded { req, outcome, status, executed });
            return Err(Refusal::new(401, "invalid_api_key", "Incorrect API key provided."));
        };
        let fault = self.armed.strike(op, project.as_deref());
        let is_repeat =
            is_idempotent && run.as_ref().is_some_and(|run| self.tools.executions(run) > 0);
        let executed = is_valid && !is_repeat && !fault.is_some_and(Fault::is_before_execution);
        let executions = match run {
            Some(run) if executed => self.tools.count(run),
            Some(run) => self.tools.executions(&run),
            None => u64::from(executed),
        };
        let now_us = self.ledger.now_us();
        let key = self.keys.get_mut(no);
        key.last_used_us = Some(now_us);
        key.open.insert(req, executed);
        let death = key.death.subscribe();
        self.requests_open += 1;
        if op == Op::Tool {
            // A side effect must not be in the world and missing from the ledger.
            self.ledger.flush();
        }
        Ok(Begun { req, key: no, death, fault, executed, executions })
    }

    /// Returns whether the request was still open.
    fn end(&mut self, no: KeyNo, req: u64, outcome: Outcome, status: u16) -> bool {
        let Some(executed) = self.keys.get_mut(no).open.remove(&req) else {
            return false;
        };
        self.requests_open = self.requests_open.saturating_sub(1);
        self.ledger.append(Event::RequestEnded { req, outcome, status, executed });
        true
    }
}
