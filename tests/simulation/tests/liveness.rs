//! Faults stop, and everything finishes.

use std::time::Duration;

use keybaton_evidence::{Evidence, budget, command};
use keybaton_simulation::{Flaw, Mode, seeds};

use crate::flaws::refute;
use crate::proof::{run_asked, run_seeds, told};

/// How long an ordinary run looks at seeds.
const USUAL: Duration = Duration::from_secs(35);

/// What is put in, and the promises that may break by it.
const FLAWS: [(Flaw, &[&str]); 3] = [
    (Flaw::CountsNeverEnd, &["L"]),
    (Flaw::ListEmpty, &["L", "L3", "S4"]),
    (Flaw::CheckpointsStay, &["L"]),
];

#[test]
fn liveness_everything_finishes_once_faults_stop() {
    if let Some(seed) = seeds::asked_for() {
        return run_asked(Mode::Liveness, seed);
    }
    let tally = run_seeds(Mode::Liveness, budget(USUAL));
    let broken = tally.failed.as_ref().map(|(seed, what)| told(Mode::Liveness, *seed, what));
    let mutants =
        FLAWS.iter().map(|(flaw, promises)| refute(Mode::Liveness, *flaw, promises)).collect();
    Evidence {
        claim: "simulation-liveness".into(),
        statement: "once faults stop, every rotation ends, every task finishes or is parked for a \
                    person and leaves no checkpoint when it ended, nothing is owed, and each pair has exactly one live key of ours"
            .into(),
        method: "deterministic simulation of the real actors".into(),
        cases: tally.seeds,
        unit: "seeds".into(),
        seconds: tally.real_time.as_secs_f64(),
        holds: broken.is_none(),
        counterexample: broken.unwrap_or_default(),
        mutants,
        command: command(&format!("{} liveness", seeds::COMMAND)),
        notes: vec![tally.speed(), crate::FAULTS.into()],
        series: Vec::new(),
    }
    .demand();
}
