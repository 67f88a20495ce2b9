//! The claim: whatever happens at whichever point, the promises hold and the rotation ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, Mutant, budget, command, is_long_form};
use keybaton_tests::harness::{keybaton, keybaton_with_crash_points};

use crate::case::{Case, Fault, Run, run};
use crate::plan::{Pairs, kills, mutants, others};

/// Runs at the same time; each is two processes that mostly wait.
pub const AT_ONCE: usize = 6;

/// Runs that are always made beside one kill at every point: three of each other kind.
const SAMPLE: usize = 15;

/// How often a run is made until it comes to its place.
const ATTEMPTS_MAX: usize = 3;

/// Seed of the short form's sample.
const SEED: u64 = 20_261_121;

/// The environment variable that asks for one run alone, by its name.
pub const ONE_CASE: &str = "KEYBATON_CRASH_CASE";

/// Whoever has it may start processes; a machine has cores for one proof at a time.
pub static TURN: Mutex<()> = Mutex::new(());

/// How the short form is repeated.
const COMMAND: &str = "cargo test -p keybaton-tests --test crash_points every_point_is_survived";

/// What came of all runs.
#[derive(Default)]
struct Tally {
    by_kind: BTreeMap<String, u64>,
    lives: usize,
    failures: Vec<String>,
    mutants: Vec<Mutant>,
}

/// A run to make, and whether it must hold.
enum Job {
    Holds(Case),
    Refutes(&'static str, Case),
}

#[test]
fn every_point_is_survived() {
    if let Ok(name) = std::env::var(ONE_CASE) {
        let case: Case = name.parse().expect("the name of a case");
        assert_eq!(failure(&case), None, "{name}");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Built before the clock starts.
    let _programs = (keybaton(), keybaton_with_crash_points());
    let began = Instant::now();
    let seed = if is_long_form() { rand::random() } else { SEED };
    let tally = Mutex::new(Tally::default());
    let jobs = Mutex::new(jobs(began, seed));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let next = || jobs.lock().expect("no job panics here").next();
                while let Some(job) = next() {
                    work(job, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no job panics here");
    evidence(tally, began.elapsed(), seed).demand();
}

/// Mutants, kills and a sample of the others always; then what the time allows.
fn jobs(began: Instant, seed: u64) -> Box<dyn Iterator<Item = Job> + Send> {
    let until = began + budget(Duration::from_secs(180));
    let always = mutants().into_iter().map(|(name, case)| Job::Refutes(name, case));
    let mut others = others(seed);
    let more = others.split_off(SAMPLE);
    let always = always.chain(kills().into_iter().chain(others).map(Job::Holds));
    if !is_long_form() {
        return Box::new(always);
    }
    let more = more.into_iter().chain(Pairs::new(seed)).map(Job::Holds);
    Box::new(always.chain(more.take_while(move |_| Instant::now() < until)))
}

fn work(job: Job, tally: &Mutex<Tally>) {
    match job {
        Job::Holds(case) => {
            let failure = failure(&case);
            if let Some(why) = &failure {
                // Said at once: a long form goes on for hours.
                let _ = writeln!(std::io::stderr(), "{why}");
            }
            let mut tally = tally.lock().expect("nobody panics here");
            *tally.by_kind.entry(kind(&case)).or_default() += 1;
            tally.lives += case.lives.len() + 1;
            tally.failures.extend(failure);
        }
        Job::Refutes(name, case) => {
            let mutant = refute(name, &case, &embedded);
            tally.lock().expect("nobody panics here").mutants.push(mutant);
        }
    }
}

/// Everything in the data directory.
fn embedded() -> Result<Vec<String>, String> {
    Ok(Vec::new())
}

/// Why a run did not hold, with the command that repeats it.
fn failure(case: &Case) -> Option<String> {
    let why = broken(case, &embedded)?;
    Some(format!("{case}\n  {why}\n  again: {ONE_CASE}='{case}' {COMMAND}"))
}

/// Why a run did not hold. The stores are chosen anew for each attempt.
pub fn broken(case: &Case, stores: &Stores<'_>) -> Option<String> {
    match attempt(case, stores) {
        Ok(run) if run.violations.is_empty() => None,
        Ok(run) => Some(format!("after {} lives: {}", run.lives, run.violations.join("\n  "))),
        Err(why) => Some(why),
    }
}

/// Whether the verdict finds what was made wrong on purpose.
pub fn refute(name: &str, case: &Case, stores: &Stores<'_>) -> Mutant {
    let (refuted, how) = match attempt(case, stores).map(|run| run.violations) {
        Ok(violations) => (!violations.is_empty(), violations.join("\n")),
        Err(why) => (false, why),
    };
    Mutant { name: name.into(), refuted, how: format!("{case}\n{how}") }
}

/// Options of the demo that choose the stores of one run, nobody else's.
pub type Stores<'a> = dyn Fn() -> Result<Vec<String>, String> + Sync + 'a;

/// Runs it, again if it did not come to its place: on a busy machine all agents may have ended
/// before the rotation began. What the verdict says counts in any case.
fn attempt(case: &Case, stores: &Stores<'_>) -> Result<Run, String> {
    for _ in 0..ATTEMPTS_MAX {
        let run = guarded(case, &stores()?)?;
        if run.is_struck || !run.violations.is_empty() {
            return Ok(run);
        }
    }
    Err("it never came to its place".to_owned())
}

/// A wait that came to its end is a failure of this run, not of all of them.
fn guarded(case: &Case, stores: &[String]) -> Result<Run, String> {
    catch_unwind(AssertUnwindSafe(|| run(case, stores))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "a wait of the test panicked".to_owned()))
    })
}

/// "kill", "kill + twice", "kill, then stop".
fn kind(case: &Case) -> String {
    let life = |faults: &Vec<Fault>| {
        let ways: Vec<_> = faults.iter().map(|fault| fault.way().name()).collect();
        ways.join(" + ")
    };
    case.lives.iter().map(life).collect::<Vec<_>>().join(", then ")
}

fn evidence(tally: Tally, took: Duration, seed: u64) -> Evidence {
    let cases = tally.by_kind.values().sum();
    let kinds: Vec<_> = tally.by_kind.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    Evidence {
        claim: "crash-points".into(),
        statement: "At whatever named point the process is killed, and at those of them where it \
                    was frozen, refused by its disk or made to do a thing twice, no task loses a \
                    step, no held key dies, no key is forgotten and the rotation ends."
            .into(),
        method: "the real program, stopped at named points, judged by the oracle".into(),
        cases,
        unit: "runs".into(),
        seconds: took.as_secs_f64(),
        holds: tally.failures.is_empty(),
        counterexample: tally.failures.join("\n"),
        mutants: tally.mutants,
        command: command(COMMAND),
        notes: vec![
            format!("runs by what happened: {}", kinds.join("; ")),
            format!("seed {seed}; {} lives of the process at least", tally.lives),
            "not reached in the demo: a person who makes the key, a rotation that fails or is \
             rolled back, everything that needs a second node"
                .into(),
        ],
        ..Evidence::default()
    }
}
