//! The owner: hears, asks the rules, commits, acts, and dies between any two of these.

use std::sync::Arc;

use crate::actions::{Fate, Source};
use crate::book::{Act, Condition, Move};
use crate::config::{Mutant, Promise};
use crate::state::{Actor, Behind, Floating, Question, Stage, State, Wire};
use crate::what::{KeyRef, V, What};
use crate::world::World;

/// What became of a commit.
pub(crate) enum Commit {
    Written,
    /// Another owner or another write came first.
    Stale,
    Refused(Condition),
}

impl World {
    /// One input reaches the actor on this node. `false`: that cannot happen this way.
    pub(crate) fn heard(
        &self,
        s: &mut State,
        n: u8,
        source: Source,
        what: What,
        fate: Fate,
    ) -> bool {
        if let What::Started(_) = what {
            s.node_mut(n).actor = Some(Actor::new(s.store.clone()));
        }
        let price = u8::from(fate != Fate::Well) + u8::from(self.is_fault(s, what));
        let Some(faults) = s.faults.checked_sub(price) else {
            return false;
        };
        s.faults = faults;
        if fate != Fate::Doubled {
            self.use_up(s, n, source, what);
        }
        if let What::Destroyed(v) = what {
            self.secret_goes(s, v);
        }
        self.decide(s, n, what, fate)
    }

    fn use_up(&self, s: &mut State, n: u8, source: Source, what: What) {
        match source {
            Source::Nobody => {}
            Source::Operator => {
                let budget = match what {
                    What::Rotate => &mut s.triggers,
                    What::Emergency => &mut s.emergencies,
                    _ => &mut s.orders,
                };
                *budget -= 1;
            }
            Source::Question(question) => s.node_mut(n).forget(question),
            Source::Job(v) => self.end_call(s, n, v, what),
            Source::Timer(timer) => {
                if let Some(actor) = &mut s.node_mut(n).actor {
                    actor.disarm(timer);
                }
            }
            Source::Person(v, key) => s.created.retain(|made| *made != (v, key)),
        }
        if let (What::MaybeRevoked(_), Source::Question(Question::Revoke(_, key))) = (what, source)
        {
            s.put_wire(Wire::Revoke(key));
        }
    }

    /// An issue call ends: answered, refused, or given up while it may be on its way.
    fn end_call(&self, s: &mut State, n: u8, v: V, what: What) {
        let is_given_up = matches!(what, What::Unknown(_));
        if is_given_up && s.node(n).job(v) == Some(Stage::Sent) {
            s.put_wire(Wire::Issue(v));
        }
        s.node_mut(n).end_job(v);
        if is_given_up && self.config.mutant == Mutant::SameLabelAgain {
            s.node_mut(n).set_job(v, Stage::Sent);
        }
    }

    fn decide(&self, s: &mut State, n: u8, what: What, fate: Fate) -> bool {
        let Some(actor) = &s.node(n).actor else {
            return false;
        };
        let before = actor.record.clone();
        let Some(decided) = self.book.step(&before, what) else {
            self.breaks(s, Promise::NothingImpossible);
            return true;
        };
        if decided.record.is_none() {
            let is_plain = matches!(fate, Fate::Well | Fate::Doubled);
            if is_plain {
                self.act(s, n, &decided.acts);
            }
            return is_plain;
        }
        let issues = decided.acts.iter().any(|act| matches!(act, Act::Issue(_)));
        if self.config.mutant == Mutant::NoIntent && issues && fate == Fate::Dies {
            self.act(s, n, &decided.acts);
            self.crash(s, n);
            return true;
        }
        self.commit(s, n, what, fate, decided)
    }

    /// A deposed owner tries to write something. That it is an epoch more changes nothing.
    pub(crate) fn deposed_writes(&self, s: &mut State, n: u8) {
        let Some(actor) = &s.node(n).actor else { return };
        let (record, behind) = (actor.record.clone(), actor.behind);
        if let Some(decided) = self.book.step(&record, What::Started(n)) {
            self.write(s, behind, &decided);
        }
        self.end_actor(s, n);
    }

