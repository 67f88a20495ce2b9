//! The world's actor and its jobs: carries out what `step` decides, and dies between any two lines.

use keybaton_messages::{Incarnation, Label, NodeId, ProviderKeyId, SecretVersion, Version};
use keybaton_rotation::{
    Context, Decision, Effect, Guard, Health, Input, PairRecord, Reply, Timer, step,
};
use rand::Rng;

use crate::Mutant;
use crate::journal::{NotWritten, Transaction};
use crate::mutants;
use crate::provider::{IssueJob, Plan};
use crate::world::{Event, MINUTE, SECOND, World};

const CALL_DEADLINE: u64 = 30 * SECOND;

enum Committed {
    Written,
    Refused(Guard, u32),
    /// Conflict, or the actor died.
    Lost,
}

impl World {
    pub fn deliver(&mut self, process: Option<u64>, input: Input) {
        if process.is_some_and(|process| process != self.process) {
            return;
        }
        if self.actor.is_some() {
            self.input(input);
        } else if matches!(input, Input::Triggered(_) | Input::PersonSubmitted { .. }) {
            // A caller without an answer asks again.
            self.after(5 * SECOND, Event::Deliver { process, input });
        } else if process.is_some() {
            self.after(2 * SECOND, Event::Deliver { process, input });
        }
    }

    pub fn start_actor(&mut self) {
        if self.actor.is_some() || !self.brokers[0].alive {
            return;
        }
        self.timers.clear();
        let record = self.journal.load().unwrap_or_else(|| self.fresh.clone());
        self.actor = Some(record);
        let node = NodeId::new("n1").expect("a name");
        let incarnation = Incarnation(self.brokers[0].incarnation);
        self.input(Input::Started { node, incarnation });
    }

    /// One input: decide, remember, then act.
    pub fn input(&mut self, input: Input) {
        let Some(record) = self.actor.clone() else {
            return;
        };
        let policy = self.policy.clone();
        let context = Context {
            now: self.store_now(),
            jitter: self.rng.random(),
            policy: &policy,
        };
        let decision = match step(&record, input.clone(), &context) {
            Ok(decision) => decision,
            Err(impossible) => {
                self.violation = Some(format!("impossible: {impossible}"));
                return;
            }
        };
        let decision = mutants::mutate(self, &record, &input, decision);
        self.note(|| tell(&input, &decision));
        self.check_decision(&record, &input, &decision);
        self.carry_out(&record, &input, decision);
    }

    fn carry_out(&mut self, record: &PairRecord, input: &Input, decision: Decision) {
        if self.chance(2) {
            return self.crash_somehow();
        }
        if self.mutant == Mutant::ActFirst {
            self.act(&decision.effects);
        }
        let effects = decision.effects.clone();
        match self.remember(record, decision) {
            Committed::Written => {}
            Committed::Lost => return,
            Committed::Refused(guard, left) => {
                self.note(|| format!("refused: {guard:?} left {left}"));
                match guard {
                    _ if matches!(input, Input::Triggered(_)) => {}
                    Guard::NoGrants(version) => self.input(Input::GrantReturned { version, left }),
                    Guard::KeyUnclaimed { version, .. } => {
                        self.input(Input::KeyClaimed { version });
                    }
                }
                return;
            }
        }
        if self.chance(2) {
            return self.crash_somehow();
        }
        if self.mutant != Mutant::ActFirst {
            self.act(&effects);
        }
    }

    fn crash_somehow(&mut self) {
        if self.rng.random_bool(0.5) {
            self.crash_node(0);
        } else {
            self.crash_actor();
        }
    }

    fn remember(&mut self, before: &PairRecord, decision: Decision) -> Committed {
        let Some(record) = decision.record else {
            return Committed::Written;
        };
        self.next_number += 1;
        let txn = Transaction {
            id: self.next_number,
            expect: (before.epoch, before.rev),
            record: record.clone(),
            guards: decision.guards,
            grants: decision.grants,
            audit: decision.audit,
        };
        if self.mutant == Mutant::WritesLost && self.chance(3) {
            self.actor = Some(record);
            return Committed::Written;
        }
        for _ in 0..20 {
            let is_unknown = self.chance(8);
            if is_unknown && self.rng.random_bool(0.3) {
                // It is on its way, and may still arrive when another life has begun.
                let wait = self.between(0, 10 * SECOND);
                let txn = Box::new(txn.clone());
                self.after(wait, Event::CommitLands { txn });
            } else if !is_unknown || self.rng.random_bool(0.5) {
                match self.journal.commit(&txn, self.mutant) {
                    _ if is_unknown => {}
                    Ok(()) => {
                        self.actor = Some(record);
                        self.tell_brokers();
                        return Committed::Written;
                    }
                    Err(NotWritten::Refused(guard, left)) => {
                        return Committed::Refused(guard, left);
                    }
                    Err(NotWritten::Conflict) => {
                        self.actor = None;
                        self.after(0, Event::ActorStarts);
                        return Committed::Lost;
                    }
                }
            }
            if self.chance(20) {
                self.crash_somehow();
                return Committed::Lost;
            }
        }
        self.crash_actor();
        Committed::Lost
    }

