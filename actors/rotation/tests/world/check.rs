//! What we promise, checked after every event (numbers S1..S9), and what must be true at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use keybaton_messages::{ProviderKeyId, Version, VersionStatus};
use keybaton_rotation::{AuditKind, Class, Decision, Gate, Input, PairRecord, Phase, Reason};

use crate::actor::replies;
use crate::diagram;
use crate::provider::Kill;
use crate::world::World;

/// What has been seen so far.
#[derive(Default)]
pub struct Seen {
    pub is_verbose: bool,
    pub last: Option<PairRecord>,
    /// Versions whose key an honest probe accepted.
    pub proven: BTreeSet<Version>,
    pub imported: BTreeSet<ProviderKeyId>,
    /// Phase names that followed one another.
    pub moves: BTreeSet<(String, String)>,
    /// Since when this rotation runs in peace.
    pub peaceful: Option<(u64, u64)>,
}

impl World {
    fn violate(&mut self, promise: &str, what: impl Into<String>) {
        if self.violation.is_none() {
            let what = what.into();
            self.violation = Some(format!("{promise}: {what}"));
        }
    }

    pub fn check(&mut self) {
        let Some(record) = self.journal.record.clone() else {
            return;
        };
        if self.seen.last.as_ref().is_some_and(|last| last.rev == record.rev) {
            self.check_holders(&record);
            return;
        }
        if let Some(last) = self.seen.last.take() {
            self.check_monotone(&last, &record);
            self.check_phase(&last, &record);
        }
        self.check_record(&record);
        self.check_holders(&record);
        self.check_keys(&record);
        self.seen.last = Some(record);
    }

    /// S2, and the gate.
    fn check_record(&mut self, record: &PairRecord) {
        let active: Vec<_> = record
            .versions
            .iter()
            .filter(|(_, entry)| entry.status == VersionStatus::Active)
            .map(|(version, _)| *version)
            .collect();
        if active.len() > 1 || active.first().copied() != record.active {
            self.violate("S2", format!("ACTIVE are {active:?}, active is {:?}", record.active));
        }
        if record.active.is_some() != (record.gate == Gate::Open) {
            self.violate("S2", format!("{:?} while active is {:?}", record.gate, record.active));
        }
        let phase = record.rotation.as_ref().map(|r| &r.phase);
        if matches!(phase, Some(Phase::Failed { .. })) && record.active.is_none() {
            self.violate("FAILED", "no version is active");
        }
    }

    /// S8.
    fn check_monotone(&mut self, last: &PairRecord, record: &PairRecord) {
        if record.rev <= last.rev || record.epoch < last.epoch {
            self.violate("S8", format!("{} after {}", record.rev, last.rev));
        }
        if record.next_version < last.next_version || record.next_rotation < last.next_rotation {
            self.violate("S8", "a counter went back");
        }
        for (version, entry) in &record.versions {
            let Some(before) = last.status(*version) else {
                continue;
            };
            let is_back = entry.status < before;
            let is_reopened =
                before == VersionStatus::Draining && entry.status == VersionStatus::Active;
            if is_back && !is_reopened {
                self.violate("S8", format!("{version} went from {before} to {}", entry.status));
            }
            let is_promoted = entry.status == VersionStatus::Active && before != entry.status;
            if is_promoted && !self.seen.proven.contains(version) && !is_reopened {
                self.violate("R8", format!("{version} was promoted without a good probe"));
            }
        }
    }

    /// Only moves of the diagram happen.
    fn check_phase(&mut self, last: &PairRecord, record: &PairRecord) {
        let (Some(from), Some(to)) = (&last.rotation, &record.rotation) else {
            return;
        };
        if from.id != to.id {
            let is_first = matches!(to.phase, Phase::Queued { .. } | Phase::Verifying { .. });
            if !is_first {
                self.violate("diagram", format!("a rotation began in {:?}", to.phase));
            }
            return;
        }
        let (from, to) = (diagram::name(&from.phase), diagram::name(&to.phase));
        if from != to {
            self.seen.moves.insert((from, to));
        }
    }

