//! Why a pair stands where it stands, in plain words, for status pages and people.
//!
//! **Invariant:** reads the record only; what it says is never an input of a decision.

use std::time::Duration;

use keybaton_messages::{Shown, Timestamp};

use crate::input::Timer;
use crate::phase::{End, Phase};
use crate::record::{Debt, Due, Gate, Obligation, PairRecord, Reclaim, Rotation};
use crate::timers;

/// How a pair stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The word of the present or last rotation; `None` before the first.
    pub shown: Option<Shown>,
    /// The phase behind that word, by its own name; `Idle` before the first rotation.
    pub phase: String,
    /// What it waits for, or how it ended, in one line.
    pub why: String,
    /// The next moment at which something happens by itself, in store time.
    pub next: Option<(Timer, Timestamp)>,
    /// What is owed, one line each.
    pub obligations: Vec<String>,
}

/// Explains a record as of `now` (store time).
#[must_use]
pub fn explain(record: &PairRecord, now: Timestamp) -> Explanation {
    let rotation = record.rotation.as_ref();
    Explanation {
        shown: rotation.map(|r| r.phase.shown()),
        phase: rotation.map_or_else(|| "Idle".to_owned(), |r| name(&r.phase)),
        why: rotation.map_or_else(
            || "no rotation yet; provision or import a key".to_owned(),
            |r| why(record, r, now),
        ),
        next: next(record),
        obligations: record.obligations.iter().map(|o| owed(o, now)).collect(),
    }
}

fn next(record: &PairRecord) -> Option<(Timer, Timestamp)> {
    let mut timers = timers::durable(record);
    if let Some(Phase::Settling { until, .. }) = record.rotation.as_ref().map(|r| &r.phase) {
        timers.push((Timer::Settle, *until));
    }
    timers.into_iter().map(|(timer, due)| (timer, due.at)).min_by_key(|(_, at)| *at)
}

/// The name of the variant, without its data.
fn name(phase: &Phase) -> String {
    let text = format!("{phase:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn why(record: &PairRecord, rotation: &Rotation, now: Timestamp) -> String {
    let mut line = phase_in_words(&rotation.phase, now);
    if !rotation.phase.is_final() {
        if let Some(why) = rotation.reclaim {
            line.push_str(reclaim_in_words(why));
        }
        if let Some(by) = rotation.revoke_by {
            line.push_str(&format!("; emergency: the key is revoked {}", within(by, now)));
        }
    }
    if let Gate::Paused(_) = record.gate {
        line.push_str("; no key is handed out, tasks wait");
    }
    if let Some(error) = &rotation.error {
        line.push_str(&format!("; last refusal: {error}"));
    }
    line
}

fn phase_in_words(phase: &Phase, now: Timestamp) -> String {
    match phase {
        Phase::Queued { retry } => format!("waits for its next attempt {}", within(*retry, now)),
        Phase::Preflight => "asks whether an attempt can succeed".to_owned(),
        Phase::AwaitingPerson { new, until, .. } => {
            format!("waits for a person to create {new} {}", within(*until, now))
        }
        Phase::Issuing { new } => format!("asks the provider for {new}"),
        Phase::Locating { new } => format!("looks for the secret of {new}"),
        Phase::Settling { until, .. } => {
            format!("waits out a call that may still execute, {}", within(*until, now))
        }
        Phase::ProbingOld { .. } => "asks whether the old key is still alive".to_owned(),
        Phase::Verifying { new, tries, .. } => {
            format!("tries the key of {new}; refused {tries} times so far")
        }
        Phase::Emptying { old, hard } | Phase::Draining { old, hard, .. } => {
            format!("waits for the holders of {old}; policy decides {}", within(*hard, now))
        }
        Phase::Checkpointing { old, hard } => {
            format!("asked the holders of {old} again; policy decides {}", within(*hard, now))
        }
        Phase::Overlap { old, until } => format!(
            "nobody holds {old}; kept for a rollback, it is revoked {}",
            within(*until, now)
        ),
        Phase::Revoking { old, forced: true } => {
            format!("revokes {old} although some held it")
        }
        Phase::Revoking { old, .. } => format!("revokes {old}"),
        Phase::Complete { end: End::Rotated } => "the new key replaced the old one".to_owned(),
        Phase::Complete { end: End::Superseded } => "another rotation took its place".to_owned(),
        Phase::Failed { cause } => cause.in_words().to_owned(),
    }
}

fn reclaim_in_words(why: Reclaim) -> &'static str {
    match why {
        Reclaim::Stuck => "; holders stay too long, so the old key is probed",
        Reclaim::Ordered => "; a rollback was ordered, so the old key is probed",
        Reclaim::KeyDead => "; the new key is dead, so the old key is probed",
    }
}

fn owed(obligation: &Obligation, now: Timestamp) -> String {
    let Obligation { debt, tries, due, .. } = obligation;
    let what = match debt {
        Debt::Revoke { version, key_id } => format!("revoke {key_id} of {version}"),
        Debt::Sweep { version, foreign: true, .. } => {
            format!("look for {version} at the provider (a foreign key has its label)")
        }
        Debt::Sweep { version, .. } => format!("look for {version} at the provider"),
        Debt::Destroy { version } => format!("destroy the secret of {version}"),
        Debt::Retire { version } => {
            return format!("drain and revoke {version}; its calls are cut {}", within(*due, now));
        }
    };
    format!("{what}; asked {tries} times, again {}", within(*due, now))
}

/// "in 90 s", or "now" for what is due.
fn within(due: Due, now: Timestamp) -> String {
    let left = due.left(now);
    if left.is_zero() { "now".to_owned() } else { format!("in {}", rounded(left)) }
}

fn rounded(wait: Duration) -> String {
    match wait.as_secs() {
        0 => format!("{} ms", wait.as_millis()),
        seconds @ 1..180 => format!("{seconds} s"),
        seconds @ 180..10_800 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

impl PairRecord {
    /// Whether a rotation runs or something is owed: such a pair is looked after first.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let runs = self.rotation.as_ref().is_some_and(|r| !r.phase.is_final());
        runs || !self.obligations.is_empty()
    }
}
