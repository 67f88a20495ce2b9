//! What a timer that rings means, and which timers stand in the record.
//!
//! **Invariant:** a ring is believed without looking at the clock, which may have been set back;
//! whoever carries timers out drops the rings of replaced ones.

use keybaton_messages::{EventKind, Version};

use crate::decision::{AuditKind, Effect, Guard};
use crate::draft::Draft;
use crate::handover::Start;
use crate::input::Timer;
use crate::limits::CUT_EVERY;
use crate::obligations;
use crate::phase::Phase;
use crate::policy::OnStuck;
use crate::record::{Class, Due, PairRecord, Reason, Reclaim, Severity};

/// The timers that stand in a record.
pub(crate) fn durable(record: &PairRecord) -> Vec<(Timer, Due)> {
    let mut timers = Vec::new();
    let owed = record.obligations.iter().map(|o| o.due).min_by_key(|due| due.at);
    timers.extend(owed.map(|due| (Timer::Owed, due)));
    let running = record.rotation.as_ref().filter(|r| !r.phase.is_final());
    let Some(rotation) = running else {
        timers.extend(record.next_rotate_at.map(|due| (Timer::Rotate, due)));
        return timers;
    };
    timers.extend(rotation.revoke_by.map(|due| (Timer::RevokeBy, due)));
    if rotation.phase.awaits_grants() {
        timers.extend(rotation.drain_max.map(|due| (Timer::DrainMax, due)));
    }
    match &rotation.phase {
        Phase::Queued { retry } => timers.push((Timer::Retry, *retry)),
        Phase::AwaitingPerson { until, .. } => timers.push((Timer::Person, *until)),
        Phase::Overlap { until, .. } => timers.push((Timer::Overlap, *until)),
        Phase::Emptying { hard, .. } | Phase::Checkpointing { hard, .. } => {
            timers.push((Timer::Hard, *hard));
        }
        Phase::Draining { soft, hard, .. } => {
            timers.push((Timer::Soft, *soft));
            timers.push((Timer::Hard, *hard));
        }
        _ => {}
    }
    timers
}