    /// After every move the brokers are told to read again; the message may be lost.
    fn tell_brokers(&mut self) {
        for node in 0..2 {
            if !self.chance(20) && self.brokers[node].alive {
                self.ask_standing(node);
            }
        }
    }

    fn act(&mut self, effects: &[Effect]) {
        for effect in effects {
            if self.chance(1) {
                return self.crash_somehow();
            }
            self.effect(effect);
            let is_issue = matches!(effect, Effect::Issue { .. });
            let is_doubled = self.chance(5);
            if is_doubled && (!is_issue || self.mutant == Mutant::LabelSentTwice) {
                self.effect(effect);
            }
        }
    }

    fn effect(&mut self, effect: &Effect) {
        let process = self.process;
        match effect.clone() {
            Effect::Arm(timer, due) => {
                let wait = due.left(self.store_now());
                self.arm(timer, wait);
            }
            Effect::ArmFor(timer, wait) => {
                let is_zero = timer == Timer::Settle && self.mutant == Mutant::SettleZero;
                self.arm(
                    timer,
                    if is_zero {
                        std::time::Duration::ZERO
                    } else {
                        wait
                    },
                );
            }
            Effect::Preflight { attempt } => {
                let input = if self.chance(10) {
                    Input::PreflightRefused {
                        attempt,
                        after: None,
                        page: false,
                        why: "not writable".to_owned(),
                    }
                } else {
                    let person = self.has_person;
                    Input::PreflightOk { attempt, person }
                };
                self.answer(input);
            }
            Effect::Issue { version, label, .. } => self.send_issue(version, label),
            Effect::Locate { version, label } => {
                let wait = self.travel();
                self.after(
                    wait,
                    Event::Locate {
                        process,
                        version,
                        label,
                    },
                );
            }
            Effect::Probe {
                version,
                secret,
                attempt,
            } => {
                let wait = self.travel();
                self.after(
                    wait,
                    Event::Probe {
                        process,
                        version,
                        secret,
                        attempt,
                    },
                );
            }
            Effect::Ask {
                version,
                label,
                until,
            } => {
                let left = self.store_now().until(until);
                self.ask_person(version, label, u64::try_from(left.as_millis()).unwrap_or(0));
            }
            Effect::Revoke {
                version, key_id, ..
            } => self.send_revoke(version, key_id),
            Effect::Sweep { label } => self.sweep(label),
            Effect::Destroy {
                version,
                secret,
                label,
            } => {
                let wait = self.travel();
                self.after(
                    wait,
                    Event::Destroy {
                        process,
                        version,
                        secret,
                        label,
                    },
                );
            }
            Effect::Count { version } => {
                let left = self.journal.count(version);
                self.answer(Input::GrantReturned { version, left });
            }
            Effect::Signal { version, .. } => self.hint(|node| Event::Signal { node, version }),
            Effect::Cut { version } => self.hint(|node| Event::Cut { node, version }),
            Effect::Close { .. }
            | Effect::Witness
            | Effect::Publish
            | Effect::Page(_)
            | Effect::Reply(_) => {}
        }
    }

