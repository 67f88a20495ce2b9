//! What is owed beside and after a rotation: revoke this key, look for that label, destroy that
//! secret, drain and revoke that version.
//!
//! **Invariant:** a debt leaves the record only when it is paid, whatever became of its rotation.
//! **Invariant:** a key that another version or pair claims is never revoked, wherever it stands.

use std::time::Duration;

use keybaton_messages::{Label, ProviderKeyId, Timestamp, Version, VersionStatus};

use crate::decision::{AuditKind, Effect, Guard};
use crate::draft::Draft;
use crate::input::Input;
use crate::limits::{CUT_EVERY, TRIES_BEFORE_PAGE};
use crate::moves::doubled;
use crate::record::{Debt, Due, Obligation, PairRecord};

/// Owes `debt` from now on, and asks for it at once where that makes sense. A debt that is owed
/// already is not owed twice.
pub(crate) fn owe(draft: &mut Draft<'_>, debt: Debt) {
    let is_same = |o: &Obligation| same(&o.debt, &debt);
    if draft.record.obligations.iter().any(is_same) {
        return;
    }
    if !matches!(debt, Debt::Sweep { .. }) && !waits_for_revoke(&draft.record.obligations, &debt) {
        ask(draft, &debt);
    }
    let wait = wait(draft, &debt, 0);
    let due = draft.after(wait);
    push(draft, debt, due);
}

/// Owes the end of a version that its rotation did not live to see. Its calls are cut at `due`.
pub(crate) fn retire(draft: &mut Draft<'_>, version: Version, due: Due) {
    push(draft, Debt::Retire { version }, due);
}

fn push(draft: &mut Draft<'_>, debt: Debt, due: Due) {
    let since = draft.now();
    draft.record.obligations.push(Obligation { debt, since, tries: 0, due });
}

/// The death of a key may have to be confirmed with its secret, which therefore outlives it.
fn waits_for_revoke(owed: &[Obligation], debt: &Debt) -> bool {
    let is_of = |o: &Obligation| {
        o.debt.version() == debt.version() && matches!(o.debt, Debt::Revoke { .. })
    };
    matches!(debt, Debt::Destroy { .. }) && owed.iter().any(is_of)
}