impl Draft<'_> {
    pub(crate) fn elapsed(&mut self, timer: Timer) {
        match (timer, self.phase()) {
            (Timer::Owed, _) => obligations::due(self),
            (Timer::Count, _) => self.count(),
            (Timer::Rotate, None) => self.rotate_by_time(),
            (_, None) => {}
            (Timer::RevokeBy, Some(phase)) => self.deadline(&phase),
            (Timer::Retry, Some(Phase::Queued { .. })) => self.go(Phase::Preflight),
            (Timer::Settle, Some(Phase::Settling { new, .. })) => self.settled(new),
            (Timer::Probe, Some(phase)) => self.probe_again(&phase),
            (Timer::Person, Some(Phase::AwaitingPerson { new, .. })) => self.give_up_person(new),
            (Timer::Soft, Some(Phase::Draining { old, hard, .. })) => {
                self.event(EventKind::CheckpointRequested, Some(old), self.record.active);
                self.go(Phase::Checkpointing { old, hard });
            }
            (Timer::Hard, Some(phase)) if phase.awaits_grants() => self.stuck(&phase),
            (Timer::DrainMax, Some(phase)) if phase.awaits_grants() => self.too_long(&phase),
            (Timer::Overlap, Some(Phase::Overlap { old, .. })) => self.overlap_ended(old),
            _ => {}
        }
    }

    fn rotate_by_time(&mut self) {
        if self.record.next_rotate_at.is_none() || self.record.active.is_none() {
            return;
        }
        let id = self.begin(Start {
            reason: Reason::Scheduled,
            severity: Severity::Normal,
            compromised: None,
            revoke_by: None,
            policy: self.policy_in_force().clone(),
        });
        self.audit(AuditKind::Triggered, format!("#{}", id.n), "scheduled");
    }

    fn probe_again(&mut self, phase: &Phase) {
        match phase {
            Phase::Verifying { new, .. } => self.probe(*new),
            Phase::ProbingOld { .. } => self.resume(),
            _ => {
                if let Some(old) = self.wanted_back() {
                    self.probe(old);
                }
            }
        }
    }

    /// The hard deadline: policy decides about the holders that stay.
    fn stuck(&mut self, phase: &Phase) {
        let Some(old) = phase.leaving() else { return };
        let policy = self.policy();
        let on_stuck = match self.record.class {
            Class::A => policy.on_stuck,
            Class::B => policy.on_stuck_b,
        };
        match on_stuck {
            _ if self.is_emergency() => self.cut(old, Timer::Hard),
            OnStuck::Wait => self.page("holders of the old key stay past the hard deadline"),
            OnStuck::CutCalls => {
                self.page("holders stay past the hard deadline; cutting their calls");
                self.cut(old, Timer::Hard);
            }
            OnStuck::RollBack | OnStuck::Reopen => {
                self.page("holders stay past the hard deadline; asking for the old key again");
                self.give_back(old, Timer::Hard);
            }
        }
    }

    /// The drain has lasted as long as a drain may.
    fn too_long(&mut self, phase: &Phase) {
        let Some(old) = phase.leaving() else { return };
        if self.is_emergency() {
            self.cut(old, Timer::DrainMax);
        } else {
            self.give_back(old, Timer::DrainMax);
        }
    }

    /// Wants the old key back where that is possible, and else cuts the calls on it.
    fn give_back(&mut self, old: Version, timer: Timer) {
        if !self.may_want_back(old) {
            self.cut(old, timer);
            return;
        }
        if self.running().is_some_and(|r| r.reclaim.is_none()) {
            self.want_back(old, Reclaim::Stuck);
        }
        self.ring_after(timer, CUT_EVERY);
    }

    /// Cuts the calls on a closed version, and comes back: a cut can be lost.
    fn cut(&mut self, old: Version, timer: Timer) {
        self.effect(Effect::Cut { version: old });
        let again = if self.is_emergency() {
            self.policy().emergency_grace.max(self.policy().count_every)
        } else {
            CUT_EVERY
        };
        self.ring_after(timer, again);
    }

    fn overlap_ended(&mut self, old: Version) {
        if self.wanted_back().is_some() {
            // The old key is the way back until its probe has answered.
            let wait = self.policy().count_every;
            self.ring_after(Timer::Overlap, wait);
        } else {
            self.guard(Guard::NoGrants(old));
            self.revoke(old, false);
        }
    }

    /// The compromised key must die now.
    fn deadline(&mut self, phase: &Phase) {
        let Some(rotation) = self.running() else {
            return;
        };
        let without_replacement = rotation.policy.revoke_without_replacement;
        let Some(compromised) = rotation.compromised else {
            return;
        };
        let is_live = self.record.active == Some(compromised)
            || self.closed() == Some(compromised)
            || phase.leaving() == Some(compromised);
        if !is_live || matches!(phase, Phase::Revoking { .. }) {
            self.edit(|r| r.revoke_by = None);
            return;
        }
        match phase {
            Phase::Draining { .. } | Phase::Checkpointing { .. } | Phase::Overlap { .. } => {
                self.edit(|r| r.revoke_by = None);
                self.revoke(compromised, true);
            }
            Phase::Emptying { .. } => {
                self.edit(|r| r.revoke_by = None);
                self.empty_by_force(compromised, without_replacement);
            }
            _ if !without_replacement => {
                self.page("the deadline has passed and there is no replacement; revoke by hand");
            }
            Phase::ProbingOld { .. } => {
                self.edit(|r| r.revoke_by = None);
                self.revoke_without_replacement(compromised);
                let wait = self.policy().attempt_every;
                self.queue(wait);
            }
            _ => {
                self.edit(|r| r.revoke_by = None);
                self.revoke_without_replacement(compromised);
            }
        }
    }

    /// Class B: issues although holders are left; the issue takes the key from them.
    fn empty_by_force(&mut self, old: Version, without_replacement: bool) {
        if without_replacement {
            self.revoke_without_replacement(old);
        } else {
            if let Some(key_id) = self.key_id(old) {
                self.audit_key(AuditKind::ForcedRevoke, old, &key_id, "by issuing");
            }
            self.effect(Effect::Cut { version: old });
        }
        self.issue_after_emptying();
    }

    /// Whether the version that is being left may be handed out again.
    pub(crate) fn may_want_back(&self, old: Version) -> bool {
        let Some(rotation) = self.running() else {
            return false;
        };
        rotation.compromised != Some(old) && !rotation.rolled_back
    }
}
