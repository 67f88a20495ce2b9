//! The moves from promote on: hand over, drain, revoke, roll back, end.
//!
//! **Invariant:** promote is one decision: new ACTIVE, old DRAINING, gate, grants, deadlines.
//! **Invariant:** nothing leads back from REVOKE_PENDING.
//! **Invariant:** a rotation fails only while some version is ACTIVE.

use std::time::Duration;

use keybaton_messages::{EventKind, RotationId, Timestamp, Version, VersionStatus};

use crate::decision::{AuditKind, CopyGrants, Effect, Guard};
use crate::draft::Draft;
use crate::limits::EXPIRY_WARNING;
use crate::moves::doubled;
use crate::obligations;
use crate::phase::{Cause, End, Phase};
use crate::policy::{OverlapFrom, Policy};
use crate::record::{Class, Debt, Due, Gate, Pause, Reason, Reclaim, Rotation, Severity};

/// How a rotation begins.
pub(crate) struct Start {
    pub(crate) reason: Reason,
    pub(crate) severity: Severity,
    pub(crate) compromised: Option<Version>,
    pub(crate) revoke_by: Option<Due>,
    pub(crate) policy: Policy,
}

impl Draft<'_> {
    /// Begins a rotation. A queued trigger is merged into it and gives it its number.
    pub(crate) fn begin(&mut self, start: Start) -> RotationId {
        let queued = self.record.queued.take();
        let n = queued.as_ref().map(|q| q.n).unwrap_or_else(|| self.next_number());
        let merged_by = queued.as_ref().and_then(|q| q.revoke_by);
        let id = RotationId { pair: self.record.pair.clone(), n };
        let now = self.now();
        self.record.next_rotate_at = None;
        self.record.rotation = Some(Rotation {
            id: id.clone(),
            reason: start.reason,
            severity: queued.as_ref().map_or(start.severity, |q| q.severity.max(start.severity)),
            compromised: start.compromised,
            revoke_by: earlier(start.revoke_by, merged_by),
            phase: Phase::Queued { retry: Due::after(now, Duration::ZERO) },
            burned: 0,
            rolled_back: false,
            key_dead: false,
            reclaim: None,
            refused: 0,
            started_at: now,
            drain_max: None,
            policy: start.policy,
            error: None,
        });
        self.event(EventKind::Initiated, self.record.active, None);
        id
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        let n = self.record.next_rotation;
        self.record.next_rotation += 1;
        n
    }

    /// The new key works: it is handed out from here on.
    pub(crate) fn promote(&mut self, new: Version) {
        let old = match self.record.class {
            Class::A => self.record.active,
            Class::B => self.record.active.or(self.closed()),
        };
        if let Some(old) = old.filter(|old| self.record.active == Some(*old)) {
            self.set(old, VersionStatus::Draining);
        }
        self.activate(new);
        self.record.failures = 0;
        self.record.next_rotate_at = self.next_by_time(new);
        self.edit(|r| r.error = None);
        if let Some(key_id) = self.key_id(new) {
            if self.entry(new).is_some_and(|entry| entry.imported) {
                self.audit_key(AuditKind::Imported, new, &key_id, "");
            }
            self.audit_key(AuditKind::Promoted, new, &key_id, "");
        }
        self.event(EventKind::NewKeyReady, old, Some(new));
        self.effect(Effect::Witness);
        match (self.record.class, old) {
            (Class::A, Some(old)) => self.hand_over(old, new),
            (Class::B, old) => self.void_others(old, new),
            (Class::A, None) => self.complete(),
        }
    }

    fn activate(&mut self, version: Version) {
        let now = self.now();
        self.set(version, VersionStatus::Active);
        self.edit_entry(version, |entry| entry.promoted_at = Some(now));
        self.record.active = Some(version);
        self.record.gate = Gate::Open;
    }

    /// Class A: the holders of `old` move to `new`.
    fn hand_over(&mut self, old: Version, new: Version) {
        self.grants = Some(CopyGrants { from: old, to: new });
        let policy = self.policy();
        let soft = self.after(policy.soft_deadline);
        let hard = self.after(policy.hard_deadline);
        let grace = policy.emergency_grace;
        let drain_max = self.after(policy.drain_max);
        self.edit(|r| {
            r.drain_max = Some(drain_max);
            r.reclaim = None;
        });
        self.effect(Effect::Close { version: old });
        if self.is_compromised(old) {
            let hard = self.after(grace);
            // A deadline that passed while no key could be had still leaves the grace.
            let now = self.now();
            self.edit(|r| r.revoke_by = r.revoke_by.map(|by| later_than_now(by, now, hard)));
            self.event(EventKind::CheckpointRequested, Some(old), Some(new));
            self.go(Phase::Checkpointing { old, hard });
        } else {
            self.go(Phase::Draining { old, soft, hard });
        }
    }

    /// Class B: the issue voided every older key. An imported key was not issued just now, so it
    /// says nothing about the labels that were burned.
    fn void_others(&mut self, old: Option<Version>, new: Version) {
        if let Some(old) = old {
            self.set(old, VersionStatus::Revoked);
            if let Some(key_id) = self.key_id(old) {
                self.audit_key(AuditKind::Revoked, old, &key_id, "voided by the new key");
            }
            obligations::owe(self, Debt::Destroy { version: old });
        }
        if self.entry(new).is_some_and(|entry| !entry.imported) {
            obligations::forget_voided_labels(self);
        }
        self.complete();
    }

    /// The grants of `old` are gone.
    pub(crate) fn drained(&mut self, old: Version) {
        self.guard(Guard::NoGrants(old));
        self.event(EventKind::DrainComplete, Some(old), self.record.active);
        self.edit(|r| {
            r.drain_max = None;
            r.reclaim = r.reclaim.filter(|why| *why != Reclaim::Stuck);
        });
        if self.is_compromised(old) {
            self.revoke(old, false);
            return;
        }
        let policy = self.policy();
        let promoted_at = self
            .record
            .active
            .and_then(|active| self.entry(active))
            .and_then(|entry| entry.promoted_at);
        let from = match policy.overlap_from {
            OverlapFrom::Promoted => promoted_at.unwrap_or(self.now()),
            OverlapFrom::Drained => self.now(),
        };
        let until = Due::after(from, policy.overlap);
        self.go(Phase::Overlap { old, until });
    }

    /// The point of no return for `old`.
    pub(crate) fn revoke(&mut self, old: Version, forced: bool) {
        self.edit(|r| {
            r.reclaim = None;
            r.drain_max = None;
        });
        self.doom(old, forced);
        self.go(Phase::Revoking { old, forced });
    }

    /// REVOKE_PENDING and the obligation that goes with it.
    pub(crate) fn doom(&mut self, version: Version, forced: bool) {
        let kind = if forced { AuditKind::ForcedRevoke } else { AuditKind::RevokeIntent };
        self.set(version, VersionStatus::RevokePending);
        if let Some(key_id) = self.key_id(version) {
            self.audit_key(kind, version, &key_id, "");
        }
        if forced {
            self.effect(Effect::Cut { version });
        }
        self.owe_revoke(version);
    }

    /// The compromised key must die although no other is there: everybody waits for the next one.
    pub(crate) fn revoke_without_replacement(&mut self, version: Version) {
        if self.record.active == Some(version) {
            self.set(version, VersionStatus::Draining);
            self.record.active = None;
            self.effect(Effect::Close { version });
        }
        self.record.gate = Gate::Paused(Pause::NoCredential);
        self.doom(version, true);
        self.page("the compromised key is revoked without a replacement; issuing goes on");
    }

    /// The old key is alive and the new one is given up.
    pub(crate) fn roll_back(&mut self, old: Version) {
        let Some(new) = self.record.active else {
            self.spoil(format!("a rollback to {old} without an active version"));
            return;
        };
        self.set(new, VersionStatus::Draining);
        self.activate(old);
        self.edit(|r| r.rolled_back = true);
        let note = format!("from {new}");
        self.audit_again(AuditKind::RolledBack, old, &note);
        self.event(EventKind::NewKeyReady, Some(new), Some(old));
        self.page(format!("{new} was rolled back; {old} is active again"));
        self.effect(Effect::Witness);
        self.hand_over(new, old);
    }

    /// Class B: the old key is handed out again; nothing was destroyed.
    pub(crate) fn reopen(&mut self, old: Version, why: &str) {
        self.activate(old);
        self.edit(|r| {
            r.drain_max = None;
            r.reclaim = None;
        });
        self.audit_again(AuditKind::Reopened, old, why);
        self.event(EventKind::NewKeyReady, None, Some(old));
    }

    /// Neither key works: the new one is treated as compromised.
    pub(crate) fn both_dead(&mut self) {
        self.page("both the old and the new key are dead; emergency rotation");
        self.emergency_because_dead();
    }

    /// Ends the running rotation in favour of another one; what it was leaving is retired.
    pub(crate) fn supersede(&mut self) {
        let Some(rotation) = self.running() else {
            return;
        };
        let due = rotation.drain_max;
        match rotation.phase {
            Phase::Revoking { .. } => {}
            _ => match rotation.phase.leaving() {
                Some(old) if self.is_compromised(old) => self.doom(old, true),
                Some(old) => {
                    let due = due.unwrap_or_else(|| self.after(self.policy().drain_max));
                    obligations::retire(self, old, due);
                }
                None => {}
            },
        }
        self.finish(Phase::Complete { end: End::Superseded });
    }

    /// Ends the rotation well.
    pub(crate) fn complete(&mut self) {
        self.edit(|r| r.error = None);
        self.finish(Phase::Complete { end: End::Rotated });
        self.effect(Effect::Witness);
        self.start_queued();
    }

    /// Whether the rotation may end without a new key. One that must kill the active key may not,
    /// until it has killed it.
    pub(crate) fn may_fail(&self) -> bool {
        let Some(active) = self.record.active else {
            return false;
        };
        let must_kill = self.running().is_some_and(|r| {
            r.compromised == Some(active)
                && r.revoke_by.is_some()
                && r.policy.revoke_without_replacement
        });
        !must_kill
    }

    /// Ends the rotation without handing over, or tries again where it may not end.
    pub(crate) fn fail(&mut self, cause: Cause) {
        let is_order = cause == Cause::Aborted && self.record.active.is_some();
        if self.may_fail() || is_order {
            self.end_failed(cause);
        } else {
            self.page(format!("{}; trying again", cause.in_words()));
            let wait = self.policy().attempt_every;
            self.queue(wait);
        }
    }

    fn end_failed(&mut self, cause: Cause) {
        self.record.next_rotate_at = self.next_after_failure(cause);
        self.record.failures = self.record.failures.saturating_add(1);
        self.edit(|r| {
            r.reclaim = None;
            r.drain_max = None;
            r.error.get_or_insert_with(|| cause.in_words().to_owned());
        });
        self.page(format!("the rotation failed: {}", cause.in_words()));
        let expires_at = self.record.active.and_then(|v| self.entry(v)?.expires_at);
        if expires_at.is_some_and(|at| self.now().until(at) < EXPIRY_WARNING) {
            self.page("the active key expires within a day and its rotation failed");
        }
        self.finish(Phase::Failed { cause });
        self.start_queued();
    }

    fn finish(&mut self, end: Phase) {
        let dedupe = self.rotation_id().map_or_else(String::new, |id| format!("#{}", id.n));
        let leaving = self.phase().and_then(|phase| phase.leaving());
        let (kind, event, note) = match &end {
            Phase::Failed { cause } => {
                (AuditKind::RotationFailed, EventKind::Failed, cause.in_words())
            }
            Phase::Complete { end: End::Superseded } => {
                (AuditKind::RotationComplete, EventKind::Complete, "superseded")
            }
            _ => (AuditKind::RotationComplete, EventKind::Complete, ""),
        };
        self.audit(kind, dedupe, note);
        self.event(event, leaving, self.record.active);
        self.edit(|r| r.revoke_by = None);
        self.go(end);
    }

    /// A queued trigger starts in the transaction that ends the rotation before it.
    fn start_queued(&mut self) {
        let Some(queued) = self.record.queued.clone() else {
            return;
        };
        let is_emergency = queued.severity == Severity::Emergency;
        let id = self.begin(Start {
            reason: queued.reason,
            severity: queued.severity,
            compromised: queued.target.filter(|_| is_emergency),
            revoke_by: queued.revoke_by,
            policy: queued.policy,
        });
        self.audit(AuditKind::Triggered, format!("#{}", id.n), "queued");
        self.resume();
    }

    /// When the next rotation is due by time: by interval, and well before the key expires.
    pub(crate) fn next_by_time(&self, active: Version) -> Option<Due> {
        let policy = self.policy();
        let by_interval = policy.interval.map(|interval| self.jittered(interval));
        let by_expiry = self.entry(active)?.expires_at.map(|at| {
            let left = self.now().until(at);
            // The lead takes a third of a key's life at most, or short lives had no middle.
            let wait = left - policy.expiry_lead.min(left / 3);
            self.jittered(wait).min(wait)
        });
        let wait = match (by_interval, by_expiry) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        wait.map(|wait| self.after(wait))
    }

    /// When to try again after a failure: exponential, and not soon when a person said stop.
    fn next_after_failure(&self, cause: Cause) -> Option<Due> {
        let policy = self.policy();
        let is_import = self.running().is_some_and(|r| r.reason == Reason::Import);
        let by_time = self.record.active.and_then(|active| self.next_by_time(active));
        match cause {
            Cause::Aborted => {
                let later = self.after(policy.retry_max);
                by_time.map(|due| if due.at < later.at { due } else { later })
            }
            _ if is_import => by_time,
            _ => {
                let wait = doubled(policy.retry_min, self.record.failures).min(policy.retry_max);
                Some(self.after(self.jittered(wait)))
            }
        }
    }
}

/// The earlier of two deadlines.
pub(crate) fn earlier(a: Option<Due>, b: Option<Due>) -> Option<Due> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn later_than_now(by: Due, now: Timestamp, otherwise: Due) -> Due {
    if by.left(now).is_zero() { otherwise } else { by }
}

impl Cause {
    /// The cause in plain words.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::LabelsExhausted => "too many attempts ended without a usable key",
            Self::AdminRefused => "the provider refuses the admin credential",
            Self::VerifyFailed => "the new key never worked",
            Self::Aborted => "an operator ended it",
            Self::HumanTimeout => "nobody submitted a key in time",
            Self::RolledBack => "the new key was bad and was rolled back",
            Self::DrainTimeout => "holders did not leave in time",
        }
    }
}
