//! A step in the making: a copy of the record, and what is written and done with it.
//!
//! **Invariant:** a version's status changes only through [`Draft::set`], which knows the legal
//! moves; an illegal one spoils the whole step, so nothing of it is ever written.
//! **Invariant:** the timers that stand in the record are armed by comparing the record before and
//! after, so no rule has to think of them, and a start arms them all.

use std::time::Duration;

use keybaton_messages::{
    EventKind, ProviderKeyId, RotationId, SecretVersion, Timestamp, Version, VersionStatus,
};

use crate::decision::{
    AuditEntry, AuditKind, Context, CopyGrants, Decision, Effect, Guard, Impossible, Page, Reply,
};
use crate::input::Timer;
use crate::limits::{ENDED_VERSIONS_KEPT, ERROR_BYTES_MAX};
use crate::phase::Phase;
use crate::policy::Policy;
use crate::record::{Class, Debt, Due, PairRecord, Rotation, Severity, VersionEntry};
use crate::timers;

/// The copy of the record that one step works on.
pub(crate) struct Draft<'a> {
    before: &'a PairRecord,
    context: &'a Context<'a>,
    pub(crate) record: PairRecord,
    pub(crate) grants: Option<CopyGrants>,
    guards: Vec<Guard>,
    audit: Vec<AuditEntry>,
    outbox: Vec<(EventKind, Option<Version>, Option<Version>)>,
    effects: Vec<Effect>,
    arm_all: bool,
    fault: Option<String>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(before: &'a PairRecord, context: &'a Context<'a>) -> Self {
        Self {
            before,
            context,
            record: before.clone(),
            grants: None,
            guards: Vec::new(),
            audit: Vec::new(),
            outbox: Vec::new(),
            effects: Vec::new(),
            arm_all: false,
            fault: None,
        }
    }

    /// Turns the draft into what is committed and done.
    pub(crate) fn decide(mut self) -> Result<Decision, Impossible> {
        self.prune();
        if let Some(why) = self.fault {
            let pair = self.record.pair;
            return Err(Impossible { pair, why });
        }
        let mut known = if self.arm_all { Vec::new() } else { timers::durable(self.before) };
        if self.record.obligations != self.before.obligations {
            // One timer serves all debts: its present wait may have been measured before the
            // clock was set forward, and would then hold up the newest one.
            known.retain(|(timer, _)| *timer != Timer::Owed);
        }
        for (timer, due) in timers::durable(&self.record) {
            if !known.contains(&(timer, due)) {
                self.effects.push(Effect::Arm(timer, due));
            }
        }
        if !self.outbox.is_empty() {
            self.effects.push(Effect::Publish);
        }
        let writes = self.record != *self.before || !self.audit.is_empty();
        if writes {
            self.record.rev = self.before.rev.next();
        }
        Ok(Decision {
            record: writes.then_some(self.record),
            guards: self.guards,
            grants: self.grants,
            audit: self.audit,
            outbox: self.outbox,
            effects: self.effects,
        })
    }

    /// Forgets the oldest ended versions, except those that still owe something.
    fn prune(&mut self) {
        let ended: Vec<Version> = self
            .record
            .versions
            .iter()
            .filter(|(version, entry)| {
                matches!(entry.status, VersionStatus::Revoked | VersionStatus::Gone)
                    && !self.record.obligations.iter().any(|o| o.debt.version() == **version)
            })
            .map(|(version, _)| *version)
            .collect();
        let surplus = ended.len().saturating_sub(ENDED_VERSIONS_KEPT);
        for version in &ended[..surplus] {
            self.record.versions.remove(version);
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.context.now
    }

    pub(crate) fn after(&self, wait: Duration) -> Due {
        Due::after(self.now(), wait)
    }

    /// The policy of the running rotation, or else the one in force.
    pub(crate) fn policy(&self) -> &Policy {
        self.running().map_or(self.context.policy, |r| &r.policy)
    }

    /// The policy in force, whatever runs.
    pub(crate) fn policy_in_force(&self) -> &'a Policy {
        self.context.policy
    }

    /// The rotation, unless it has ended.
    pub(crate) fn running(&self) -> Option<&Rotation> {
        self.record.rotation.as_ref().filter(|r| !r.phase.is_final())
    }

    /// The phase of the rotation, unless it has ended.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.running().map(|r| r.phase.clone())
    }

    pub(crate) fn is_emergency(&self) -> bool {
        self.running().is_some_and(|r| r.severity == Severity::Emergency)
    }

    /// Whether `version` is the one that the running rotation must kill.
    pub(crate) fn is_compromised(&self, version: Version) -> bool {
        self.record.rotation.as_ref().is_some_and(|r| r.compromised == Some(version))
    }

    /// Changes the present or last rotation, if there is one.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Rotation)) {
        if let Some(rotation) = &mut self.record.rotation {
            change(rotation);
        }
    }

    /// Remembers the last refusal, for people.
    pub(crate) fn note_error(&mut self, why: &str) {
        let line = bounded(why, ERROR_BYTES_MAX);
        self.edit(|r| r.error = Some(line));
    }

    /// `wait` with ±10 % of the context's jitter.
    pub(crate) fn jittered(&self, wait: Duration) -> Duration {
        let permille = 900 + u32::try_from(self.context.jitter % 201).unwrap_or(0);
        wait / 1000 * permille
    }

    pub(crate) fn entry(&self, version: Version) -> Option<&VersionEntry> {
        self.record.versions.get(&version)
    }

    pub(crate) fn edit_entry(&mut self, version: Version, change: impl FnOnce(&mut VersionEntry)) {
        match self.record.versions.get_mut(&version) {
            Some(entry) => change(entry),
            None => self.spoil(format!("{version} is not in the record")),
        }
    }

    pub(crate) fn key_id(&self, version: Version) -> Option<ProviderKeyId> {
        self.entry(version)?.key_id.clone()
    }

    pub(crate) fn secret(&self, version: Version) -> Option<SecretVersion> {
        self.entry(version)?.secret
    }

    /// Class B: the version that was closed for this rotation and may still be alive.
    pub(crate) fn closed(&self) -> Option<Version> {
        self.record
            .versions
            .iter()
            .find(|(_, entry)| entry.status == VersionStatus::Draining)
            .map(|(version, _)| *version)
            .filter(|_| self.record.class == Class::B)
    }

    /// The highest version that was ever ACTIVE.
    pub(crate) fn last_active(&self) -> Option<Version> {
        self.record
            .versions
            .iter()
            .rev()
            .find(|(_, entry)| entry.promoted_at.is_some())
            .map(|(version, _)| *version)
    }

    /// Moves a version to `status`; a move that is not in the table spoils the step.
    pub(crate) fn set(&mut self, version: Version, status: VersionStatus) {
        let from = self.entry(version).map(|entry| entry.status);
        if from.is_some_and(|from| is_legal(from, status)) {
            self.edit_entry(version, |entry| entry.status = status);
        } else {
            let from = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
            self.spoil(format!("{version} cannot go from {from} to {status}"));
        }
    }

    /// Makes the whole step an impossibility.
    pub(crate) fn spoil(&mut self, why: String) {
        self.fault.get_or_insert(why);
    }

    pub(crate) fn guard(&mut self, guard: Guard) {
        self.guards.push(guard);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
    }

    pub(crate) fn page(&mut self, why: impl Into<String>) {
        self.effect(Effect::Page(Page { why: why.into() }));
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        self.effects.push(Effect::Reply(reply));
    }

    /// Arms a timer that does not stand in the record.
    pub(crate) fn ring_after(&mut self, timer: Timer, wait: Duration) {
        let due = self.after(wait);
        self.effect(Effect::Arm(timer, due));
    }

    /// Arms every timer of the record, not only those that changed.
    pub(crate) fn arm_all(&mut self) {
        self.arm_all = true;
    }

    pub(crate) fn event(&mut self, kind: EventKind, old: Option<Version>, new: Option<Version>) {
        self.outbox.push((kind, old, new));
    }

    pub(crate) fn rotation_id(&self) -> Option<RotationId> {
        self.record.rotation.as_ref().map(|r| r.id.clone())
    }

    /// An audit record about the rotation as a whole, or about what happened to it.
    pub(crate) fn audit(&mut self, kind: AuditKind, dedupe: String, note: impl Into<String>) {
        let entry = AuditEntry {
            kind,
            dedupe,
            rotation: self.rotation_id(),
            version: None,
            key_id: None,
            note: note.into(),
        };
        self.audit.push(entry);
    }

    /// An audit record about one version, once per version and kind.
    pub(crate) fn audit_version(&mut self, kind: AuditKind, version: Version, note: &str) {
        self.audit(kind, version.to_string(), note);
        self.about(version, None);
    }

    /// An audit record about one key, once per key and kind.
    pub(crate) fn audit_key(
        &mut self,
        kind: AuditKind,
        version: Version,
        key_id: &ProviderKeyId,
        note: &str,
    ) {
        self.audit(kind, key_id.to_string(), note);
        self.about(version, Some(key_id.clone()));
    }

    /// An audit record about something that may happen to one version again and again.
    pub(crate) fn audit_again(&mut self, kind: AuditKind, version: Version, note: &str) {
        let dedupe = format!("{version}@{}", self.before.rev.next());
        self.audit(kind, dedupe, note);
        let key_id = self.key_id(version);
        self.about(version, key_id);
    }

    fn about(&mut self, version: Version, key_id: Option<ProviderKeyId>) {
        if let Some(entry) = self.audit.last_mut() {
            entry.version = Some(version);
            entry.key_id = key_id;
        }
    }
}

impl Debt {
    /// The version that it is about.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Revoke { version, .. }
            | Self::Sweep { version, .. }
            | Self::Destroy { version }
            | Self::Retire { version } => *version,
        }
    }
}

/// The life of a version, move by move.
fn is_legal(from: VersionStatus, to: VersionStatus) -> bool {
    use VersionStatus::{
        Active, Draining, Gone, Intent, RevokePending, Revoked, Staged, Unresolved,
    };
    matches!(
        (from, to),
        (Intent, Staged | Unresolved | Gone)
            | (Staged, Active | Unresolved | Gone)
            | (Active, Draining)
            | (Draining, RevokePending | Active | Revoked)
            | (RevokePending, Revoked)
            | (Unresolved, Gone)
    )
}

/// `text` cut to `bytes_max` at a character's end, on one line.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > bytes_max {
            break;
        }
        line.push(c);
    }
    line
}
