//! The world's actor and its jobs: carries out what `step` decides, and dies between any two lines.

use keybaton_messages::{Incarnation, NodeId, Version};
use keybaton_rotation::{Context, Decision, Effect, Guard, Input, PairRecord, Reply, Timer, step};
use rand::Rng;

use crate::Mutant;
use crate::journal::{NotWritten, Transaction};
use crate::mutants;
use crate::world::{Event, SECOND, World};

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
        let context = Context { now: self.store_now(), jitter: self.rng.random(), policy: &policy };
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
        self.carry_out(&record, decision);
    }

    fn carry_out(&mut self, record: &PairRecord, decision: Decision) {
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
                self.arm(timer, if is_zero { std::time::Duration::ZERO } else { wait });
            }
            Effect::Preflight { attempt } => self.preflight(attempt),
            Effect::Issue { version, label, .. } => self.send_issue(version, label),
            Effect::Locate { version, label } => {
                let wait = self.travel();
                self.after(wait, Event::Locate { process, version, label });
            }
            Effect::Probe { version, secret, attempt } => {
                let wait = self.travel();
                self.after(wait, Event::Probe { process, version, secret, attempt });
            }
            Effect::Ask { version, label, until } => {
                let left = self.store_now().until(until);
                self.ask_person(version, label, u64::try_from(left.as_millis()).unwrap_or(0));
            }
            Effect::Revoke { version, key_id, .. } => self.send_revoke(version, key_id),
            Effect::Sweep { label } => self.sweep(label),
            Effect::Destroy { version, secret, label } => {
                let wait = self.travel();
                self.after(wait, Event::Destroy { process, version, secret, label });
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

    fn preflight(&mut self, attempt: Version) {
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
}

/// One line of the story.
fn tell(input: &Input, decision: &Decision) -> String {
    let phase = decision.record.as_ref().and_then(|r| r.rotation.as_ref()).map(|r| &r.phase);
    let rev = decision.record.as_ref().map(|r| r.rev);
    let effects: Vec<_> = decision
        .effects
        .iter()
        .filter(|e| !matches!(e, Effect::Publish | Effect::Witness))
        .collect();
    format!("{input:?}\n      -> {rev:?} {phase:?}\n      {:?} {effects:?}", decision.guards)
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
