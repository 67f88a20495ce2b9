//! The same seed twice: every call of every port with its answer, byte for byte.

use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, Mutant, budget, command};
use keybaton_simulation::{Flaw, Mode, replay_twice, seeds};

/// How long an ordinary run compares.
const USUAL: Duration = Duration::from_secs(15);

/// Seeds within which a choice without a seed must show.
const FLAWED_SEEDS: u64 = 20;

const FLAWS: [Flaw; 2] = [Flaw::UnseededFaults, Flaw::RandomVictim];

fn mode_of(seed: u64) -> Mode {
    if seed.is_multiple_of(2) { Mode::Safety } else { Mode::Liveness }
}

fn notice(flaw: Flaw) -> Mutant {
    let differing = (0..FLAWED_SEEDS).find_map(|seed| {
        let (difference, _) = replay_twice(seed, mode_of(seed), Some(flaw));
        difference.map(|it| format!("seed {seed} parts at line {} of its traces", it.line))
    });
    Mutant {
        name: flaw.words().to_owned(),
        refuted: differing.is_some(),
        how: differing.unwrap_or_default(),
    }
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    let (begun, time) = (Instant::now(), budget(USUAL));
    let (mut compared, mut bytes) = (0, 0);
    let mut parted = String::new();
    let mut before = String::new();
    while begun.elapsed() < time && parted.is_empty() {
        let seed = seeds::asked_for().unwrap_or(compared);
        let (difference, run) = replay_twice(seed, mode_of(seed), None);
        if let Some(it) = difference {
            let (line, first, second) = (it.line, it.first, it.second);
            parted = format!("seed {seed} parts at line {line}:\n  {first}\n  {second}");
        }
        if seeds::asked_for().is_none() && run.trace == before {
            parted = format!("seed {seed} is the same run as the one before");
        }
        compared += 1;
        bytes += run.trace.len();
        before = run.trace;
    }
    let mutants = FLAWS.map(notice).to_vec();
    Evidence {
        claim: "simulation-replays".into(),
        statement: "the same seed is the same run, byte for byte, and another seed is another one"
            .into(),
        method: "two runs of each seed, traces compared".into(),
        cases: compared,
        unit: "seeds, each run twice".into(),
        seconds: begun.elapsed().as_secs_f64(),
        holds: parted.is_empty(),
        counterexample: parted,
        mutants,
        command: command(&format!("{} the_same_seed", seeds::COMMAND)),
        notes: vec![
            format!("{} MiB of trace compared", bytes / (1024 * 1024)),
            "the actors' select! seldom has two branches ready, so a runtime that is left without \
             a seed is not noticed"
                .into(),
        ],
        series: Vec::new(),
    }
    .demand();
}
