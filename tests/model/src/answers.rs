//! What the owner's questions may be answered, and when a timer may ring.
//!
//! An answer is as old as the moment it is given; counts alone may lie, since only the journal's
//! guard knows what grants are left.

use keybaton_messages::VersionStatus;
use keybaton_rotation::Timer;

use crate::config::{Fault, Mutant};
use crate::state::{Question, State, Wire};
use crate::what::{KeyRef, Truth, V, What};
use crate::world::World;

impl World {
    /// Every answer that this question of this node may get now.
    pub(crate) fn answers(&self, s: &State, n: u8, question: Question) -> Vec<What> {
        let mut all = Vec::new();
        match question {
            Question::Preflight(attempt) => {
                all.push(What::Ready(attempt, self.config.person));
                if self.may(s, Fault::Unready) {
                    all.push(What::Unready(attempt));
                }
            }
            // Locating waits for this process's own call under that label.
            Question::Locate(v) if s.node(n).job(v).is_some() => {}
            Question::Locate(v) => all.push(What::Located(v, s.secret(v))),
            Question::Probe(v, attempt) => self.probes(s, v, attempt, &mut all),
            Question::Revoke(v, key) => {
                if !s.is_live(key) {
                    all.push(What::Revoked(v));
                } else if self.may(s, Fault::RevokeErrs) {
                    all.push(What::NotRevoked(v));
                    all.push(What::MaybeRevoked(v));
                }
            }
            Question::Sweep(v) => self.sweeps(s, v, &mut all),
            Question::Destroy(v) => all.push(What::Destroyed(v)),
            Question::Count(v) => {
                let left = s.count(v);
                all.push(What::Counted(v, left));
                if left > 0 {
                    all.push(What::Counted(v, 0));
                }
            }
        }
        all
    }

    fn probes(&self, s: &State, v: V, attempt: V, all: &mut Vec<What>) {
        let is_new = s.store.status(v) == Some(VersionStatus::Staged);
        let truth = self.truth(s, v);
        all.push(What::Probed(v, attempt, truth));
        if self.may(s, Fault::ProbeErrs) && truth != Truth::Unknown {
            all.push(What::Probed(v, attempt, Truth::Unknown));
            // A good new key may not be known everywhere yet.
            if truth == Truth::Alive && is_new {
                all.push(What::Probed(v, attempt, Truth::Dead));
            }
        }
    }

    /// What an honest probe of this version finds.
    fn truth(&self, s: &State, v: V) -> Truth {
        let is_new = s.store.status(v) == Some(VersionStatus::Staged);
        match s.secret(v) {
            _ if is_new && self.config.mutant == Mutant::PromoteUnverified => Truth::Alive,
            None => Truth::Unknown,
            key if self.works(s, key) => Truth::Alive,
            Some(_) => Truth::Dead,
        }
    }

    /// Whether only a fault answers so.
    pub(crate) fn is_fault(&self, s: &State, what: What) -> bool {
        match what {
            What::Unready(_)
            | What::Refused(_)
            | What::Unknown(_)
            | What::NotRevoked(_)
            | What::MaybeRevoked(_)
            | What::Swept(_, Some(KeyRef::Foreign), _) => true,
            What::Probed(v, _, found) => found != self.truth(s, v),
            _ => false,
        }
    }

    /// The horizon is so far that nothing sent under the label before it executes after it.
    fn sweeps(&self, s: &State, v: V, all: &mut Vec<What>) {
        let stands = s.keys.iter().find(|key| key.is_alive && key.at.label() == Some(v));
        match stands {
            Some(key) => all.push(What::Swept(v, Some(key.at), false)),
            // Too early to mean anything; it is asked for again.
            None if s.may_be_issued(v) => {
                if !self.config.is_coarse {
                    all.push(What::Swept(v, None, false));
                }
            }
            None => all.push(What::Swept(v, None, true)),
        }
        if self.may(s, Fault::ForeignKey) {
            all.push(What::Swept(v, Some(KeyRef::Foreign), false));
        }
    }

    /// Whether the provider accepts this key.
    pub(crate) fn works(&self, s: &State, key: Option<KeyRef>) -> bool {
        key.and_then(|key| s.key(key)).is_some_and(|key| key.is_alive && !key.is_bad)
    }

    /// Whether a timer may ring now. All may at any time, except the one that waits for something
    /// that is certain to be over: an abandoned issue executes within the settle wait or never.
    pub(crate) fn may_ring(&self, s: &State, timer: Timer) -> bool {
        let may_execute = s.wires.iter().any(|wire| matches!(wire, Wire::Issue(_)))
            || s.nodes.iter().any(|node| !node.jobs.is_empty());
        match timer {
            Timer::Settle => !may_execute || self.config.mutant == Mutant::NoSettle,
            Timer::DrainMax | Timer::Soft => !self.config.is_coarse,
            _ => true,
        }
    }
}
