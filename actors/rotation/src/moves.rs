//! The moves up to promote: an attempt is prepared, issued, stored, verified, or burned.
//!
//! **Invariant:** a label is sent once, ever. Whatever ends an attempt unclearly burns it, and the
//! next attempt gets a new version and a new label.

use std::time::Duration;

use keybaton_messages::{EventKind, Label, ProviderKeyId, Version, VersionStatus};

use crate::decision::{AuditKind, Effect, Guard};
use crate::draft::{Draft, bounded};
use crate::input::{Found, Input, Timer};
use crate::limits::{ERROR_BYTES_MAX, LABELS_BURNED_MAX};
use crate::obligations;
use crate::phase::{Cause, Phase};
use crate::record::{Class, Debt, Gate, Pause, Reason, VersionEntry};

impl Draft<'_> {
    /// An attempt can succeed: make the next version, or first empty the old one.
    pub(crate) fn prepare(&mut self, person: bool) {
        self.edit(|r| r.refused = 0);
        let burned = self.running().map_or(0, |r| r.burned);
        match (self.record.class, self.record.active) {
            (_, Some(_)) if burned >= LABELS_BURNED_MAX => self.fail(Cause::LabelsExhausted),
            (Class::B, Some(_)) if person => self.postpone(
                None,
                true,
                "a person cannot issue where issuing voids the key in use; configure an admin key",
            ),
            (Class::B, Some(old)) => self.empty(old),
            _ if person => self.ask_person(),
            _ => self.issue(),
        }
    }

    /// An attempt cannot succeed now.
    pub(crate) fn postpone(&mut self, after: Option<Duration>, page: bool, why: &str) {
        if page && self.is_news(why) {
            self.page(why);
        }
        self.note_error(why);
        let wait = self.refused_wait(after);
        self.queue(wait);
    }

    /// Whether this refusal is another one than the last: the same one is not paged again.
    fn is_news(&self, why: &str) -> bool {
        let last = self.running().and_then(|r| r.error.as_deref());
        last != Some(bounded(why, ERROR_BYTES_MAX).as_str())
    }

    /// Waits, then tries again.
    pub(crate) fn queue(&mut self, wait: Duration) {
        let retry = self.after(wait);
        self.go(Phase::Queued { retry });
    }

    /// Makes the next version and its label. Nothing has been sent yet.
    fn intend(&mut self) -> (Version, Label) {
        let version = self.record.next_version;
        self.record.next_version = version.next();
        let label = Label::new(&self.record.deployment, &self.record.tag, version);
        let entry = VersionEntry {
            status: VersionStatus::Intent,
            label: Some(label.clone()),
            key_id: None,
            secret: None,
            fp: None,
            issued_at: None,
            expires_at: None,
            promoted_at: None,
            imported: false,
        };
        self.record.versions.insert(version, entry);
        self.audit_version(AuditKind::IssueIntent, version, label.as_str());
        (version, label)
    }

    fn issue(&mut self) {
        let (new, _) = self.intend();
        self.go(Phase::Issuing { new });
    }

    fn ask_person(&mut self) {
        let (new, _) = self.intend();
        let until = self.after(self.policy().person_timeout);
        let request = u64::from(new.0);
        self.go(Phase::AwaitingPerson { new, request, until });
    }

    /// Class B: nobody may hold the old key when the new one is issued.
    fn empty(&mut self, old: Version) {
        let policy = self.policy();
        let hard =
            if self.is_emergency() { policy.emergency_grace } else { policy.hard_deadline_b };
        let hard = self.after(hard);
        let drain_max = self.after(policy.drain_max);
        self.set(old, VersionStatus::Draining);
        self.record.active = None;
        self.record.gate = Gate::Paused(Pause::Emptying);
        self.edit(|r| {
            r.drain_max = Some(drain_max);
            r.reclaim = None;
        });
        self.event(EventKind::CheckpointRequested, Some(old), None);
        self.effect(Effect::Close { version: old });
        self.go(Phase::Emptying { old, hard });
    }

    /// Class B: the grants of the old version are gone.
    pub(crate) fn emptied(&mut self, old: Version) {
        self.guard(Guard::NoGrants(old));
        self.event(EventKind::DrainComplete, Some(old), None);
        self.issue_after_emptying();
    }

    /// Class B: whoever still holds the old version loses it with the issue.
    pub(crate) fn issue_after_emptying(&mut self) {
        self.edit(|r| {
            r.reclaim = None;
            r.drain_max = None;
        });
        self.issue();
    }

    /// The key exists and its secret is stored; it must belong to nobody else.
    pub(crate) fn stage(&mut self, new: Version, answer: Input) {
        let Some(key) = answer.into_key() else { return };
        self.adopt(new, &key);
        self.set(new, VersionStatus::Staged);
        self.audit_key(AuditKind::Issued, new, &key.key_id, "");
        if self.record.class == Class::B {
            self.record.gate = Gate::Paused(Pause::NoCredential);
        }
        self.verify(new);
    }

    /// Brings in a key that exists already.
    pub(crate) fn import(&mut self, key: &Found) {
        let new = self.record.next_version;
        self.record.next_version = new.next();
        let entry = VersionEntry {
            status: VersionStatus::Staged,
            label: None,
            key_id: None,
            secret: None,
            fp: None,
            issued_at: None,
            expires_at: None,
            promoted_at: None,
            imported: true,
        };
        self.record.versions.insert(new, entry);
        self.adopt(new, key);
        self.verify(new);
    }

    /// Writes down what is known of a key, on condition that nobody else claims it.
    fn adopt(&mut self, new: Version, key: &Found) {
        let issued_at = Some(self.now());
        let Found { key_id, secret, fp, expires_at } = key.clone();
        self.guard(Guard::KeyUnclaimed { version: new, key_id: key_id.clone(), fp: Some(fp) });
        self.edit_entry(new, |entry| {
            entry.key_id = Some(key_id);
            entry.secret = Some(secret);
            entry.fp = Some(fp);
            entry.issued_at = issued_at;
            entry.expires_at = expires_at;
        });
    }

    fn verify(&mut self, new: Version) {
        self.edit(|r| r.refused = 0);
        let since = self.now();
        self.go(Phase::Verifying { new, tries: 0, since });
    }

    /// The provider definitely issued nothing.
    pub(crate) fn refused(
        &mut self,
        new: Version,
        after: Option<Duration>,
        admin: bool,
        why: &str,
    ) {
        self.set(new, VersionStatus::Gone);
        self.audit_version(AuditKind::IssueRejected, new, why);
        let is_news = self.is_news(why);
        self.note_error(why);
        if self.record.gate == Gate::Paused(Pause::Emptying)
            && let Some(old) = self.closed()
        {
            self.reopen(old, "the provider refused to issue");
        }
        if admin && is_news {
            self.page(format!("the provider refuses the admin credential: {why}; replace it"));
        }
        if admin && self.may_fail() {
            self.fail(Cause::AdminRefused);
        } else {
            let wait = self.refused_wait(after);
            self.queue(wait);
        }
    }

    /// The provider gave a key that another version or pair has. It is not ours to revoke.
    pub(crate) fn foreign_key(&mut self, new: Version) {
        self.audit_version(AuditKind::ForeignKey, new, "issued");
        self.page("the provider issued a key that another version or pair already has");
        self.burn(new, "the provider gave a key that somebody else has");
        self.next_attempt(new);
    }

    /// Gives up on a label that may have been used: nobody will ever have its secret.
    pub(crate) fn burn(&mut self, new: Version, why: &str) {
        self.set(new, VersionStatus::Unresolved);
        self.audit_version(AuditKind::Burned, new, why);
        self.note_error(why);
        self.edit(|r| r.burned += 1);
        if let Some(label) = self.entry(new).and_then(|entry| entry.label.clone()) {
            let burned_at = self.now();
            let debt = Debt::Sweep { version: new, label, burned_at, foreign: false };
            obligations::owe(self, debt);
        }
    }

    /// After a burned label: class A goes on, class B first waits out the abandoned call.
    pub(crate) fn next_attempt(&mut self, new: Version) {
        match self.record.class {
            Class::A => {
                let wait = self.policy().attempt_every;
                self.queue(wait);
            }
            Class::B => {
                let until = self.after(self.policy().settle);
                self.go(Phase::Settling { new, until });
            }
        }
    }

    /// Class B: the abandoned call has executed or never will.
    pub(crate) fn settled(&mut self, new: Version) {
        if self.closed().is_some() {
            self.go(Phase::ProbingOld { new });
        } else {
            let wait = self.policy().attempt_every;
            self.queue(wait);
        }
    }

    /// The new key does not work, or must not be used.
    pub(crate) fn bad_key(&mut self, new: Version, why: &str) {
        let is_import = self.running().is_some_and(|r| r.reason == Reason::Import);
        self.audit_version(AuditKind::VerifyFailed, new, why);
        self.note_error(why);
        self.drop_staged(new);
        let burned = self.running().map_or(0, |r| r.burned);
        if self.may_fail() && (is_import || burned >= LABELS_BURNED_MAX) {
            self.fail(Cause::VerifyFailed);
        } else {
            let wait = self.policy().attempt_every;
            self.queue(wait);
        }
    }

    /// Ends a staged version: our key is revoked; an imported one is only forgotten.
    pub(crate) fn drop_staged(&mut self, new: Version) {
        if self.entry(new).is_some_and(|entry| entry.imported) {
            self.set(new, VersionStatus::Gone);
        } else {
            self.set(new, VersionStatus::Unresolved);
            self.edit(|r| r.burned += 1);
            self.owe_revoke(new);
        }
        obligations::owe(self, Debt::Destroy { version: new });
    }

    pub(crate) fn owe_revoke(&mut self, version: Version) {
        match self.key_id(version) {
            Some(key_id) => self.owe_revoke_of(version, key_id),
            None => self.spoil(format!("{version} has no key to revoke")),
        }
    }

    pub(crate) fn owe_revoke_of(&mut self, version: Version, key_id: ProviderKeyId) {
        obligations::owe(self, Debt::Revoke { version, key_id });
    }

    /// The person did not answer in time, declined, or is not wanted any more.
    pub(crate) fn give_up_person(&mut self, new: Version) {
        self.burn(new, "nobody submitted a key in time");
        self.page("nobody submitted a key in time");
        self.fail(Cause::HumanTimeout);
    }

    /// Asks the key of `version` again after a while.
    pub(crate) fn probe_later(&mut self) {
        let wait = self.policy().probe_every;
        self.ring_after(Timer::Probe, wait);
    }

    /// Asks whether the key of `version` works.
    pub(crate) fn probe(&mut self, version: Version) {
        let attempt = self.record.next_version;
        match self.secret(version) {
            Some(secret) => self.effect(Effect::Probe { version, secret, attempt }),
            None => self.spoil(format!("{version} has no secret to probe")),
        }
    }

    /// The wait after a refusal: doubles with every refusal in a row, never shorter than the
    /// provider asked for, and never long while a key is missing or must die.
    fn refused_wait(&mut self, after: Option<Duration>) -> Duration {
        let refused = self.running().map_or(0, |r| r.refused);
        self.edit(|r| r.refused = r.refused.saturating_add(1));
        let policy = self.policy();
        let is_urgent = self.record.active.is_none() || self.is_emergency();
        let (own_max, asked_max) = if is_urgent {
            (policy.retry_keyless_max, policy.retry_keyless_max)
        } else {
            (policy.retry_min, policy.retry_max)
        };
        let own = doubled(policy.attempt_every, refused).min(own_max);
        let asked = after.unwrap_or_default().min(asked_max);
        self.jittered(own).max(asked)
    }
}

/// `wait` doubled `times` times.
pub(crate) fn doubled(wait: Duration, times: u32) -> Duration {
    wait.saturating_mul(2_u32.saturating_pow(times))
}