fn same(a: &Debt, b: &Debt) -> bool {
    a.version() == b.version() && std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// The versions that wait to be drained and revoked.
pub(crate) fn retiring(record: &PairRecord) -> impl Iterator<Item = Version> {
    record
        .obligations
        .iter()
        .filter(|o| matches!(o.debt, Debt::Retire { .. }))
        .map(|o| o.debt.version())
}

/// Whether `version` waits to be drained and revoked.
pub(crate) fn is_retiring(record: &PairRecord, version: Version) -> bool {
    retiring(record).any(|retired| retired == version)
}

/// A new life of the owner: every question whose answer may have been lost is asked at once.
pub(crate) fn start(draft: &mut Draft<'_>) {
    let now = draft.now();
    for obligation in &mut draft.record.obligations {
        match &mut obligation.debt {
            Debt::Revoke { .. } | Debt::Destroy { .. } => {
                obligation.due = Due::after(now, Duration::ZERO);
            }
            Debt::Sweep { burned_at, .. } => *burned_at = (*burned_at).min(now),
            Debt::Retire { .. } => {}
        }
    }
}

/// Asks for everything at once.
pub(crate) fn hurry(draft: &mut Draft<'_>) {
    let now = draft.after(Duration::ZERO);
    for obligation in &mut draft.record.obligations {
        if !matches!(obligation.debt, Debt::Retire { .. }) {
            obligation.due = now;
        }
    }
}

/// The timer of obligations rang: asks for every one that is due, at least for the first.
pub(crate) fn due(draft: &mut Draft<'_>) {
    let now = draft.now();
    let Some(first) = draft.record.obligations.iter().map(|o| o.due.at).min() else {
        return;
    };
    let owed = draft.record.obligations.clone();
    for mut obligation in std::mem::take(&mut draft.record.obligations) {
        if obligation.due.at <= now.max(first) {
            obligation.tries = obligation.tries.saturating_add(1);
            if !waits_for_revoke(&owed, &obligation.debt) {
                ask(draft, &obligation.debt);
            }
            let wait = wait(draft, &obligation.debt, obligation.tries);
            obligation.due = draft.after(wait);
        }
        draft.record.obligations.push(obligation);
    }
}

fn ask(draft: &mut Draft<'_>, debt: &Debt) {
    let effect = match debt.clone() {
        Debt::Revoke { version, key_id } => {
            let confirms = draft.policy().confirm_dead || draft.is_compromised(version);
            Effect::Revoke {
                version,
                key_id,
                confirm_dead: draft.secret(version).filter(|_| confirms),
            }
        }
        Debt::Sweep { label, .. } => Effect::Sweep { label },
        Debt::Destroy { version } => Effect::Destroy {
            version,
            secret: draft.secret(version),
            label: draft.entry(version).and_then(|entry| entry.label.clone()),
        },
        Debt::Retire { version } => Effect::Cut { version },
    };
    draft.effect(effect);
}

/// How long after having asked for the `tries`-th time a debt is asked for again.
fn wait(draft: &Draft<'_>, debt: &Debt, tries: u32) -> Duration {
    let policy = draft.policy_in_force();
    let first = policy.attempt_every;
    match debt {
        Debt::Revoke { version, .. } if draft.is_compromised(*version) => first,
        Debt::Revoke { .. } => doubled(first, tries).min(policy.retry_keyless_max),
        Debt::Destroy { .. } => doubled(first, tries).min(policy.retry_min),
        Debt::Retire { .. } => CUT_EVERY,
        Debt::Sweep { burned_at, .. } => {
            let horizon = draft.now().until(*burned_at + policy.sweep_horizon);
            if horizon.is_zero() {
                return policy.retry_keyless_max;
            }
            // 5 s, 15 s, 60 s, 5 min after burning with the usual pause of 5 s, then hourly; and
            // once more right at the horizon, since only that listing can end the label.
            let regular = match [1, 3, 12, 60].get(tries as usize) {
                Some(steps) => draft.now().until(*burned_at + first * *steps),
                None => first * 720,
            };
            regular.max(first).min(horizon)
        }
    }
}

/// Takes the answers that are about debts. What the rotation has to hear too is handed back.
pub(crate) fn answered(draft: &mut Draft<'_>, answer: Input) -> Option<Input> {
    match answer {
        Input::Revoked { version } => revoked(draft, version),
        Input::RevokeRefused { version, after, ref why } => {
            revoke_failed(draft, version, after, why);
            None
        }
        Input::RevokeUnknown { version, ref why } => {
            revoke_failed(draft, version, None, why);
            None
        }
        Input::Swept { ref label, asked, found: Some(ref key_id) } => {
            found(draft, label, asked, key_id);
            None
        }
        Input::Swept { ref label, asked, .. } => {
            not_found(draft, label, asked);
            None
        }
        Input::SweepFailed { ref label, ref why } => {
            sweep_failed(draft, label, why);
            None
        }
        Input::KeyClaimed { version }
            if draft.record.status(version) == Some(VersionStatus::Unresolved) =>
        {
            claimed(draft, version);
            None
        }
        Input::Destroyed { version } => {
            forget(draft, |debt| matches!(debt, Debt::Destroy { version: v } if *v == version));
            None
        }
        Input::DestroyFailed { .. } => None,
        Input::GrantReturned { version, left: 0 } if is_retiring(&draft.record, version) => {
            retired(draft, version);
            None
        }
        other => Some(other),
    }
}

fn forget(draft: &mut Draft<'_>, is_paid: impl Fn(&Debt) -> bool) {
    draft.record.obligations.retain(|o| !is_paid(&o.debt));
}

/// Ends [`Debt::Retire`] because something stronger takes its place.
pub(crate) fn forget_retired(draft: &mut Draft<'_>, version: Version) {
    forget(draft, |debt| matches!(debt, Debt::Retire { version: v } if *v == version));
}

/// Nobody holds a retired version any more. The rotation that was leaving it has ended, so nothing
/// but its holders kept it alive.
fn retired(draft: &mut Draft<'_>, version: Version) {
    draft.guard(Guard::NoGrants(version));
    forget_retired(draft, version);
    draft.doom(version, false);
}

/// The provider confirms that the key of `version` is gone.
fn revoked(draft: &mut Draft<'_>, version: Version) -> Option<Input> {
    let owed = draft.record.obligations.iter().find_map(|o| match &o.debt {
        Debt::Revoke { version: v, key_id } if *v == version => Some(key_id.clone()),
        _ => None,
    })?;
    forget(draft, |debt| matches!(debt, Debt::Revoke { version: v, .. } if *v == version));
    draft.audit_key(AuditKind::Revoked, version, &owed, "");
    let destroy = Debt::Destroy { version };
    if draft.record.obligations.iter().any(|o| same(&o.debt, &destroy)) {
        ask(draft, &destroy);
    }
    match draft.record.status(version) {
        Some(VersionStatus::RevokePending) => {
            draft.set(version, VersionStatus::Revoked);
            owe(draft, Debt::Destroy { version });
        }
        Some(VersionStatus::Unresolved) => end_if_resolved(draft, version),
        _ => {}
    }
    Some(Input::Revoked { version })
}

/// A burned version ends when its key is revoked and its label is looked for no more.
fn end_if_resolved(draft: &mut Draft<'_>, version: Version) {
    let is_owed = |o: &Obligation| {
        o.debt.version() == version && matches!(o.debt, Debt::Revoke { .. } | Debt::Sweep { .. })
    };
    if !draft.record.obligations.iter().any(is_owed) {
        draft.set(version, VersionStatus::Gone);
        owe(draft, Debt::Destroy { version });
    }
}

fn revoke_failed(draft: &mut Draft<'_>, version: Version, after: Option<Duration>, why: &str) {
    let is_urgent = draft.is_compromised(version);
    let asked = after.unwrap_or_default().min(draft.policy_in_force().retry_min);
    let not_before = draft.after(asked);
    let mut tries = None;
    for obligation in &mut draft.record.obligations {
        if matches!(&obligation.debt, Debt::Revoke { version: v, .. } if *v == version) {
            tries = Some(obligation.tries);
            if obligation.due.at < not_before.at {
                obligation.due = not_before;
            }
        }
    }
    let Some(tries) = tries else { return };
    draft.note_error(why);
    let every = if is_urgent { 1 } else { TRIES_BEFORE_PAGE };
    if tries % TRIES_BEFORE_PAGE == every - 1 {
        draft.page(format!("{version} cannot be revoked: {why}"));
    }
}

/// A key stands under a burned label. It is ours to revoke unless somebody else claims it.
fn found(draft: &mut Draft<'_>, label: &Label, asked: Timestamp, key_id: &ProviderKeyId) {
    let Some((version, _)) = sweep_of(draft, label) else {
        return;
    };
    let is_elsewhere = draft
        .record
        .versions
        .iter()
        .any(|(v, entry)| *v != version && entry.key_id.as_ref() == Some(key_id));
    let is_being_revoked = draft
        .record
        .obligations
        .iter()
        .any(|o| matches!(&o.debt, Debt::Revoke { version: v, .. } if *v == version));
    if is_elsewhere {
        claimed_as_of(draft, version, asked);
    } else if is_being_revoked {
        // Its turn comes with the next listing.
    } else if draft.key_id(version).as_ref() == Some(key_id) {
        // Revoked already, and listed late: saying it again costs nothing.
        ask(draft, &Debt::Revoke { version, key_id: key_id.clone() });
    } else {
        draft.guard(Guard::KeyUnclaimed { version, key_id: key_id.clone(), fp: None });
        draft.edit_entry(version, |entry| entry.key_id = Some(key_id.clone()));
        draft.audit_key(AuditKind::Reconciled, version, key_id, label.as_str());
        draft.owe_revoke_of(version, key_id.clone());
    }
}

/// Nothing stands under a burned label. Only a listing begun after the horizon ends it.
fn not_found(draft: &mut Draft<'_>, label: &Label, asked: Timestamp) {
    let Some((version, burned_at)) = sweep_of(draft, label) else {
        return;
    };
    if asked >= burned_at + draft.policy_in_force().sweep_horizon {
        forget(draft, |debt| matches!(debt, Debt::Sweep { version: v, .. } if *v == version));
        end_if_resolved(draft, version);
    }
}

/// The commit found that somebody else claims the key under a burned label. The listing that found
/// it was begun when the label was asked for last.
fn claimed(draft: &mut Draft<'_>, version: Version) {
    let asked = draft.record.obligations.iter().find_map(|o| {
        matches!(&o.debt, Debt::Sweep { version: v, .. } if *v == version)
            .then(|| o.due.at.before(o.due.wait))
    });
    if let Some(asked) = asked {
        claimed_as_of(draft, version, asked);
    }
}

/// A key of somebody else counts as nothing found: it is neither revoked nor asked for for ever.
fn claimed_as_of(draft: &mut Draft<'_>, version: Version, asked: Timestamp) {
    let mut label = None;
    let mut is_news = false;
    for obligation in &mut draft.record.obligations {
        match &mut obligation.debt {
            Debt::Sweep { version: v, label: l, foreign, .. } if *v == version => {
                label = Some(l.clone());
                is_news = !*foreign;
                *foreign = true;
            }
            _ => {}
        }
    }
    let Some(label) = label else { return };
    if is_news {
        draft.audit(AuditKind::ForeignKey, label.to_string(), "found under our label");
        draft.page(format!("a key of somebody else stands under our label {label}"));
    }
    not_found(draft, &label, asked);
}

fn sweep_failed(draft: &mut Draft<'_>, label: &Label, why: &str) {
    let soon = draft.after(draft.policy_in_force().retry_keyless_max);
    for obligation in &mut draft.record.obligations {
        let is_it = matches!(&obligation.debt, Debt::Sweep { label: l, .. } if l == label);
        if is_it && obligation.due.at > soon.at {
            obligation.due = soon;
        }
    }
    if sweep_of(draft, label).is_some() {
        draft.note_error(why);
    }
}

fn sweep_of(draft: &Draft<'_>, label: &Label) -> Option<(Version, Timestamp)> {
    draft.record.obligations.iter().find_map(|o| match &o.debt {
        Debt::Sweep { version, label: l, burned_at, .. } if l == label => {
            Some((*version, *burned_at))
        }
        _ => None,
    })
}

/// Class B: the provider was never reached under this version's label. Its search may have ended
/// already, if the old key could not be probed for as long as that.
pub(crate) fn forget_label(draft: &mut Draft<'_>, version: Version) {
    if draft.record.status(version) != Some(VersionStatus::Unresolved) {
        return;
    }
    forget(draft, |debt| matches!(debt, Debt::Sweep { version: v, .. } if *v == version));
    end_if_resolved(draft, version);
}

/// Class B: the new key voided whatever stands under older labels that were never found.
pub(crate) fn forget_voided_labels(draft: &mut Draft<'_>) {
    let voided: Vec<Version> = draft
        .record
        .versions
        .iter()
        .filter(|(_, e)| e.status == VersionStatus::Unresolved && e.key_id.is_none())
        .map(|(version, _)| *version)
        .collect();
    for version in voided {
        forget_label(draft, version);
    }
}