    fn arm(&mut self, timer: Timer, wait: std::time::Duration) {
        self.next_number += 1;
        let number = self.next_number;
        self.timers.insert(timer, number);
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 4);
        self.after(wait.min(u64::MAX / 4), Event::Ring { timer, number });
    }

    fn hint(&mut self, event: impl Fn(usize) -> Event) {
        for node in 0..2 {
            if !self.chance(20) {
                let wait = self.travel();
                self.after(wait, event(node));
            }
        }
    }

    /// An answer of a job: late or doubled, and lost with its process.
    pub fn answer(&mut self, input: Input) {
        let process = Some(self.process);
        let wait = self.travel();
        if self.chance(5) {
            let wait = self.travel();
            let input = input.clone();
            self.after(wait, Event::Deliver { process, input });
        }
        self.after(wait, Event::Deliver { process, input });
    }

    // --- issue -------------------------------------------------------------------------------

    fn send_issue(&mut self, version: Version, label: Label) {
        let plan = self.random_plan();
        let process = self.process;
        self.note(|| format!("issue {version}: {plan:?}"));
        let job = self.jobs.len();
        self.jobs.push(IssueJob {
            version,
            label,
            plan: plan.clone(),
            process,
            ended: false,
        });
        let soon = self.travel().min(20 * SECOND);
        let settle = u64::try_from(self.policy.settle.as_millis()).unwrap_or(0);
        match plan {
            Plan::Dropped => {}
            Plan::Late => {
                let wait = self.between(SECOND, settle - SECOND);
                self.after(wait, Event::Issue { job });
            }
            _ => self.after(soon, Event::Issue { job }),
        }
        self.after(CALL_DEADLINE, Event::IssueGivenUp { job });
    }

    pub fn provider_issues(&mut self, job: usize) {
        let IssueJob { label, plan, .. } = self.jobs[job].clone();
        let now = self.now;
        if !matches!(plan, Plan::Refused { .. } | Plan::Foreign) {
            let ours = self.our_key_ids();
            let is_bad = plan == Plan::Bad;
            let (key_id, _, kills) = self.provider.issue(&label, is_bad, &ours, now);
            self.note(|| format!("{key_id} is born under {label}"));
            for kill in kills {
                self.check_kill(&kill);
            }
        }
        let wait = self.travel().min(5 * SECOND);
        match plan {
            Plan::AckLost | Plan::Late => {}
            Plan::StoredUnheard => self.after(wait, Event::SecretLands { job }),
            _ => self.after(wait, Event::IssueAnswered { job }),
        }
    }

    fn our_key_ids(&self) -> Vec<ProviderKeyId> {
        let entries = self.journal.record.iter().flat_map(|r| r.versions.values());
        entries.filter_map(|entry| entry.key_id.clone()).collect()
    }

    fn issued_key(&self, label: &Label) -> Option<(ProviderKeyId, keybaton_messages::Fingerprint)> {
        let is_it = |key: &crate::provider::Key| key.label.as_ref() == Some(label);
        let found = self.provider.keys.iter().rev().find(|(_, key)| is_it(key));
        found.map(|(key_id, key)| (key_id.clone(), key.fp))
    }

    pub fn issue_answered(&mut self, job: usize) {
        let IssueJob {
            version,
            label,
            plan,
            process,
            ended,
        } = self.jobs[job].clone();
        if ended || process != self.process {
            return;
        }
        let input = match plan {
            Plan::NotStored => return,
            Plan::Refused { admin } => Input::IssueRefused {
                version,
                after: None,
                admin,
                why: "no".to_owned(),
            },
            Plan::Foreign => self.foreign_answer(version, label),
            _ => {
                let Some((key_id, fp)) = self.issued_key(&label) else {
                    return;
                };
                let found = self.secrets.put(Some(label), key_id, fp);
                Input::Issued {
                    version,
                    key_id: found.key_id,
                    secret: found.secret,
                    fp,
                    expires_at: None,
                }
            }
        };
        self.jobs[job].ended = true;
        self.answer(input);
    }

    /// The provider hands out a key that another version or another pair has.
    fn foreign_answer(&mut self, version: Version, label: Label) -> Input {
        let ours = self.our_key_ids();
        let mine = ours
            .iter()
            .find_map(|id| Some((id.clone(), self.provider.keys.get(id)?.fp)));
        let is_mine = self.rng.random_bool(0.5);
        let (key_id, fp) = mine.filter(|_| is_mine).unwrap_or(self.foreign.clone());
        let found = self.secrets.put(Some(label), key_id, fp);
        Input::Issued {
            version,
            key_id: found.key_id,
            secret: found.secret,
            fp,
            expires_at: None,
        }
    }

    pub fn secret_lands(&mut self, job: usize) {
        let IssueJob { label, .. } = self.jobs[job].clone();
        if let Some((key_id, fp)) = self.issued_key(&label) {
            self.secrets.put(Some(label), key_id, fp);
        }
    }

    pub fn issue_given_up(&mut self, job: usize) {
        let IssueJob {
            version,
            process,
            ended,
            ..
        } = self.jobs[job].clone();
        if !ended && process == self.process {
            self.jobs[job].ended = true;
            self.answer(Input::IssueUnknown {
                version,
                why: "no answer in time".to_owned(),
            });
        }
    }

    pub fn locate(&mut self, process: u64, version: Version, label: Label) {
        if process != self.process {
            return;
        }
        let runs = self
            .jobs
            .iter()
            .any(|job| job.label == label && !job.ended && job.process == process);
        if runs || self.chance(10) {
            return self.after(
                2 * SECOND,
                Event::Locate {
                    process,
                    version,
                    label,
                },
            );
        }
        let found = self.secrets.find(&label);
        self.answer(Input::Located { version, found });
    }

    // --- the other questions -----------------------------------------------------------------

    pub fn probe(
        &mut self,
        process: u64,
        version: Version,
        secret: SecretVersion,
        attempt: Version,
    ) {
        if process != self.process {
            return;
        }
        let truth = self.health(secret);
        if truth == Health::Alive {
            self.seen.proven.insert(version);
        }
        let is_fresh = self.rng.random_bool(0.3) && truth == Health::Alive;
        let is_new = self
            .actor
            .as_ref()
            .is_some_and(|r| r.status(version) == Some(keybaton_messages::VersionStatus::Staged));
        let health = if self.chance(15) {
            Health::Unknown
        } else if is_fresh && is_new && self.is_chaos {
            Health::Dead
        } else {
            truth
        };
        self.answer(Input::Probed {
            version,
            attempt,
            health,
        });
    }

    fn send_revoke(&mut self, version: Version, key_id: ProviderKeyId) {
        self.check_revoke(version, &key_id);
        let wait = self.travel();
        let is_late = self.chance(10);
        let input = if self.chance(15) {
            Input::RevokeRefused {
                version,
                after: None,
                why: "busy".to_owned(),
            }
        } else if is_late || self.chance(10) {
            let wait = self.between(0, MINUTE);
            self.after(wait, Event::Revoke { key_id });
            Input::RevokeUnknown {
                version,
                why: "no answer".to_owned(),
            }
        } else {
            self.provider_revokes(&key_id);
            Input::Revoked { version }
        };
        let process = Some(self.process);
        self.after(wait, Event::Deliver { process, input });
    }

    pub fn provider_revokes(&mut self, key_id: &ProviderKeyId) {
        let now = self.now;
        if let Some(kill) = self.provider.revoke(key_id, now) {
            self.note(|| format!("{key_id} dies"));
            self.check_kill(&kill);
        }
    }

    fn sweep(&mut self, label: Label) {
        if self.mutant == Mutant::NoSweeper {
            // It never looks, and says that it found nothing.
            let asked = self.store_now();
            return self.answer(Input::Swept {
                label,
                asked,
                found: None,
            });
        }
        let input = if self.chance(10) {
            Input::SweepFailed {
                label,
                why: "list failed".to_owned(),
            }
        } else {
            let lag = if self.is_chaos {
                self.between(0, MINUTE)
            } else {
                0
            };
            let asked = self.store_now();
            let is_foreign = self.chance(4);
            let foreign = self.foreign.0.clone();
            let found = self.provider.find(&label, self.now, lag);
            let found = if is_foreign { Some(foreign) } else { found };
            Input::Swept {
                label,
                asked,
                found,
            }
        };
        self.answer(input);
    }

    pub fn destroy(
        &mut self,
        process: u64,
        version: Version,
        secret: Option<SecretVersion>,
        label: Option<Label>,
    ) {
        if process != self.process {
            return;
        }
        if self.chance(20) {
            let why = "sealed".to_owned();
            return self.answer(Input::DestroyFailed { version, why });
        }
        self.check_destroy(version);
        self.secrets.destroy(secret, label.as_ref());
        self.answer(Input::Destroyed { version });
    }

    fn ask_person(&mut self, version: Version, label: Label, left: u64) {
        if !self.asked_persons.insert(version) || self.chance(20) {
            return;
        }
        let now = self.now;
        let is_slip = self.chance(20);
        let (key_id, fp) = if is_slip {
            self.foreign.clone()
        } else {
            let (key_id, fp, _) = self.provider.issue(&label, false, &[], now);
            (key_id, fp)
        };
        let found = self.secrets.put(Some(label), key_id, fp);
        let most = if self.is_chaos {
            left.min(MINUTE * 90)
        } else {
            MINUTE
        };
        let wait = self.between(0, most);
        let input = Input::PersonSubmitted {
            version,
            key_id: found.key_id,
            secret: found.secret,
            fp,
            expires_at: None,
        };
        self.after(
            wait,
            Event::Deliver {
                process: None,
                input,
            },
        );
    }
}

/// One line of the story.
fn tell(input: &Input, decision: &Decision) -> String {
    let phase = decision
        .record
        .as_ref()
        .and_then(|r| r.rotation.as_ref())
        .map(|r| &r.phase);
    let rev = decision.record.as_ref().map(|r| r.rev);
    let effects: Vec<_> = decision
        .effects
        .iter()
        .filter(|e| !matches!(e, Effect::Publish | Effect::Witness))
        .collect();
    format!(
        "{input:?}\n      -> {rev:?} {phase:?}\n      {:?} {effects:?}",
        decision.guards
    )
}

/// Every trigger and every order gets exactly one reply, nothing else gets any.
pub fn replies(decision: &Decision) -> Vec<&Reply> {
    fn reply(effect: &Effect) -> Option<&Reply> {
        match effect {
            Effect::Reply(reply) => Some(reply),
            _ => None,
        }
    }
    decision.effects.iter().filter_map(reply).collect()
}