    fn commit(&self, s: &mut State, n: u8, what: What, fate: Fate, decided: Arc<Move>) -> bool {
        let Some(actor) = &s.node(n).actor else {
            return false;
        };
        let behind = actor.behind;
        if fate == Fate::Floats {
            let before = actor.record.clone();
            s.floating = Some(Floating { before, what, decided, behind });
            self.crash(s, n);
            return true;
        }
        let is_plain = matches!(fate, Fate::Well | Fate::Doubled);
        match self.write(s, behind, &decided) {
            Commit::Stale => {
                self.end_actor(s, n);
                is_plain
            }
            Commit::Refused(_) if !is_plain => false,
            Commit::Refused(Condition::NoGrants(v)) => {
                let left = s.count(v).max(1);
                self.decide(s, n, What::Counted(v, left), Fate::Well)
            }
            Commit::Refused(Condition::Unclaimed(v, _)) => {
                self.decide(s, n, What::Claimed(v), Fate::Well)
            }
            Commit::Written => {
                let store = s.store.clone();
                if let Some(actor) = &mut s.node_mut(n).actor {
                    actor.record = store;
                    actor.behind = Behind::default();
                }
                match fate {
                    Fate::Dies => self.crash(s, n),
                    Fate::ActorDies => self.end_actor(s, n),
                    _ => self.act(s, n, &decided.acts),
                }
                true
            }
        }
    }

    /// The store: epoch and revision, then guards, then everything at once.
    pub(crate) fn write(&self, s: &mut State, behind: Behind, decided: &Move) -> Commit {
        let is_behind = behind.rev || behind.epoch;
        let refused = decided.conditions.iter().copied().find(|c| !self.is_met(s, *c));
        if let Some(refused) = refused
            && self.config.mutant == Mutant::GuardsBeforeRevision
        {
            if is_behind {
                self.breaks(s, Promise::OneWriter);
            }
            return Commit::Refused(refused);
        }
        if is_behind && self.config.mutant != Mutant::NoFencing {
            return Commit::Stale;
        }
        if let Some(refused) = refused {
            return Commit::Refused(refused);
        }
        self.check_write(s, behind, decided);
        if let Some(record) = &decided.record {
            if self.config.mutant == Mutant::RecordLost {
                s.before = Some(s.store.clone());
            }
            s.store = record.clone();
        }
        if let Some((from, to)) = decided.copies {
            for grants in s.grants.iter_mut().filter(|grants| grants.has(from)) {
                grants.put(to);
            }
        }
        for key in &decided.forced {
            if let Some(key) = s.key_mut(*key) {
                key.is_forced = true;
            }
        }
        let copies =
            s.nodes.iter_mut().filter_map(|node| node.actor.as_mut()).map(|a| &mut a.behind);
        for other in copies.chain(s.floating.as_mut().map(|f| &mut f.behind)) {
            other.rev = true;
            other.epoch |= decided.is_start;
        }
        Commit::Written
    }

    fn is_met(&self, s: &State, condition: Condition) -> bool {
        match condition {
            Condition::NoGrants(v) => {
                s.count(v) == 0 || self.config.mutant == Mutant::NoGrantsIgnored
            }
            Condition::Unclaimed(v, key) => {
                !s.store.is_claimed(v, key) || self.config.mutant == Mutant::KeyUnclaimedOff
            }
        }
    }

    fn act(&self, s: &mut State, n: u8, acts: &[Act]) {
        for act in acts {
            match *act {
                Act::Arm(timer) => {
                    if let Some(actor) = &mut s.node_mut(n).actor {
                        actor.arm(timer);
                    }
                }
                Act::Issue(v) => s.node_mut(n).set_job(v, Stage::Sent),
                Act::Ask(Question::Sweep(_)) if self.config.mutant == Mutant::NoSweeper => {}
                Act::Ask(question) => {
                    self.check_question(s, question);
                    s.node_mut(n).ask(question);
                }
                Act::AskPerson(v) => {
                    let is_answered = s.secret(v).is_some() || s.key(KeyRef::Own(v)).is_some();
                    if !is_answered {
                        s.asked.put(v);
                    }
                }
            }
        }
    }
}
