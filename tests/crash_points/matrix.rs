//! The claim, over every choice of stores: the demo holds, and it holds however often its process is
//! killed. What came of it is one table.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, Mutant, budget, command, is_long_form};
use keybaton_servers::unless_missing;
use keybaton_tests::harness::{keybaton, keybaton_with_crash_points};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::case::{Case, Fault, Way};
use crate::plan::mutants;
use crate::points::{POINTS, Point, Stage};
use crate::proof::{AT_ONCE, ONE_CASE, TURN, broken, refute};
use crate::stores::{Choice, Servers};

/// Besides [`ONE_CASE`]: the stores of the one run that is asked for.
const ON_STORES: &str = "KEYBATON_CRASH_STORES";

const COMMAND: &str = "cargo test -p keybaton-tests --test crash_points every_choice_of_stores";

const fn at(place: &'static str, nth: u32) -> Point {
    Point { stage: Stage::A, place, nth, after_ms: 0 }
}

/// Kills around what each store does: the journal's transactions, grants and steps; what the secret
/// store is asked for; what the bus is told. Each choice of stores gets one of each, in turn.
const JOURNAL: [Point; 6] = [
    at("issuing.committed", 2),
    at("draining.committing", 1),
    at("grant.given", 1),
    at("revoking.committed", 1),
    at("step.persisted", 7),
    at("note.committing", 1),
];
const SECRETS: [Point; 5] = [
    at("issue.answered", 2),
    at("issue.stored", 2),
    at("witness.writing", 2),
    at("secret.destroying", 1),
    at("secret.destroyed", 1),
];
const BUS: [Point; 2] = [at("event.publishing", 2), at("event.published", 2)];

/// One run on one choice of stores.
struct Job {
    choice: Choice,
    /// Where the process is killed; nowhere is the demo as it is.
    point: Option<Point>,
}

impl Job {
    fn case(&self) -> Case {
        match &self.point {
            Some(point) => Case::one(point.stage, Fault::at(point, Way::Kill)),
            None => Case { stage: Stage::A, lives: Vec::new(), mutant: None, simulator: &[] },
        }
    }
}

/// What came of a run.
struct Outcome {
    choice: Choice,
    place: Option<&'static str>,
    broken: Option<String>,
}

#[test]
fn every_choice_of_stores_survives_its_kills() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(servers) = unless_missing(Servers::start()) else { return };
    if let (Ok(case), Ok(choice)) = (std::env::var(ONE_CASE), std::env::var(ON_STORES)) {
        let (case, choice) = (case.parse().expect("a case"), choice.parse().expect("stores"));
        assert_eq!(broken(&case, &|| options(&servers, choice)), None, "{case} on {choice}");
        return;
    }
    // Built before the clock starts.
    let _programs = (keybaton(), keybaton_with_crash_points());
    let began = Instant::now();
    let (name, mutant) = mutants().swap_remove(0);
    let on_servers = || options(&servers, Choice::all_servers());
    let jobs = Mutex::new(jobs(began));
    let outcomes = Mutex::new(Vec::new());
    let mutant = std::thread::scope(|scope| {
        let refuted = scope.spawn(|| refute(name, &mutant, &on_servers));
        for _ in 1..AT_ONCE {
            scope.spawn(|| {
                let next = || jobs.lock().expect("no job panics here").next();
                while let Some(job) = next() {
                    let outcome = work(&servers, &job);
                    outcomes.lock().expect("no job panics here").push(outcome);
                }
            });
        }
        refuted.join().expect("a run panics nowhere")
    });
    let outcomes = outcomes.into_inner().expect("no job panics here");
    let table = table(&outcomes);
    // Past the test harness, which would keep what is printed to itself.
    let _ = writeln!(std::io::stdout().lock(), "{table}");
    evidence(&outcomes, table, mutant, began.elapsed()).demand();
}

fn options(servers: &Servers, choice: Choice) -> Result<Vec<String>, String> {
    servers.options(choice).map_err(|error| format!("no stores for the run: {error:#}"))
}

