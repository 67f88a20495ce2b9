//! What a trigger means in each phase: begin, absorb, upgrade, queue, or replace.
//!
//! A trigger is a level: "let the active version be newer than `target`". Two of them at once, a
//! repeated delivery and a replay all name the same target and collapse.
//! **Invariant:** every trigger is answered with exactly one reply, and the same trigger id with
//! the same rotation.

use std::time::Duration;

use keybaton_messages::{RotationId, TriggerId, Version, VersionStatus};

use crate::decision::{AuditKind, Reply};
use crate::draft::{Draft, bounded};
use crate::handover::{Start, earlier};
use crate::input::{Found, Trigger, Want};
use crate::limits::{REASON_BYTES_MAX, TRIGGERS_KEPT};
use crate::obligations;
use crate::phase::Phase;
use crate::record::{Class, Due, QueuedTrigger, Reason, Reclaim, Severity};

impl Draft<'_> {
    pub(crate) fn triggered(&mut self, trigger: Trigger) {
        let known = self.record.triggers.iter().find(|(id, _)| *id == trigger.id);
        let reply = match known {
            Some((_, n)) => {
                let pair = self.record.pair.clone();
                Reply::Rotation(RotationId { pair, n: *n })
            }
            None => self.wanted(trigger),
        };
        self.reply(reply);
    }

    fn wanted(&mut self, trigger: Trigger) -> Reply {
        let (reply, note) = match trigger.want {
            Want::Provision => (self.provision(), "provision".to_owned()),
            Want::Import { key_id, secret, fp } => {
                let found = Found { key_id, secret, fp, expires_at: None };
                (self.bring_in(&found), "import".to_owned())
            }
            Want::Rotate { target, reason } => {
                let reason = bounded_reason(reason);
                let note = words(&reason);
                (self.rotate(target, reason), note)
            }
            Want::Emergency { compromised, deadline, reason } => {
                let reason = bounded_reason(reason);
                let note = format!("emergency: {}", words(&reason));
                (self.emergency(compromised, deadline, reason), note)
            }
        };
        if let Reply::Rotation(id) = &reply {
            self.remember(trigger.id, id.n, &note);
        }
        reply
    }

    fn remember(&mut self, id: TriggerId, n: u64, note: &str) {
        self.audit(AuditKind::Triggered, id.to_string(), note);
        self.record.triggers.push_back((id, n));
        while self.record.triggers.len() > TRIGGERS_KEPT {
            self.record.triggers.pop_front();
        }
    }

    fn provision(&mut self) -> Reply {
        match self.running() {
            Some(rotation) => Reply::Rotation(rotation.id.clone()),
            None if self.record.active.is_some() => Reply::AlreadyDone,
            None => self.begin_normal(Reason::Provision),
        }
    }

    fn begin_normal(&mut self, reason: Reason) -> Reply {
        let policy = self.policy_in_force().clone();
        Reply::Rotation(self.begin(Start {
            reason,
            severity: Severity::Normal,
            compromised: None,
            revoke_by: None,
            policy,
        }))
    }

    fn bring_in(&mut self, key: &Found) -> Reply {
        let has_active = self.record.active.is_some();
        let is_known = |entry: &crate::VersionEntry| {
            entry.key_id.as_ref() == Some(&key.key_id) || entry.fp == Some(key.fp)
        };
        if self.record.versions.values().any(is_known) {
            return Reply::Refused("this key is known already".to_owned());
        }
        if has_active && self.record.class == Class::B {
            return Reply::Refused(
                "issuing voids keys at this provider; rotate instead of importing".to_owned(),
            );
        }
        match self.phase() {
            // Nothing is active and the next attempt has not begun: the key is what was missing.
            Some(Phase::Queued { .. }) if !has_active => {}
            Some(_) => {
                return Reply::Refused(
                    "a rotation is running; import when it has ended".to_owned(),
                );
            }
            None => {
                self.begin_normal(Reason::Import);
            }
        }
        self.edit(|r| r.reason = Reason::Import);
        self.import(key);
        self.rotation_id().map_or(Reply::Done, Reply::Rotation)
    }

    fn rotate(&mut self, target: Option<Version>, reason: Reason) -> Reply {
        if let Some(refusal) = self.unknown_version(target) {
            return refusal;
        }
        let target = target.or(self.record.active).or(self.last_active());
        let is_newer = self.record.active > target;
        let is_promoted = self.phase().is_some_and(|phase| phase.is_promoted());
        match self.running() {
            None if is_newer => Reply::AlreadyDone,
            None => self.begin_normal(reason),
            Some(_) if is_promoted && !is_newer => self.queue_trigger(target, reason),
            Some(rotation) => Reply::Rotation(rotation.id.clone()),
        }
    }

    fn unknown_version(&self, version: Option<Version>) -> Option<Reply> {
        let next = self.record.next_version;
        let version = version.filter(|version| *version >= next)?;
        Some(Reply::Refused(format!("{version} does not exist; {next} is the next one to be made")))
    }

    fn queue_trigger(&mut self, target: Option<Version>, reason: Reason) -> Reply {
        let n = match &mut self.record.queued {
            Some(queued) => {
                queued.target = queued.target.max(target);
                queued.n
            }
            None => {
                let n = self.next_number();
                self.record.queued = Some(QueuedTrigger {
                    n,
                    reason,
                    severity: Severity::Normal,
                    target,
                    revoke_by: None,
                    policy: self.policy_in_force().clone(),
                });
                n
            }
        };
        let pair = self.record.pair.clone();
        Reply::Rotation(RotationId { pair, n })
    }

    fn emergency(
        &mut self,
        compromised: Option<Version>,
        deadline: Option<Duration>,
        reason: Reason,
    ) -> Reply {
        if let Some(refusal) = self.unknown_version(compromised) {
            return refusal;
        }
        let Some(version) = compromised.or(self.record.active).or(self.last_active()) else {
            return Reply::Refused("no key was ever active; there is nothing to revoke".to_owned());
        };
        let by = self.after(deadline.unwrap_or(self.policy_in_force().revoke_deadline));
        match self.record.status(version) {
            Some(VersionStatus::Intent | VersionStatus::Staged) => self.burn_attempt(version),
            Some(VersionStatus::Active) => self.replace_active(version, by, reason),
            Some(VersionStatus::Draining) if obligations::is_retiring(&self.record, version) => {
                self.force_retired(version);
                Reply::Done
            }
            Some(VersionStatus::Draining) => {
                self.upgrade(version, by);
                self.rotation_id().map_or(Reply::Done, Reply::Rotation)
            }
            // It is dead, dying, or looked for: what can be done is being done.
            _ => Reply::AlreadyDone,
        }
    }

    /// The key that leaked is the one being issued: this attempt must not be used.
    fn burn_attempt(&mut self, new: Version) -> Reply {
        match self.record.status(new) {
            Some(VersionStatus::Staged) => self.bad_key(new, "it leaked before it was used"),
            _ => {
                let is_persons = matches!(self.phase(), Some(Phase::AwaitingPerson { .. }));
                self.burn(new, "it leaked before it was used");
                if is_persons {
                    let wait = self.policy().attempt_every;
                    self.queue(wait);
                } else {
                    self.next_attempt(new);
                }
            }
        }
        self.rotation_id().map_or(Reply::Done, Reply::Rotation)
    }

    fn replace_active(&mut self, version: Version, by: Due, reason: Reason) -> Reply {
        let is_promoted = self.phase().is_some_and(|phase| phase.is_promoted());
        match self.running() {
            Some(rotation) if !is_promoted => {
                let id = rotation.id.clone();
                self.upgrade(version, by);
                return Reply::Rotation(id);
            }
            Some(_) => self.supersede(),
            None => {}
        }
        let policy = self.policy_in_force().clone();
        Reply::Rotation(self.begin(Start {
            reason,
            severity: Severity::Emergency,
            compromised: Some(version),
            revoke_by: Some(by),
            policy,
        }))
    }

    /// The running rotation replaces just this version: it only gets more urgent.
    fn upgrade(&mut self, version: Version, by: Due) {
        let policy = self.policy();
        let grace = self.after(policy.emergency_grace);
        let now = self.after(Duration::ZERO);
        let is_new = !self.is_emergency();
        self.edit(|r| {
            r.severity = Severity::Emergency;
            r.compromised = Some(version);
            r.revoke_by = earlier(r.revoke_by, Some(by));
            r.reclaim = None;
        });
        let sooner = |due: Due| earlier(Some(due), Some(grace)).unwrap_or(grace);
        match self.phase() {
            Some(Phase::Queued { .. }) if is_new => self.go(Phase::Queued { retry: now }),
            Some(Phase::Draining { old, hard, .. } | Phase::Checkpointing { old, hard })
                if is_new =>
            {
                let hard = sooner(hard);
                self.go(Phase::Checkpointing { old, hard });
            }
            Some(Phase::Emptying { old, hard }) if is_new => {
                let hard = sooner(hard);
                self.go(Phase::Emptying { old, hard });
            }
            Some(Phase::Overlap { old, .. }) if is_new => {
                self.go(Phase::Overlap { old, until: now })
            }
            _ => {}
        }
    }

    /// Tasks and probes say that the provider refuses `version`.
    pub(crate) fn key_dead(&mut self, version: Version, reports: u32) {
        if self.record.active != Some(version) || reports == 0 {
            return;
        }
        let old = match self.phase() {
            Some(
                Phase::Draining { old, .. }
                | Phase::Checkpointing { old, .. }
                | Phase::Overlap { old, .. },
            ) => Some(old),
            _ => None,
        };
        match old {
            Some(old) if self.may_want_back(old) => {
                let is_news = self.running().is_some_and(|r| !r.key_dead);
                self.edit(|r| r.key_dead = true);
                if is_news {
                    self.want_back(old, Reclaim::KeyDead);
                }
            }
            _ => self.emergency_because_dead(),
        }
    }

    /// The active key is dead: replace it as if it had leaked.
    pub(crate) fn emergency_because_dead(&mut self) {
        let Some(active) = self.record.active else {
            return;
        };
        let by = self.after(self.policy_in_force().revoke_deadline);
        let before = self.rotation_id();
        let is_news = !(self.is_emergency() && self.is_compromised(active));
        if !is_news {
            return;
        }
        self.replace_active(active, by, Reason::KeyDead);
        let id = self.rotation_id();
        if id != before {
            let n = id.map_or(0, |id| id.n);
            self.audit(AuditKind::Triggered, format!("#{n}"), "the active key is dead");
        }
    }
}

fn bounded_reason(reason: Reason) -> Reason {
    match reason {
        Reason::Requested(text) => Reason::Requested(bounded(&text, REASON_BYTES_MAX)),
        other => other,
    }
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::Provision => "provision".to_owned(),
        Reason::Import => "import".to_owned(),
        Reason::Scheduled => "scheduled".to_owned(),
        Reason::Requested(text) => text.clone(),
        Reason::KeyDead => "the active key is dead".to_owned(),
    }
}
