//! One step: which kind of input it is, and the story told by the answers.
//!
//! Every answer to an input is one of four: a move (commit, then effects), effects alone, a repeat
//! (nothing), or an impossibility. Whatever does not fit the present phase is a repeat: late and
//! doubled messages are normal traffic.

use keybaton_messages::{Incarnation, NodeId, Timestamp, Version, VersionStatus};

use crate::decision::{Context, Decision, Effect, Impossible};
use crate::draft::Draft;
use crate::input::{Health, Input, Timer};
use crate::limits::CUT_EVERY;
use crate::obligations;
use crate::phase::{Cause, Phase};
use crate::record::{Class, Due, Gate, Owner, PairRecord, Pause, Reclaim};

/// Decides what an input changes and what is to be done about it.
///
/// # Errors
/// [`Impossible`] when the input contradicts the record: an answer about a version that was never
/// made, or an issued key for an intent outside its phase. The pair must stop and page.
pub fn step(
    record: &PairRecord,
    input: Input,
    context: &Context<'_>,
) -> Result<Decision, Impossible> {
    if let Some(why) = contradiction(record, &input) {
        let pair = record.pair.clone();
        return Err(Impossible { pair, why });
    }
    let mut draft = Draft::new(record, context);
    match input {
        Input::Started { node, incarnation } => draft.started(node, incarnation),
        Input::Triggered(trigger) => draft.triggered(trigger),
        Input::Ordered(order) => draft.ordered(order),
        Input::KeyDead { version, reports } => draft.key_dead(version, reports),
        Input::Elapsed(timer) => draft.elapsed(timer),
        answer => {
            if let Some(answer) = obligations::answered(&mut draft, answer) {
                draft.answered(answer);
            }
        }
    }
    draft.decide()
}

/// Why the input cannot have happened, if it cannot. Triggers, orders, people and tasks come from
/// outside and may say anything; what they say wrongly is refused or ignored, not impossible.
fn contradiction(record: &PairRecord, input: &Input) -> Option<String> {
    let is_from_outside = matches!(
        input,
        Input::PersonSubmitted { .. } | Input::PersonExpired { .. } | Input::KeyDead { .. }
    );
    // The refused guard of an import names the version that the import would have made.
    if matches!(input, Input::KeyClaimed { .. }) {
        return None;
    }
    let version = input.version().filter(|_| !is_from_outside)?;
    if version >= record.next_version {
        let next = record.next_version;
        return Some(format!("{version} was never made, {next} is the next"));
    }
    let phase = record.rotation.as_ref().map(|r| &r.phase);
    let is_awaited = matches!(
        phase,
        Some(Phase::Issuing { new } | Phase::Locating { new }) if *new == version
    );
    let is_intent = record.status(version) == Some(VersionStatus::Intent);
    (matches!(input, Input::Issued { .. }) && is_intent && !is_awaited)
        .then(|| format!("a key was issued for {version} outside its phase"))
}

