//! The verdict, as it is printed.

use serde::Serialize;

use crate::calls::Counted;
use crate::findings::Findings;
use crate::keys::Lives;
use crate::tasks::Told;

/// Whether everything that was promised was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// No violation.
    Held,
    /// At least one violation.
    Broken,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which promise: S1-S9, L1-L4.
    pub rule: &'static str,
    /// What happened, in words.
    pub what: String,
}

/// Keys of ours that authenticate at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LiveKeys {
    /// One for each pair with an active version.
    pub expected: u64,
    /// Counted in the ledger: keys under our labels, and keys that a pair names as active.
    pub found: u64,
}

/// What the files prove. Counts are shown also where the rules forgive them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `held` when `violations` is empty.
    pub verdict: Held,
    /// Promises that were not kept, by rule; long lists are cut short with a count.
    pub violations: Vec<Violation>,
    /// Tasks known to the journals or to the ledger, or expected by the caller.
    pub tasks: u64,
    /// Tasks that are not done.
    pub tasks_dropped: u64,
    /// Agents' calls that ended as they should.
    pub calls_ok: u64,
    /// Agents' calls that were cut by their key's death or abandoned by their caller.
    pub calls_interrupted: u64,
    /// Agents' calls that were answered 401.
    pub calls_refused: u64,
    /// Agents' calls that failed for another reason: an injected fault, a bad request.
    pub calls_failed: u64,
    /// Agents' calls that died with a killed process.
    pub calls_cut_by_kill: u64,
    /// Of the interrupted and refused calls, those that ended well later, for the same task and
    /// step, under another key.
    pub calls_repeated: u64,
    /// Tenants that were not rotated and noticed something.
    pub other_tenants_touched: u64,
    /// Step numbers without a result.
    pub steps_lost: u64,
    /// Step numbers with two results, and side effects that happened twice.
    pub steps_doubled: u64,
    /// Steps that only a checkpoint speaks for: their entries were compacted away.
    pub steps_compacted: u64,
    /// Every rotated pair had an older key, and all of its older keys are dead.
    pub old_key_dead: bool,
    /// Keys of ours that authenticate at the end.
    pub live_keys: LiveKeys,
    /// Last lines that a kill tore, over the three files.
    pub lines_truncated: u64,
}

pub(crate) fn compose(
    findings: Findings,
    told: Told,
    counted: Counted,
    lives: Lives,
    lines_truncated: u64,
) -> Verdict {
    let other_tenants_touched = findings.touched();
    Verdict {
        verdict: if findings.is_empty() { Held::Held } else { Held::Broken },
        violations: findings.into_violations(),
        tasks: told.tasks,
        tasks_dropped: told.dropped,
        calls_ok: counted.ok,
        calls_interrupted: counted.interrupted,
        calls_refused: counted.refused,
        calls_failed: counted.failed,
        calls_cut_by_kill: counted.cut_by_kill,
        calls_repeated: counted.repeated,
        other_tenants_touched,
        steps_lost: told.lost,
        steps_doubled: told.doubled + counted.effects_doubled,
        steps_compacted: told.compacted,
        old_key_dead: lives.old_key_dead,
        live_keys: lives.live,
        lines_truncated,
    }
}
