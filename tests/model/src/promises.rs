//! What is promised, checked after every step and at every write.

use keybaton_messages::VersionStatus;
use keybaton_rotation::Gate;

use crate::book::{Move, Rec};
use crate::config::Promise;
use crate::state::{Behind, Question, State};
use crate::what::{KeyRef, V, small};
use crate::world::World;

impl World {
    /// Notes that a promise broke, if it is one that this world is judged by.
    pub(crate) fn breaks(&self, s: &mut State, promise: Promise) {
        if self.config.judged.contains(&promise) {
            s.break_promise(promise);
        }
    }

    /// What must be true at every moment.
    pub(crate) fn check(&self, s: &mut State) {
        let holders = s.nodes.iter().filter(|node| node.is_serving());
        let mut held: Vec<_> = holders.filter_map(|node| node.task).map(KeyRef::Own).collect();
        held.push(KeyRef::Foreign);
        let is_killed =
            |key: &KeyRef| s.key(*key).is_some_and(|key| key.is_killed && !key.is_forced);
        if held.iter().any(is_killed) {
            self.breaks(s, Promise::HeldKeysLive);
        }
        if (0..self.config.nodes).any(|n| hands_out_wrongly(s, n)) {
            self.breaks(s, Promise::OnlyGranted);
        }
        if s.keys.iter().any(|key| key.is_alive && is_forgotten(s, key.at)) {
            self.breaks(s, Promise::NoKeyForgotten);
        }
    }

    /// What must be true of every accepted write.
    pub(crate) fn check_write(&self, s: &mut State, behind: Behind, decided: &Move) {
        let Some(new) = &decided.record else { return };
        let old = s.store.clone();
        if behind.epoch {
            self.breaks(s, Promise::OneWriter);
        }
        if behind.rev || !decided.is_monotone || has_gone_back(&old, new) {
            self.breaks(s, Promise::Monotone);
        }
        if !has_one_active(new) {
            self.breaks(s, Promise::OneActive);
        }
        let is_untried = new.versions().any(|(v, status)| {
            let is_promoted =
                status == VersionStatus::Active && old.status(v) == Some(VersionStatus::Staged);
            is_promoted && !self.works(s, new.key(v))
        });
        if is_untried {
            self.breaks(s, Promise::VerifiedFirst);
        }
    }

    /// What must be true of every question that is asked.
    pub(crate) fn check_question(&self, s: &mut State, question: Question) {
        let Question::Revoke(v, key) = question else { return };
        let is_elsewhere = key == KeyRef::Foreign
            || s.store.versions().any(|(other, status)| {
                other != v && s.store.key(other) == Some(key) && may_be_used(status)
            });
        if is_elsewhere {
            self.breaks(s, Promise::OnlyOursRevoked);
        }
    }

    /// The secret of a version is destroyed.
    pub(crate) fn secret_goes(&self, s: &mut State, v: V) {
        if s.secret(v).is_some() && s.store.status(v).is_some_and(may_be_used) {
            self.breaks(s, Promise::SecretsKept);
        }
        s.secrets.retain(|(label, _)| *label != v);
    }
}

fn may_be_used(status: VersionStatus) -> bool {
    use VersionStatus::{Active, Draining, Staged};
    matches!(status, Staged | Active | Draining)
}

/// S3 of one node.
fn hands_out_wrongly(s: &State, n: u8) -> bool {
    let node = s.node(n);
    let used = node.open.into_iter().chain(node.task);
    node.is_serving()
        && used.into_iter().any(|v| {
            let is_forced = s.key(KeyRef::Own(v)).is_some_and(|key| key.is_forced);
            let is_fit = match s.store.status(v) {
                Some(VersionStatus::Active | VersionStatus::Draining) => s.grants(n).has(v),
                _ => false,
            };
            !is_fit && !is_forced
        })
}

/// S4 of one live key.
fn is_forgotten(s: &State, at: KeyRef) -> bool {
    let Some(v) = at.label() else { return false };
    match s.store.status(v) {
        Some(VersionStatus::Intent | VersionStatus::Unresolved) => false,
        None | Some(VersionStatus::Gone | VersionStatus::Revoked) => true,
        Some(_) => s.store.key(v) != Some(at),
    }
}

/// S8 of one write.
fn has_gone_back(old: &Rec, new: &Rec) -> bool {
    old.versions().any(|(v, was)| {
        let Some(is) = new.status(v) else { return true };
        let is_reopened = was == VersionStatus::Draining && is == VersionStatus::Active;
        is < was && !is_reopened
    })
}

/// S2 of one record.
fn has_one_active(rec: &Rec) -> bool {
    let mut active = rec.versions().filter(|(_, status)| *status == VersionStatus::Active);
    let (first, second) = (active.next().map(|(v, _)| v), active.next());
    let pointed = rec.record.active.map(small);
    second.is_none() && first == pointed && (rec.record.gate == Gate::Open) == first.is_some()
}
