//! Faults never stop, and no promise is ever broken.

use std::time::Duration;

use keybaton_evidence::{Evidence, budget, command};
use keybaton_simulation::{Flaw, Mode, seeds};

use crate::flaws::refute;
use crate::proof::{run_asked, run_seeds, told};

/// How long an ordinary run looks at seeds.
const USUAL: Duration = Duration::from_secs(35);

/// What is put in, and the promises that may break by it.
const FLAWS: [(Flaw, &[&str]); 9] = [
    (Flaw::GrantsIgnored, &["S1", "S3"]),
    (Flaw::ClaimsIgnored, &["S1", "S2", "S4", "R8", "R9"]),
    (Flaw::WritersNotCompared, &["S1", "S2", "S3", "S4", "S8"]),
    (Flaw::JournalForgets, &["S1", "S2", "S3", "S4", "S8"]),
    (Flaw::TasksForget, &["S6"]),
    (Flaw::TasksNotCompared, &["S6"]),
    (Flaw::IssueGuessed, &["S4"]),
    (Flaw::RevokeImagined, &["S4"]),
    (Flaw::ProbeImagined, &["R8"]),
];

#[test]
fn safety_no_promise_is_broken_while_faults_never_stop() {
    if let Some(seed) = seeds::asked_for() {
        return run_asked(Mode::Safety, seed);
    }
    let tally = run_seeds(Mode::Safety, budget(USUAL));
    let broken = tally.failed.as_ref().map(|(seed, what)| told(Mode::Safety, *seed, what));
    let mut mutants: Vec<_> =
        FLAWS.iter().map(|(flaw, promises)| refute(Mode::Safety, *flaw, promises)).collect();
    mutants.push(refute(Mode::Safety, Flaw::LateAfterSettle, &["S1"]));
    Evidence {
        claim: "simulation-safety".into(),
        statement: "while faults never stop, the real actors break none of S1-S4, S6-S8, R8, R9"
            .into(),
        method: "deterministic simulation of the real actors".into(),
        cases: tally.seeds,
        unit: "seeds".into(),
        seconds: tally.real_time.as_secs_f64(),
        holds: broken.is_none(),
        counterexample: broken.unwrap_or_default(),
        mutants,
        command: command(&format!("{} safety", seeds::COMMAND)),
        notes: vec![tally.speed(), crate::FAULTS.into()],
        series: Vec::new(),
    }
    .demand();
}
