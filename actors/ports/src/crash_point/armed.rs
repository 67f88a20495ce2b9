//! The places of a program that has them, and what happens there.
//!
//! **Invariant:** says on standard error what it does before it does it, so that a test knows that
//! the place was reached.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use keybaton_messages::TenantId;
use keybaton_rotation::{Effect, PairRecord, Phase};
use rustix::process::{Signal, getpid, kill_process};

use super::disk;
use super::script::{Script, Way};

/// The environment variable with the scripts.
const SCRIPTS: &str = "KEYBATON_CRASH_POINT";

/// The environment variable that names a way to be wrong.
const MUTANT: &str = "KEYBATON_CRASH_MUTANT";

/// A thread that has sent a signal to its process goes on until the kernel has stopped it.
const SIGNAL_TAKES: Duration = Duration::from_millis(100);

fn scripts() -> &'static [Script] {
    static ARMED: OnceLock<Vec<Script>> = OnceLock::new();
    ARMED.get_or_init(|| {
        let text = std::env::var(SCRIPTS).unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed = parts.map(|part| part.parse().map_err(|why| format!("{part}: {why}")));
        parsed.collect::<Result<_, String>>().unwrap_or_else(|why| {
            say(&format!("{SCRIPTS} cannot be read: {why}"));
            std::process::exit(3);
        })
    })
}

fn say(line: &str) {
    // Nobody listens to a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// This process has come to `place` on behalf of `tenant`.
pub fn reach(place: &str, tenant: &TenantId) {
    let struck = scripts().iter().filter(|script| script.strikes(place, tenant.as_str()));
    for script in struck {
        let (place, way) = (place.to_owned(), script.way);
        match script.delay {
            None => carry_out(&place, way),
            Some(delay) => drop(std::thread::spawn(move || {
                std::thread::sleep(delay);
                carry_out(&place, way);
            })),
        }
    }
}

fn carry_out(place: &str, way: Way) {
    say(&format!("crash point {place}: {way:?}"));
    match way {
        Way::Kill => signal(Signal::KILL),
        Way::Stop => signal(Signal::STOP),
        Way::Refuse => disk::refuse(true),
        Way::Stumble => disk::refuse(false),
        Way::Twice | Way::Tell => {}
    }
}

fn signal(signal: Signal) {
    if let Err(error) = kill_process(getpid(), signal) {
        say(&format!("crash point: {signal:?} was not sent: {error}"));
    }
    std::thread::sleep(SIGNAL_TAKES);
}

/// The next record is about to be committed.
pub fn committing(before: &PairRecord, next: &PairRecord) {
    reach(&format!("{}.committing", transition(before, next)), &next.pair.tenant);
}

/// The next record is durable, and nobody has acted on it yet.
pub fn committed(before: &PairRecord, next: &PairRecord) {
    reach(&format!("{}.committed", transition(before, next)), &next.pair.tenant);
}

/// The phase that a commit leads to; "started" for a new life's first commit, "note" for one that
/// changes no phase.
fn transition(before: &PairRecord, next: &PairRecord) -> &'static str {
    if before.epoch != next.epoch {
        return "started";
    }
    let phase_of = |record: &PairRecord| record.rotation.as_ref().map(|it| phase_name(&it.phase));
    match phase_of(next) {
        Some(phase) if phase_of(before) != Some(phase) => phase,
        _ => "note",
    }
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Queued { .. } => "queued",
        Phase::Preflight => "preflight",
        Phase::AwaitingPerson { .. } => "awaiting-person",
        Phase::Issuing { .. } => "issuing",
        Phase::Locating { .. } => "locating",
        Phase::Settling { .. } => "settling",
        Phase::ProbingOld { .. } => "probing-old",
        Phase::Verifying { .. } => "verifying",
        Phase::Emptying { .. } => "emptying",
        Phase::Draining { .. } => "draining",
        Phase::Checkpointing { .. } => "checkpointing",
        Phase::Overlap { .. } => "overlap",
        Phase::Revoking { .. } => "revoking",
        Phase::Complete { .. } => "complete",
        Phase::Failed { .. } => "failed",
    }
}

/// Whether what is done at `place` is to be done twice.
#[must_use]
pub fn doubles(place: &str, tenant: &TenantId) -> bool {
    let is_doubled = scripts().iter().any(|script| script.doubles(place, tenant.as_str()));
    if is_doubled {
        say(&format!("crash point {place}: {:?}", Way::Twice));
    }
    is_doubled
}

/// Whether this effect is to be carried out twice.
#[must_use]
pub fn doubles_effect(effect: &Effect, tenant: &TenantId) -> bool {
    effect_name(effect).is_some_and(|name| doubles(name, tenant))
}

/// `None` for what is never doubled: a label is sent once, ever, and a reply has one reader.
fn effect_name(effect: &Effect) -> Option<&'static str> {
    Some(match effect {
        Effect::Preflight { .. } => "effect.preflight",
        Effect::Locate { .. } => "effect.locate",
        Effect::Probe { .. } => "effect.probe",
        Effect::Ask { .. } => "effect.ask",
        Effect::Revoke { .. } => "effect.revoke",
        Effect::Sweep { .. } => "effect.sweep",
        Effect::Destroy { .. } => "effect.destroy",
        Effect::Count { .. } => "effect.count",
        Effect::Close { .. } => "effect.close",
        Effect::Signal { .. } => "effect.signal",
        Effect::Cut { .. } => "effect.cut",
        Effect::Arm(..) | Effect::ArmFor(..) => "effect.arm",
        Effect::Publish => "effect.publish",
        Effect::Witness => "effect.witness",
        Effect::Page(_) => "effect.page",
        Effect::Issue { .. } | Effect::Reply(_) => return None,
    })
}

/// Whether this process is to be wrong in this way.
#[must_use]
pub fn is_mutant(name: &str) -> bool {
    static NAMED: OnceLock<String> = OnceLock::new();
    NAMED.get_or_init(|| std::env::var(MUTANT).unwrap_or_default()) == name
}
