//! What an operator may order, phase by phase.
//!
//! **Invariant:** every order is answered with exactly one reply, and a refusal says what to do.

use std::time::Duration;

use keybaton_messages::{RotationId, Version, VersionStatus};

use crate::decision::{AuditKind, Effect, Reply};
use crate::draft::Draft;
use crate::handover::Start;
use crate::input::Order;
use crate::limits::EXTEND_MAX;
use crate::obligations;
use crate::phase::{Cause, Phase};
use crate::record::{Class, Due, Gate, Pause, Reason, Reclaim, Severity};

impl Draft<'_> {
    pub(crate) fn ordered(&mut self, order: Order) {
        let reply = match (order, self.phase()) {
            (Order::RetryNow, phase) => self.retry_now(phase),
            (_, None) => refuse("no rotation is running"),
            (Order::Abort, Some(phase)) => self.abort(&phase),
            (Order::RollBack, Some(phase)) => self.order_roll_back(&phase),
            (Order::Cut, Some(phase)) => self.order_cut(&phase),
            (Order::Extend(by), Some(phase)) => self.extend(&phase, by),
        };
        self.reply(reply);
    }

    fn note_order(&mut self, what: &str) {
        let dedupe = self.record.rev.next().to_string();
        self.audit(AuditKind::Ordered, dedupe, what);
    }

    fn abort(&mut self, phase: &Phase) -> Reply {
        let has_active = self.record.active.is_some();
        match (phase, self.record.class) {
            (Phase::AwaitingPerson { new, .. }, _) => {
                self.note_order("abort");
                self.burn(*new, "an operator ended the request");
            }
            (Phase::Queued { .. } | Phase::Preflight, _) if has_active => self.note_order("abort"),
            (Phase::Issuing { new } | Phase::Locating { new }, Class::A) if has_active => {
                self.note_order("abort");
                self.burn(*new, "an operator ended the rotation");
            }
            (Phase::Verifying { new, .. }, Class::A) if has_active => {
                self.note_order("abort");
                self.drop_staged(*new);
            }
            (Phase::Emptying { old, .. }, _) if self.is_emptying_an_alive_key() => {
                self.note_order("abort");
                self.reopen(*old, "an operator ended the rotation");
            }
            (phase, _) if phase.is_promoted() => {
                return refuse("the new key is handed out already; roll back instead");
            }
            _ if !has_active => {
                return refuse("no key is active; a rotation must go on until one is");
            }
            _ => return refuse("the provider was asked already; wait for its answer"),
        }
        self.fail(Cause::Aborted);
        Reply::Done
    }

    fn is_emptying_an_alive_key(&self) -> bool {
        self.record.gate == Gate::Paused(Pause::Emptying)
    }

    fn order_roll_back(&mut self, phase: &Phase) -> Reply {
        let old = match phase {
            Phase::Draining { old, .. }
            | Phase::Checkpointing { old, .. }
            | Phase::Overlap { old, .. } => *old,
            Phase::Revoking { .. } => {
                return refuse("the old key is being revoked; start another rotation");
            }
            _ => return refuse("the new key is not handed out yet; abort instead"),
        };
        if self.is_compromised(old) {
            return refuse("the old key is compromised; start another rotation");
        }
        if !self.may_want_back(old) {
            return refuse("this rotation was rolled back already; start another one");
        }
        self.note_order("roll back");
        self.want_back(old, Reclaim::Ordered);
        Reply::Done
    }

    fn order_cut(&mut self, phase: &Phase) -> Reply {
        let mut closed: Vec<Version> = obligations::retiring(&self.record).collect();
        if phase.awaits_grants() {
            closed.extend(phase.leaving());
        }
        if closed.is_empty() {
            return refuse("nobody is being waited for; there is nothing to cut");
        }
        self.note_order("cut");
        for version in closed {
            self.effect(Effect::Cut { version });
        }
        Reply::Done
    }

    fn extend(&mut self, phase: &Phase, by: Duration) -> Reply {
        if by > EXTEND_MAX {
            return refuse("a hard deadline is extended by a day at most");
        }
        let mut longer = phase.clone();
        match &mut longer {
            Phase::Emptying { hard, .. }
            | Phase::Draining { hard, .. }
            | Phase::Checkpointing { hard, .. } => {
                *hard = self.after(hard.left(self.now()).saturating_add(by));
                let hard = *hard;
                self.note_order("extend");
                self.edit(|r| {
                    r.drain_max = r.drain_max.map(|max| later(max, hard));
                    r.phase = longer;
                });
                Reply::Done
            }
            _ => refuse("nobody is being waited for; there is no deadline to extend"),
        }
    }

    fn retry_now(&mut self, phase: Option<Phase>) -> Reply {
        if let Some(Phase::Queued { .. }) = phase {
            self.note_order("retry now");
            self.go(Phase::Preflight);
            return Reply::Done;
        }
        let has_failed =
            matches!(self.record.rotation.as_ref().map(|r| &r.phase), Some(Phase::Failed { .. }));
        if has_failed {
            return Reply::Rotation(self.begin_by_order());
        }
        if self.record.obligations.is_empty() {
            return refuse("nothing waits for a retry");
        }
        self.note_order("retry now");
        obligations::hurry(self);
        Reply::Done
    }

    fn begin_by_order(&mut self) -> RotationId {
        let id = self.begin(Start {
            reason: Reason::Requested("retry now".to_owned()),
            severity: Severity::Normal,
            compromised: None,
            revoke_by: None,
            policy: self.policy_in_force().clone(),
        });
        self.note_order("retry now");
        self.audit(AuditKind::Triggered, format!("#{}", id.n), "retry now");
        id
    }

    /// Makes a version that is being retired dead at once.
    pub(crate) fn force_retired(&mut self, version: Version) {
        if self.record.status(version) == Some(VersionStatus::Draining) {
            obligations::forget_retired(self, version);
            self.doom(version, true);
        }
    }
}

fn refuse(why: &str) -> Reply {
    Reply::Refused(why.to_owned())
}

fn later(a: Due, b: Due) -> Due {
    if b.at > a.at { b } else { a }
}