    /// S3: who holds what.
    fn check_holders(&mut self, record: &PairRecord) {
        let mut found = None;
        let forced = self.journal.forced();
        for (node, broker) in self.brokers.iter().enumerate() {
            for (version, slot) in &broker.slots {
                if slot.holders.is_empty() && !slot.open {
                    continue;
                }
                let entry = record.versions.get(version);
                let status = entry.map(|entry| entry.status);
                let is_forced = entry
                    .and_then(|entry| entry.key_id.as_ref())
                    .is_some_and(|key_id| forced.contains(key_id));
                let may_hold =
                    matches!(status, Some(VersionStatus::Active | VersionStatus::Draining));
                let has_grant = self
                    .journal
                    .grants
                    .get(&(*version, node))
                    .is_some_and(|g| g.incarnation == broker.incarnation);
                if !is_forced && (!may_hold || !has_grant) {
                    found = Some(format!(
                        "node {node} holds {version} ({status:?}), grant: {has_grant}"
                    ));
                }
            }
        }
        if let Some(found) = found {
            self.violate("S3", found);
        }
    }

    /// S4: every live key of ours is named by a version that still has a fate.
    fn check_keys(&mut self, record: &PairRecord) {
        let mut found = None;
        for (key_id, key) in self.provider.keys.iter().filter(|(_, key)| key.alive) {
            let Some(label) = &key.label else { continue };
            let named = record.versions.values().find(|entry| entry.label.as_ref() == Some(label));
            let has_fate = named.is_some_and(|entry| match entry.status {
                VersionStatus::Intent | VersionStatus::Unresolved => true,
                VersionStatus::Gone | VersionStatus::Revoked => false,
                _ => entry.key_id.as_ref() == Some(key_id),
            });
            if !has_fate {
                let status = named.map(|entry| entry.status);
                found = Some(format!("{key_id} is alive under {label}, which is {status:?}"));
            }
        }
        if let Some(found) = found {
            self.violate("S4", found);
        }
    }

    /// L1: in peace a rotation ends within its bound, unless a person lets it wait.
    pub fn check_progress(&mut self) {
        if self.is_chaos {
            return;
        }
        let running = self.journal.record.as_ref().and_then(|r| r.rotation.as_ref());
        let Some(rotation) = running.filter(|r| !r.phase.is_final()) else {
            self.seen.peaceful = None;
            return;
        };
        let policy = &rotation.policy;
        let settle = match self.class {
            Class::A => Duration::ZERO,
            Class::B => policy.settle,
        };
        let fixed = Duration::from_secs(60 + 10 + 300);
        let person = match self.has_person {
            true => policy.person_timeout,
            false => Duration::ZERO,
        };
        let calls = policy.drain_max + policy.overlap + policy.call_time_max;
        let bound = (policy.call_timeout + settle) * 3 + fixed + calls + person;
        let n = rotation.id.n;
        match self.seen.peaceful {
            Some((of, since)) if of == n => {
                if u128::from(self.now - since) > bound.as_millis() {
                    let phase = rotation.phase.clone();
                    self.violate("L1", format!("#{n} is still {phase:?} after {bound:?}"));
                }
            }
            _ => self.seen.peaceful = Some((n, self.now)),
        }
    }

    /// S1: a key that we killed is held by nobody, and is not the one that is handed out.
    pub fn check_kill(&mut self, kill: &Kill) {
        let Some(record) = self.journal.record.clone() else {
            return;
        };
        let is_it =
            |entry: &keybaton_rotation::VersionEntry| entry.key_id.as_ref() == Some(&kill.key_id);
        let Some((version, entry)) = record.versions.iter().find(|(_, entry)| is_it(entry)) else {
            return;
        };
        if self.journal.forced().contains(&kill.key_id) {
            return;
        }
        let is_held = self
            .brokers
            .iter()
            .any(|b| b.slots.get(version).is_some_and(|s| s.open || !s.holders.is_empty()));
        if is_held || entry.status == VersionStatus::Active {
            let by = kill.by;
            let status = entry.status;
            self.violate("S1", format!("{by} killed {version} ({status}), held: {is_held}"));
        }
    }

