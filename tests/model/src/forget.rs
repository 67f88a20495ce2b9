//! Forgets what nobody can meet any more, so that fewer states are told apart.
//!
//! - Requests for what has happened already.
//! - Dead keys of ended versions that nobody hands out or holds.
//! - Questions whose every answer would be a repeat; they echo their version and attempt, so they
//!   stay repeats for ever, and a question that is asked again is the same one.
//! - Timers that would do nothing if they rang now. One that is left over could ring early in a
//!   later phase of its kind; as every timer may ring at any moment, that phase's own one does.

use keybaton_messages::VersionStatus;

use crate::book::RecRef;
use crate::state::{Node, Question, State, TIMERS, Wire};
use crate::what::{KeyRef, Truth, What};
use crate::world::World;

impl World {
    pub(crate) fn forget(&self, s: &mut State) {
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
        for node in &mut s.nodes {
            self.forget_of(node);
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
            Question::Locate(v) => &[What::Located(v, None), What::Located(v, Some(KeyRef::Own(v)))],
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
