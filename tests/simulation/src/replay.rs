//! The same seed twice, compared byte for byte.

use crate::flaws::Flaw;
use crate::run::{Mode, Outcome, run_traced};

/// Where two runs of one seed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line of the traces.
    pub line: usize,
    /// The one run.
    pub first: String,
    /// The other one.
    pub second: String,
}

/// Runs one seed twice. Also returns the first run.
#[must_use]
pub fn replay_twice(seed: u64, mode: Mode, flaw: Option<Flaw>) -> (Option<Difference>, Outcome) {
    let first = run_traced(seed, mode, flaw);
    let second = run_traced(seed, mode, flaw);
    if first.trace == second.trace {
        return (None, first);
    }
    let lines = first.trace.lines().zip(second.trace.lines()).enumerate();
    let difference = lines.into_iter().find(|(_, (a, b))| a != b);
    let difference = match difference {
        Some((line, (a, b))) => {
            Difference { line: line + 1, first: a.to_owned(), second: b.to_owned() }
        }
        None => Difference {
            line: first.trace.lines().count().min(second.trace.lines().count()) + 1,
            first: "one of them ends".into(),
            second: "the other one goes on".into(),
        },
    };
    (Some(difference), first)
}
