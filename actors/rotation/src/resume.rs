//! What each phase asks for on entering it, and again at every start.
//!
//! **Invariant:** entering a phase and finding it after a crash are the same code, so no rule says
//! "found after a crash".
//! **Invariant:** every phase that is not final asks a question, owes something, or has a timer.

use keybaton_messages::{Timestamp, Version};

use crate::decision::Effect;
use crate::draft::Draft;
use crate::input::Timer;
use crate::obligations;
use crate::phase::Phase;
use crate::record::{Due, PairRecord};

impl Draft<'_> {
    /// Enters a phase.
    pub(crate) fn go(&mut self, phase: Phase) {
        self.edit(|r| r.phase = phase);
        self.resume();
    }

    /// Asks what the present phase asks. Timers that stand in the record arm themselves.
    pub(crate) fn resume(&mut self) {
        let Some(phase) = self.record.rotation.as_ref().map(|r| r.phase.clone()) else {
            return;
        };
        match phase {
            Phase::Queued { .. } | Phase::Overlap { .. } => {}
            Phase::Preflight => {
                let attempt = self.record.next_version;
                self.effect(Effect::Preflight { attempt });
            }
            Phase::AwaitingPerson { new, until, .. } => self.ask(new, until.at),
            Phase::Issuing { new } => self.send_issue(new),
            Phase::Locating { new } => {
                if let Some(label) = self.entry(new).and_then(|entry| entry.label.clone()) {
                    self.effect(Effect::Locate { version: new, label });
                }
            }
            Phase::Settling { .. } => {
                let settle = self.policy().settle;
                self.effect(Effect::ArmFor(Timer::Settle, settle));
            }
            Phase::ProbingOld { .. } => {
                if let Some(old) = self.closed() {
                    self.probe(old);
                }
            }
            Phase::Verifying { new, .. } => self.probe(new),
            Phase::Emptying { old, hard }
            | Phase::Draining { old, hard, .. }
            | Phase::Checkpointing { old, hard } => {
                self.effect(Effect::Signal { version: old, deadline: hard.at });
            }
            Phase::Revoking { .. } | Phase::Complete { .. } | Phase::Failed { .. } => {}
        }
        if let Some(old) = self.wanted_back() {
            self.probe(old);
        }
        self.count();
    }

    /// Counts the grants of every version that is awaited, and comes back to count again.
    pub(crate) fn count(&mut self) {
        let awaited = self.awaited();
        for version in &awaited {
            self.effect(Effect::Count { version: *version });
        }
        if !awaited.is_empty() {
            let wait = self.policy().count_every;
            self.ring_after(Timer::Count, wait);
        }
    }

    /// The old version, when it is being probed in order to hand it out again.
    pub(crate) fn wanted_back(&self) -> Option<Version> {
        let rotation = self.running().filter(|r| r.reclaim.is_some())?;
        rotation.phase.leaving()
    }

    fn awaited(&self) -> Vec<Version> {
        let leaving = self.phase().filter(Phase::awaits_grants);
        let leaving = leaving.and_then(|phase| phase.leaving());
        leaving.into_iter().chain(obligations::retiring(&self.record)).collect()
    }

    fn ask(&mut self, new: Version, until: Timestamp) {
        if let Some(label) = self.entry(new).and_then(|entry| entry.label.clone()) {
            self.effect(Effect::Ask { version: new, label, until });
        }
    }

    fn send_issue(&mut self, new: Version) {
        let policy = self.policy();
        let timeout = policy.call_timeout;
        // Half as long again as the interval: a key that everything else forgot dies by itself.
        let lifetime = policy
            .interval
            .filter(|_| policy.set_expiry)
            .map(|interval| interval.saturating_add(interval / 2));
        if let Some(label) = self.entry(new).and_then(|entry| entry.label.clone()) {
            self.effect(Effect::Issue { version: new, label, lifetime, timeout });
        }
    }

    /// No wait of the record may be longer, seen from here, than it was when it was set.
    pub(crate) fn clamp_waits(&mut self) {
        let now = self.now();
        for due in dues(&mut self.record) {
            due.at = now + due.left(now);
        }
        obligations::start(self);
        if let Some(Phase::Settling { new, .. }) = self.phase() {
            let until = self.after(self.policy().settle);
            self.edit(|r| r.phase = Phase::Settling { new, until });
        }
    }

    /// A policy that has got an interval since the last promote applies from the next start.
    pub(crate) fn schedule_if_none(&mut self) {
        if self.running().is_none() && self.record.next_rotate_at.is_none() {
            self.record.next_rotate_at = self.record.active.and_then(|v| self.next_by_time(v));
        }
    }
}

/// Every wait that stands in a record.
fn dues(record: &mut PairRecord) -> Vec<&mut Due> {
    let mut dues: Vec<&mut Due> = Vec::new();
    dues.extend(record.next_rotate_at.as_mut());
    dues.extend(record.obligations.iter_mut().map(|o| &mut o.due));
    dues.extend(record.queued.as_mut().and_then(|q| q.revoke_by.as_mut()));
    if let Some(rotation) = &mut record.rotation {
        dues.extend(rotation.revoke_by.as_mut());
        dues.extend(rotation.drain_max.as_mut());
        match &mut rotation.phase {
            Phase::Queued { retry } => dues.push(retry),
            Phase::AwaitingPerson { until, .. }
            | Phase::Settling { until, .. }
            | Phase::Overlap { until, .. } => dues.push(until),
            Phase::Emptying { hard, .. } | Phase::Checkpointing { hard, .. } => dues.push(hard),
            Phase::Draining { soft, hard, .. } => dues.extend([soft, hard]),
            _ => {}
        }
    }
    dues
}
