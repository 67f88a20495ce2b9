//! Judges a run from what was written down about it, and from nothing else.
//!
//! ```text
//!  ledger.jsonl  what happened at the provider      ─┐
//!  tasks.jsonl   what the tasks' journals say       ─┼─► judge ─► Verdict: held | broken, and why
//!  pairs.jsonl   what the pair records say           │
//!  audit.jsonl   the chain of audit records         ─┘
//!  Rules         who was to be rotated, who was killed
//! ```
//!
//! The provider's ledger is the truth about keys and calls; the others are claims that are
//! compared with it. The rules have the numbers S1-S9 (safety) and L1-L4 (an end is reached).
//! S10 (no key anywhere else) is asked of whole directories: [`hunt`].
//!
//! **Invariant:** shares no code with the system that is judged; the formats are written down
//! here a second time.
//! **Invariant:** one pass over each file, memory in proportion to keys, tasks, tool calls and
//! broken calls, not to the length of the ledger.
//! **Invariant:** a verdict is `held` exactly when there is no violation.

mod audit;
mod calls;
mod error;
mod findings;
pub mod hunt;
mod keys;
mod ledger;
mod limits;
mod lines;
mod names;
mod pairs;
mod rules;
mod tasks;
mod tools;
mod verdict;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

pub use error::OracleError;
pub use rules::{Kill, PairName, Rules, TaskName};
pub use verdict::{Held, LiveKeys, Verdict, Violation};

use audit::{Audit, AuditLine};
use calls::Calls;
use findings::Findings;
use ledger::{Event, Fact};
use names::Names;
use pairs::Pairs;
use tasks::Tasks;

/// Where the evidence lies.
#[derive(Clone, Debug)]
pub struct Files {
    /// What happened at the provider.
    pub ledger: PathBuf,
    /// What the journals of tasks say.
    pub tasks: PathBuf,
    /// What the records of pairs say.
    pub pairs: PathBuf,
    /// The audit as it was shipped; without it S7-S9 are not judged.
    pub audit: Option<PathBuf>,
}

/// Judges the run that these files tell of.
///
/// # Errors
/// [`OracleError`] when a file cannot be read or is no evidence: a malformed line, a gap in the
/// ledger, two pairs that share a project. A last line without its end is what a kill leaves
/// behind; it is left out and counted.
pub fn judge_files(files: &Files, rules: &Rules) -> Result<Verdict, OracleError> {
    let open = |path: &PathBuf| match File::open(path) {
        Ok(file) => Ok(BufReader::with_capacity(limits::READ_BUFFER_BYTES, file)),
        Err(source) => Err(OracleError::Open { path: path.clone(), source }),
    };
    let audit = files.audit.as_ref().map(open).transpose()?;
    judge(open(&files.ledger)?, open(&files.tasks)?, open(&files.pairs)?, audit, rules)
}

/// Judges the run that these streams of lines tell of; `audit` may be missing, then S7-S9 are not
/// judged.
///
/// # Errors
/// As [`judge_files`].
pub fn judge(
    ledger: impl BufRead,
    tasks: impl BufRead,
    pairs: impl BufRead,
    audit: Option<impl BufRead>,
    rules: &Rules,
) -> Result<Verdict, OracleError> {
    let mut names = Names::default();
    let mut findings = Findings::default();
    let mut truncated = 0;

    let mut pairs_seen = Pairs::new(rules);
    truncated += lines::each("pairs", pairs, |number, line| {
        pairs_seen.add(&mut names, number, lines::parse("pairs", number, line)?)
    })?;
    let mut tasks_seen = Tasks::default();
    truncated += lines::each("tasks", tasks, |number, line| {
        tasks_seen.add(&mut names, number, lines::parse("tasks", number, line)?)
    })?;

    let mut chains = audit.as_ref().map_or_else(Audit::default, |_| Audit::expected());
    if let Some(audit) = audit {
        truncated += lines::each("audit", audit, |number, line| {
            let line: AuditLine = lines::parse("audit", number, line)?;
            chains.add(&mut names, &pairs_seen, number, &line)
        })?;
    }

    let mut keys = keys::Keys::default();
    let mut calls = Calls::new(rules);
    let mut seq = 0;
    truncated += lines::each("ledger", ledger, |number, line| {
        let fact: Fact<'_> = lines::parse("ledger", number, line)?;
        if fact.seq != seq + 1 {
            let (expected, found) = (seq + 1, fact.seq);
            return Err(OracleError::Gap { line: number, expected, found });
        }
        seq = fact.seq;
        let at = calls::Moment { seq: fact.seq, at_us: fact.at_us };
        match fact.event(number)? {
            Event::Opened => calls.reopened(fact.seq),
            Event::KeyCreated(born) => keys.created(&mut names, &born, number)?,
            Event::KeyDied(death) => {
                let key = keys.died(&mut names, &death, number)?;
                calls.key_died(key, death.cause.is_by_us());
            }
            Event::AdminCall => {}
            Event::Started(start) => {
                calls.started(&mut names, &pairs_seen, &start, at, number)?;
            }
            Event::Ended(end) => calls.ended(at, end, number)?,
        }
        Ok(())
    })?;
    calls.close();

    let told = tasks_seen.judge(rules, &names, &calls, &mut findings);
    let counted = calls.judge(&names, &pairs_seen, &tasks_seen, &keys, &mut findings);
    let lives = keys.judge(rules, &names, &pairs_seen, calls.used(), &mut findings);
    chains.judge(rules, &names, &pairs_seen, &keys, &mut findings);
    pairs_seen.judge(&mut findings);

    Ok(verdict::compose(findings, told, counted, lives, truncated))
}