/// The demo and three kills on every choice; in the long form then any kill on any, while there is
/// time.
fn jobs(began: Instant) -> Box<dyn Iterator<Item = Job> + Send> {
    let always = Choice::all().enumerate().flat_map(|(n, choice)| {
        let points =
            [JOURNAL[n % JOURNAL.len()], SECRETS[n % SECRETS.len()], BUS[n / 2 % BUS.len()]];
        let points = std::iter::once(None).chain(points.map(Some));
        points.map(move |point| Job { choice, point })
    });
    if !is_long_form() {
        return Box::new(always);
    }
    let until = began + budget(Duration::from_secs(90));
    let mut rng = StdRng::from_os_rng();
    let choices: Vec<_> = Choice::all().collect();
    let more = std::iter::from_fn(move || {
        let choice = *choices.choose(&mut rng)?;
        Some(Job { choice, point: POINTS.choose(&mut rng).copied() })
    });
    Box::new(always.chain(more.take_while(move |_| Instant::now() < until)))
}

fn work(servers: &Servers, job: &Job) -> Outcome {
    let (choice, case) = (job.choice, job.case());
    let broken = broken(&case, &|| options(servers, choice)).map(|why| {
        let again = format!("{ON_STORES}='{choice}' {ONE_CASE}='{case}' {COMMAND}");
        let why = format!("{choice}: {case}\n  {why}\n  again: {again}");
        // Said at once: a long form goes on for hours.
        let _ = writeln!(std::io::stderr(), "{why}");
        why
    });
    Outcome { choice, place: job.point.map(|point| point.place), broken }
}

/// A line for each choice: the demo's verdict, and how many kills held, with where they were.
fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec!["journal   secrets   bus        demo   kills that held".to_owned()];
    for choice in Choice::all() {
        let of_it: Vec<_> = outcomes.iter().filter(|outcome| outcome.choice == choice).collect();
        let is_held = |outcome: &&&Outcome| outcome.broken.is_none();
        let demo = of_it.iter().find(|outcome| outcome.place.is_none());
        let demo = demo.map_or("-", |demo| if is_held(&demo) { "held" } else { "BROKEN" });
        let kills: Vec<_> = of_it.iter().filter(|outcome| outcome.place.is_some()).collect();
        let held = kills.iter().filter(|outcome| outcome.broken.is_none()).count();
        let mut places: Vec<_> = kills.iter().filter_map(|outcome| outcome.place).collect();
        places.sort_unstable();
        places.dedup();
        let (count, places) = (kills.len(), shortened(&places));
        lines.push(format!("{choice} {demo:<6} {held} of {count}: {places}"));
    }
    lines.join("\n")
}

/// A few of the names.
fn shortened(places: &[&str]) -> String {
    const SHOWN_MAX: usize = 4;
    match places.len().checked_sub(SHOWN_MAX) {
        None | Some(0) => places.join(", "),
        Some(more) => format!("{} and {more} more", places[..SHOWN_MAX].join(", ")),
    }
}

fn evidence(outcomes: &[Outcome], table: String, mutant: Mutant, took: Duration) -> Evidence {
    let broken: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.broken.as_deref()).collect();
    Evidence {
        claim: "crash-points-stores".into(),
        statement: "On every choice of journal (redb, Postgres), secret store (embedded, Vault) \
                    and bus (in-process, Redis) the demo holds, and it holds when its process is \
                    killed around what it asks of each store."
            .into(),
        method: "the real program on real servers, killed at named points, judged by the oracle"
            .into(),
        cases: outcomes.len() as u64,
        unit: "runs".into(),
        seconds: took.as_secs_f64(),
        holds: broken.is_empty(),
        counterexample: broken.join("\n"),
        mutants: vec![mutant],
        command: command(COMMAND),
        notes: table.lines().map(str::to_owned).collect(),
        ..Evidence::default()
    }
}