    /// R9: no revoke is sent for a key that somebody else claims.
    pub fn check_revoke(&mut self, version: Version, key_id: &ProviderKeyId) {
        let Some(record) = &self.journal.record else {
            return;
        };
        let is_elsewhere = self.journal.is_claimed_elsewhere(key_id)
            || record.versions.iter().any(|(other, entry)| {
                *other != version
                    && entry.key_id.as_ref() == Some(key_id)
                    && matches!(
                        entry.status,
                        VersionStatus::Staged | VersionStatus::Active | VersionStatus::Draining
                    )
            });
        if is_elsewhere {
            self.violate("R9", format!("a revoke of {key_id} was sent for {version}"));
        }
    }

    /// The secret of a version that may be used is never destroyed.
    pub fn check_destroy(&mut self, version: Version) {
        let status = self.journal.record.as_ref().and_then(|r| r.status(version));
        if matches!(
            status,
            Some(VersionStatus::Staged | VersionStatus::Active | VersionStatus::Draining)
        ) {
            self.violate("secret", format!("the secret of {version} ({status:?}) is destroyed"));
        }
    }

    /// Of one decision: replies, and a revision of exactly one more.
    pub fn check_decision(&mut self, before: &PairRecord, input: &Input, decision: &Decision) {
        let asked = usize::from(matches!(input, Input::Triggered(_) | Input::Ordered(_)));
        let replies = replies(decision).len();
        if replies != asked {
            self.violate("reply", format!("{replies} replies to {input:?}"));
        }
        if let Some(record) = &decision.record
            && record.rev != before.rev.next()
        {
            self.violate("S8", format!("{} follows {}", record.rev, before.rev));
        }
        let has_conditions = !decision.guards.is_empty() || !decision.audit.is_empty();
        if decision.record.is_none() && has_conditions {
            self.violate("decision", "guards or audit without a record");
        }
    }

    /// L1, L2, L3, S7: one live key, nothing owed, every key accounted for.
    pub fn check_end(&mut self) -> Result<(), String> {
        let record = self.journal.record.clone().expect("a record after peace");
        let active = record.active.and_then(|v| record.versions.get(&v)).expect("an active key");
        let active_key = active.key_id.clone().expect("an active key has an id");
        for (key_id, key) in &self.provider.keys {
            let is_foreign = *key_id == self.foreign.0;
            if is_foreign && !key.alive {
                return Err("R9: the key of another pair was killed".to_owned());
            }
            if key.label.is_some() && key.alive && *key_id != active_key {
                return Err(format!("L3: {key_id} is alive at the end"));
            }
            self.check_audit(key_id, *key_id == active_key)?;
        }
        for (version, entry) in &record.versions {
            let is_ended = matches!(
                entry.status,
                VersionStatus::Active | VersionStatus::Revoked | VersionStatus::Gone
            );
            if !is_ended {
                return Err(format!("L2: {version} is {} at the end", entry.status));
            }
        }
        for (secret, (label, _)) in &self.secrets.rows {
            let is_active = active.secret == Some(*secret);
            if label.is_some() && !is_active {
                return Err(format!("secret: {secret} of {label:?} is left at the end"));
            }
        }
        Ok(())
    }

    fn check_audit(&self, key_id: &ProviderKeyId, is_active: bool) -> Result<(), String> {
        use AuditKind::{Imported, Issued, Reconciled, Revoked};
        let began = self.journal.count_audit(&[Issued, Imported, Reconciled], key_id);
        let ended = self.journal.count_audit(&[Revoked], key_id);
        let fits = began <= 1 && ended <= began && (began == 0 || (ended == 1) != is_active);
        if fits {
            Ok(())
        } else {
            Err(format!("S7: {key_id} has {began} births and {ended} deaths in the audit"))
        }
    }

    /// What a reader of a failure wants to know first.
    pub fn title(&self) -> String {
        let class = match self.class {
            Class::A => "A",
            Class::B => "B",
        };
        let reason = self
            .journal
            .record
            .as_ref()
            .and_then(|r| r.rotation.as_ref())
            .map_or(Reason::Provision, |r| r.reason.clone());
        format!("class {class}, {reason:?}")
    }
}
