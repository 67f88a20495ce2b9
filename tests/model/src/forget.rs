//! Forgets what nobody can meet any more, so that fewer states are told apart.
//!
//! - A commit on its way that is behind the store by now: it would change nothing.
//! - Requests for what has happened already.
//! - Dead keys of ended versions that nobody hands out or holds.
//! - Questions whose every answer would be a repeat; they echo their version and attempt, so they
//!   stay repeats for ever, and a question that is asked again is the same one.
//! - What a deposed owner knows and waits for. Whatever it wants to write, the commit refuses it
//!   before looking at it, and that it tries is a step of its own. Its requests stay on the wire.
//!   A world without fencing forgets none of that.
//! - A node that fenced itself and stopped everything: it is as one that died, and joins again as
//!   one that starts again. Its fence row, once it has no grants; a wait for grants that are gone.
//! - Timers that would do nothing if they rang now. One that is left over could ring early in a
//!   later phase of its kind; as every timer may ring at any moment, that phase's own one does.

use keybaton_messages::VersionStatus;

use crate::actions::other;
use crate::book::RecRef;
use crate::config::Mutant;
use crate::state::{Node, Question, Stage, State, TIMERS, Versions, Wire};
use crate::what::{KeyRef, Truth, What};
use crate::world::World;

impl World {
    pub(crate) fn forget(&self, s: &mut State) {
        let is_refused = s.floating.as_ref().is_some_and(|f| f.behind.rev)
            && !matches!(self.config.mutant, Mutant::NoFencing | Mutant::GuardsBeforeRevision);
        if is_refused {
            s.floating = None;
        }
        let mut wires = std::mem::take(&mut s.wires);
        wires.retain(|wire| !matches!(wire, Wire::Revoke(key) if !s.is_live(*key)));
        s.wires = wires;
        let mut keys = std::mem::take(&mut s.keys);
        keys.retain(|key| {
            let Some(v) = key.at.label() else { return true };
            let is_ended = matches!(
                s.store.status(v),
                None | Some(VersionStatus::Revoked | VersionStatus::Gone)
            );
            let is_met = |n: &Node| [n.open, n.task, n.granted].contains(&Some(v));
            key.is_alive || !is_ended || s.nodes.iter().any(is_met)
        });
        s.keys = keys;
        for n in 0..self.config.nodes {
            self.forget_leases(s, n);
            if self.is_deposed(s, n) {
                self.depose(s, n);
            } else {
                self.forget_of(s.node_mut(n));
            }
        }
    }

    fn forget_leases(&self, s: &mut State, n: u8) {
        let node = s.node(n);
        if node.is_fenced && node.actor.is_none() && node.jobs.is_empty() {
            self.crash(s, n);
        }
        if s.grants(n) != Versions::default() || self.config.mutant == Mutant::ReapUntied {
            return;
        }
        if !s.node(n).is_serving() {
            s.fences[usize::from(n)] = false;
        }
        s.node_mut(other(n)).waited = None;
    }

    /// Whether this node was the owner, and all that it still could write would be refused.
    pub(crate) fn is_deposed(&self, s: &State, n: u8) -> bool {
        let is_behind = match &s.node(n).actor {
            Some(actor) => actor.behind.epoch,
            None => s.store.owner != n,
        };
        is_behind && !matches!(self.config.mutant, Mutant::NoFencing | Mutant::GuardsBeforeRevision)
    }

    fn depose(&self, s: &mut State, n: u8) {
        let store = s.store.clone();
        let node = s.node_mut(n);
        if let Some(actor) = &mut node.actor {
            actor.record = store;
            actor.disarm_all();
        }
        node.jobs.retain(|job| !matches!(job.stage, Stage::Stored(_)));
        for question in std::mem::take(&mut node.questions) {
            if let Question::Revoke(_, key) = question
                && s.is_live(key)
            {
                s.put_wire(Wire::Revoke(key));
            }
        }
    }

    fn forget_of(&self, node: &mut Node) {
        let Some(actor) = &mut node.actor else { return };
        let record = actor.record.clone();
        for timer in TIMERS {
            if actor.is_armed(timer) && self.is_repeat(&record, What::Ring(timer)) {
                actor.disarm(timer);
            }
        }
        node.questions.retain(|question| self.matters(&record, *question));
    }

    fn is_repeat(&self, record: &RecRef, what: What) -> bool {
        self.book
            .step(record, what)
            .is_some_and(|decided| decided.record.is_none() && decided.acts.is_empty())
    }

    /// Whether some answer would do something. Revoking, searching and destroying do something
    /// wherever they are heard.
    fn matters(&self, record: &RecRef, question: Question) -> bool {
        let answers: &[What] = match question {
            Question::Preflight(attempt) => &[What::Ready(attempt, false)],
            Question::Locate(v) => {
                &[What::Located(v, None), What::Located(v, Some(KeyRef::Own(v)))]
            }
            Question::Probe(v, attempt) => &[
                What::Probed(v, attempt, Truth::Alive),
                What::Probed(v, attempt, Truth::Dead),
                What::Probed(v, attempt, Truth::Unknown),
            ],
            Question::Count(v) => &[What::Counted(v, 0), What::Counted(v, 1)],
            Question::Revoke(..) | Question::Sweep(_) | Question::Destroy(_) => return true,
        };
        answers.iter().any(|what| !self.is_repeat(record, *what))
    }
}
