//! Liveness: from every state, the world left in peace finishes.
//!
//! The checker's own "eventually" does not see a promise that is kept for ever unkept in a cycle, so
//! it is not used. Instead, every state that the checker visits is left in peace: no more faults,
//! triggers or orders; what can happen happens in a fixed order in which answers come before timers
//! and every timer that is armed rings in the end. That run must reach an end within
//! [`PEACE_STEPS_MAX`] steps. Dead nodes come back last, and a node that was cut off only before
//! them, so that most states must finish without them.

use std::hash::{DefaultHasher, Hash, Hasher};

use keybaton_messages::VersionStatus;

use crate::actions::{Action, Fate, Source};
use crate::limits::PEACE_STEPS_MAX;
use crate::state::{State, TIMERS, Versions};
use crate::what::{KeyRef, Truth, What};
use crate::world::World;

fn fingerprint(s: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    s.hash(&mut hasher);
    hasher.finish()
}

/// The same moment with nothing more to come from outside.
fn in_peace(s: &State) -> State {
    State { faults: 0, triggers: 0, emergencies: 0, orders: 0, before: None, ..s.clone() }
}

impl World {
    /// Whether the world finishes when it is left in peace.
    pub(crate) fn finishes(&self, s: &State) -> bool {
        if s.broken.is_some() || self.is_cut() {
            return true;
        }
        let mut passed = Vec::new();
        let is_finished = self.walk(in_peace(s), |state, _| {
            let mark = fingerprint(state);
            if self.is_known(mark) {
                return Some(true);
            }
            if passed.contains(&mark) {
                return Some(false);
            }
            passed.push(mark);
            None
        });
        if is_finished {
            for mark in passed {
                self.finishing[page(mark)].lock().expect("no panic inside").insert(mark);
            }
        }
        is_finished
    }

    /// The steps of the world left in peace, until it ends, turns in a circle, or nothing happens.
    pub(crate) fn peace(&self, s: &State) -> Vec<(Action, State)> {
        let mut steps = Vec::new();
        let mut passed = Vec::new();
        self.walk(in_peace(s), |state, action| {
            steps.extend(action.map(|action| (action, state.clone())));
            let mark = fingerprint(state);
            let is_circle = passed.contains(&mark);
            passed.push(mark);
            is_circle.then_some(false)
        });
        steps
    }

    fn walk(
        &self,
        mut s: State,
        mut see: impl FnMut(&State, Option<Action>) -> Option<bool>,
    ) -> bool {
        let mut action = None;
        for _ in 0..PEACE_STEPS_MAX {
            if let Some(verdict) = see(&s, action) {
                return verdict;
            }
            if self.is_finished(&s) {
                return true;
            }
            let Some((next, state)) = self.next_in_peace(&s) else {
                return false;
            };
            (action, s) = (Some(next), state);
            if s.broken.is_some() {
                return false;
            }
        }
        false
    }

    fn is_known(&self, mark: u64) -> bool {
        self.finishing[page(mark)].lock().expect("no panic inside").contains(&mark)
    }

    fn next_in_peace(&self, s: &State) -> Option<(Action, State)> {
        let mut actions = Vec::new();
        self.all_actions(s, &mut actions);
        let mut ranked: Vec<_> = actions
            .into_iter()
            .filter_map(|action| Some((self.rank(s, action)?, action)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().find_map(|(_, action)| {
            let next = self.after(s, action)?;
            (next != *s).then_some((action, next))
        })
    }

    /// When it is this action's turn; `None`: it does not happen in peace.
    fn rank(&self, s: &State, action: Action) -> Option<usize> {
        let rank = match action {
            Action::Lands => 0,
            Action::LateIssue(_) | Action::LateRevoke(_) => 1,
            Action::SelfFence(_) => 2,
            Action::StopActor(_) | Action::DeposedWrites(_) => 3,
            Action::Rejoin(_) => 4,
            Action::Release(_) => 6,
            Action::Read(_) | Action::Granted(_) => 7,
            Action::Return(..) => 8,
            Action::Issue { .. } | Action::StoreSecret { .. } | Action::Revoke(_) => 9,
            Action::PersonCreates(_, KeyRef::Own(_)) => 11,
            Action::Fence(_) | Action::Waited(_) | Action::Reap(_) => 12,
            Action::Reconnect(_) => 50,
            Action::Restart(_) => 51,
            Action::Hear { source, what, fate: Fate::Well, .. } => rank_of_input(s, source, what)?,
            _ => return None,
        };
        Some(rank)
    }

    /// Every rotation has ended, nothing is owed, no version is between two lives, and the live
    /// keys are the ones that the record hands out.
    fn is_finished(&self, s: &State) -> bool {
        let record = &s.store.record;
        let active = s.store.open.and_then(|v| s.store.key(v));
        let is_settled = s.store.versions().all(|(_, status)| {
            matches!(status, VersionStatus::Active | VersionStatus::Revoked | VersionStatus::Gone)
        });
        let has_only_its_keys = s
            .keys
            .iter()
            .filter(|key| key.is_alive && key.at != KeyRef::Foreign)
            .all(|key| Some(key.at) == active);
        s.store.is_idle
            && record.queued.is_none()
            && record.obligations.is_empty()
            && is_settled
            && has_only_its_keys
            && self.works(s, active)
            && s.floating.is_none()
            && s.wires.is_empty()
            && s.secrets.iter().all(|(v, _)| Some(*v) == s.store.open)
            && s.asked == Versions::default()
    }
}

fn page(mark: u64) -> usize {
    usize::try_from(mark % 64).unwrap_or(0)
}

fn rank_of_input(s: &State, source: Source, what: What) -> Option<usize> {
    let rank = match (source, what) {
        (_, What::Started(_)) => 5,
        // Only the truth, and no list that was asked for too early.
        (_, What::Counted(v, left)) if left != s.count(v) => return None,
        (_, What::Swept(_, None, false)) => return None,
        (Source::Job(_) | Source::Question(_), What::Probed(_, _, Truth::Unknown)) => 14,
        (Source::Job(_) | Source::Question(_) | Source::Person(..), _) => 10,
        (Source::Timer(timer), _) => {
            20 + TIMERS.iter().position(|t| *t == timer).unwrap_or(TIMERS.len())
        }
        (Source::Nobody, What::KeyDead(_)) => 13,
        _ => return None,
    };
    Some(rank)
}
