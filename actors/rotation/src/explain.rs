//! A record in words, for whoever looks at it: where it stands, why, until when, what is owed.

use keybaton_messages::{Shown, Timestamp};

use crate::input::Timer;
use crate::phase::{End, Phase};
use crate::record::{Debt, Gate, Obligation, PairRecord, Pause, Rotation};
use crate::timers;

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The word of the mission; `None` before the first rotation.
    pub shown: Option<Shown>,
    /// The phase by its own name; `Idle` before the first rotation.
    pub phase: String,
    /// Why it stands there and what it waits for, one line.
    pub why: String,
    /// The timer that rings next, and when (store time).
    pub next: Option<(Timer, Timestamp)>,
    /// What is owed, one line each.
    pub obligations: Vec<String>,
}

/// Explains a record.
#[must_use]
pub fn explain(record: &PairRecord, now: Timestamp) -> Explanation {
    let rotation = record.rotation.as_ref();
    let mut why = rotation.map_or_else(|| idle(record), |rotation| why(rotation, now));
    if let Some(error) = rotation.and_then(|rotation| rotation.error.as_deref()) {
        why = format!("{why}; last refusal: {error}");
    }
    if record.gate == Gate::Paused(Pause::NoCredential) {
        why.push_str("; the gate is shut: there is no live key");
    }
    Explanation {
        shown: rotation.map(|rotation| rotation.phase.shown()),
        phase: rotation.map_or_else(|| "Idle".to_owned(), |rotation| name(&rotation.phase)),
        why,
        next: timers::durable(record)
            .into_iter()
            .map(|(timer, due)| (timer, due.at))
            .min_by_key(|t| t.1),
        obligations: record
            .obligations
            .iter()
            .map(|owed| debt(owed, now))
            .collect(),
    }
}

fn name(phase: &Phase) -> String {
    let text = format!("{phase:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn idle(record: &PairRecord) -> String {
    match record.active {
        Some(active) => format!("{active} is active and no rotation was asked for"),
        None => "no key was asked for yet".to_owned(),
    }
}

fn left(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.until(at).as_secs_f64();
    format!("{seconds:.1} s")
}

fn why(rotation: &Rotation, now: Timestamp) -> String {
    match &rotation.phase {
        Phase::Queued { retry } => format!("the next attempt is in {}", left(retry.at, now)),
        Phase::Preflight => "asking whether an issue can succeed".to_owned(),
        Phase::AwaitingPerson { new, until, .. } => {
            format!(
                "a person must create the key of {new} within {}",
                left(until.at, now)
            )
        }
        Phase::Issuing { new } => format!("the provider is asked for the key of {new}"),
        Phase::Locating { new } => {
            format!("looking whether the secret of {new} was stored before the answer got lost")
        }
        Phase::Settling { new, until } => format!(
            "the issue of {new} was ambiguous: it may still execute for {}",
            left(until.at, now)
        ),
        Phase::ProbingOld { new } => {
            format!("trying whether the old key survived the ambiguous issue of {new}")
        }
        Phase::Verifying { new, tries, .. } => {
            format!("trying {new} out; {tries} probes were refused so far")
        }
        Phase::Emptying { old, hard } => format!(
            "{old} is closed; waiting for its holders before the provider voids it; policy decides in {}",
            left(hard.at, now)
        ),
        Phase::Draining { old, soft, .. } => format!(
            "{old} is closed; waiting for its holders; they are asked again in {}",
            left(soft.at, now)
        ),
        Phase::Checkpointing { old, hard } => format!(
            "holders of {old} were asked again; policy decides in {}",
            left(hard.at, now)
        ),
        Phase::Overlap { old, until } => format!(
            "nobody holds {old}; it is kept for a rollback for {}",
            left(until.at, now)
        ),
        Phase::Revoking { old, forced: false } => {
            format!("the provider is told to revoke {old} until that is confirmed")
        }
        Phase::Revoking { old, forced: true } => {
            format!("{old} is revoked although somebody held it: its deadline came")
        }
        Phase::Complete { end: End::Rotated } => "done".to_owned(),
        Phase::Complete {
            end: End::Superseded,
        } => "another rotation took its place".to_owned(),
        Phase::Failed { cause } => format!("failed: {cause:?}; the active key was left alone"),
    }
}

fn debt(owed: &Obligation, now: Timestamp) -> String {
    let what = match &owed.debt {
        Debt::Revoke { version, key_id } => format!("revoke {version} ({key_id})"),
        Debt::Sweep { version, label, .. } => {
            format!("look for a key named {label} ({version}) and revoke it")
        }
        Debt::Destroy { version } => format!("destroy the secret of {version}"),
        Debt::Retire { version } => format!("drain {version}, then revoke it"),
    };
    format!(
        "{what}; {} tries, next in {}",
        owed.tries,
        left(owed.due.at, now)
    )
}