impl Draft<'_> {
    /// A new life of the owner: one more epoch, waits that no clock can stretch, and the present
    /// phase again from its beginning.
    fn started(&mut self, node: NodeId, incarnation: Incarnation) {
        self.record.epoch = self.record.epoch.next();
        self.record.owner = Owner { node, incarnation };
        self.clamp_waits();
        self.schedule_if_none();
        if let Some(Phase::Issuing { new }) = self.phase() {
            self.edit(|r| r.phase = Phase::Locating { new });
        }
        self.resume();
        self.arm_all();
    }

    /// The story: what each phase waits for, and the move that the answer causes.
    fn answered(&mut self, answer: Input) {
        use Input as In;
        use Phase as Ph;
        let Some(phase) = self.phase().filter(|phase| self.fits(phase, &answer)) else {
            return;
        };
        let is_wanted_back = self.running().is_some_and(|r| r.reclaim.is_some());
        match (phase, answer) {
            (Ph::Preflight, In::PreflightOk { person, .. }) => self.prepare(person),
            (Ph::Preflight, In::PreflightRefused { after, page, why, .. }) => {
                self.postpone(after, page, &why);
            }
            (Ph::AwaitingPerson { new, .. }, key @ In::PersonSubmitted { .. }) => {
                self.stage(new, key);
            }
            (Ph::AwaitingPerson { new, .. }, In::PersonExpired { .. }) => {
                self.give_up_person(new);
            }
            (Ph::Issuing { new } | Ph::Locating { new }, key @ In::Issued { .. }) => {
                self.stage(new, key);
            }
            (Ph::Issuing { new } | Ph::Locating { new }, In::KeyClaimed { .. }) => {
                self.foreign_key(new);
            }
            (Ph::Issuing { new }, In::IssueRefused { after, admin, why, .. }) => {
                self.refused(new, after, admin, &why);
            }
            (Ph::Issuing { new }, In::IssueUnknown { why, .. }) => self.locate(new, &why),
            (Ph::Locating { new }, In::Located { found: None, .. }) => self.lost(new),
            (Ph::Locating { new }, key @ In::Located { .. }) => self.stage(new, key),
            (Ph::ProbingOld { new }, In::Probed { version, health, .. }) => {
                self.old_probed(new, version, health);
            }
            (Ph::Verifying { new, tries, since }, In::Probed { health, .. }) => {
                self.verified(new, tries, since, health);
            }
            (Ph::Emptying { old, .. }, In::GrantReturned { left: 0, .. }) => self.emptied(old),
            (Ph::Emptying { old, .. }, In::Probed { health, .. }) if is_wanted_back => {
                self.reopen_probed(old, health);
            }
            (
                Ph::Draining { old, .. } | Ph::Checkpointing { old, .. },
                In::GrantReturned { left: 0, .. },
            ) => self.drained(old),
            (Ph::Overlap { until, .. }, In::GrantReturned { left: 1.., .. }) => {
                self.overlap_again(until);
            }
            (
                Ph::Draining { old, .. } | Ph::Checkpointing { old, .. } | Ph::Overlap { old, .. },
                In::Probed { health, .. },
            ) if is_wanted_back => self.roll_back_probed(old, health),
            (Ph::Revoking { .. }, In::Revoked { .. }) => self.revoked(),
            _ => {}
        }
    }

    /// Whether an answer is about what the present phase asked: its version and its attempt.
    fn fits(&self, phase: &Phase, answer: &Input) -> bool {
        let attempt = match answer {
            Input::PreflightOk { attempt, .. }
            | Input::PreflightRefused { attempt, .. }
            | Input::Probed { attempt, .. } => Some(*attempt),
            _ => None,
        };
        let asked = match phase {
            Phase::ProbingOld { .. } => self.closed(),
            other => other.subject(),
        };
        attempt.is_none_or(|attempt| attempt == self.record.next_version)
            && answer.version().is_none_or(|version| asked == Some(version))
    }

    /// The provider was asked and did not say clearly.
    fn locate(&mut self, new: Version, why: &str) {
        self.note_error(why);
        self.go(Phase::Locating { new });
    }

    /// The provider may have issued, and nobody has the secret.
    fn lost(&mut self, new: Version) {
        self.burn(new, "no secret under its label");
        self.next_attempt(new);
    }

    /// Class B, after an ambiguous issue: the old key tells whether it was executed.
    fn old_probed(&mut self, new: Version, old: Version, health: Health) {
        match health {
            Health::Alive => {
                obligations::forget_label(self, new);
                self.reopen(old, "the issue was not executed");
                let wait = self.policy().attempt_every;
                self.queue(wait);
            }
            Health::Dead => {
                self.record.gate = Gate::Paused(Pause::NoCredential);
                self.page("the old key is dead and the new one was lost; issuing again");
                let wait = self.policy().attempt_every;
                self.queue(wait);
            }
            Health::Unknown | Health::MissingScopes => self.probe_later(),
        }
    }

    /// The new key was tried out.
    fn verified(&mut self, new: Version, tries: u32, since: Timestamp, health: Health) {
        let policy = self.policy();
        let is_last_try = tries + 1 >= policy.probe_tries;
        let is_too_long = since.until(self.now()) >= policy.probe_unknown_max;
        match health {
            Health::Alive => self.promote(new),
            Health::Dead if is_last_try => self.bad_key(new, "the provider refuses the new key"),
            Health::Dead => {
                let tries = tries + 1;
                self.edit(|r| r.phase = Phase::Verifying { new, tries, since });
                self.probe_later();
            }
            Health::MissingScopes if is_too_long => {
                self.bad_key(new, "the new key lacks scopes that the models need");
            }
            Health::Unknown if is_too_long && self.record.class == Class::A => {
                self.bad_key(new, "the provider does not say whether the new key works");
            }
            Health::Unknown if is_too_long => {
                let since = self.now();
                self.edit(|r| r.phase = Phase::Verifying { new, tries, since });
                self.page("the provider does not say whether the new key works; still asking");
                self.probe_later();
            }
            Health::Unknown | Health::MissingScopes => self.probe_later(),
        }
    }

    /// Class B: holders stayed too long, so the old key was probed before handing it out again.
    fn reopen_probed(&mut self, old: Version, health: Health) {
        match health {
            Health::Alive => {
                self.reopen(old, "holders did not leave in time");
                self.page("holders did not leave in time; the old key is handed out again");
                self.fail(Cause::DrainTimeout);
            }
            Health::Dead => {
                self.edit(|r| r.reclaim = None);
                self.record.gate = Gate::Paused(Pause::NoCredential);
                self.effect(Effect::Cut { version: old });
                self.ring_after(Timer::Hard, CUT_EVERY);
                self.page("the old key is dead; cutting its calls, then issuing");
            }
            Health::Unknown | Health::MissingScopes => self.probe_later(),
        }
    }

    /// A rollback was wanted, so the old key was probed.
    fn roll_back_probed(&mut self, old: Version, health: Health) {
        match health {
            Health::Alive => self.roll_back(old),
            Health::Dead if self.running().is_some_and(|r| r.key_dead) => self.both_dead(),
            Health::Dead => {
                self.edit(|r| r.reclaim = None);
                self.effect(Effect::Cut { version: old });
                self.page("the old key is dead, no rollback; cutting its calls");
            }
            Health::Unknown | Health::MissingScopes => self.probe_later(),
        }
    }

    /// Some grant of the version in reserve is (or was said to be) left.
    fn overlap_again(&mut self, until: Due) {
        let wait = until.left(self.now()).max(self.policy().count_every);
        self.ring_after(Timer::Overlap, wait);
    }

    fn revoked(&mut self) {
        let is_rolled_back = self.running().is_some_and(|r| r.rolled_back);
        if is_rolled_back {
            self.fail(Cause::RolledBack);
        } else {
            self.complete();
        }
    }

    /// Puts the old key back to use if it is one, and remembers that it is wanted.
    pub(crate) fn want_back(&mut self, old: Version, why: Reclaim) {
        self.edit(|r| r.reclaim = Some(why));
        self.probe(old);
    }
}
