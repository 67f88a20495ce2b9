//! From worlds to evidence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, Mutant as Refuted, Series, budget, is_long_form};
use keybaton_model::{Config, Fault, Found, Mutant, Promise, explore, refute};

/// Faults beyond which no long form goes.
const FAULTS_MAX: u8 = 6;

/// How long a world with one fault may take on a machine that is busy with everything else.
const SMALL: Duration = Duration::from_secs(300);

/// A claim about one world.
pub struct Proof {
    pub claim: &'static str,
    pub statement: &'static str,
    pub test: &'static str,
    pub world: Config,
    /// Faults up to which the ordinary run looks at everything.
    pub faults: u8,
    /// For how long the ordinary run may look at that.
    pub seconds: u64,
    /// Phases that must have been reached, or the world was not the one that was meant.
    pub phases: &'static [&'static str],
    pub mutants: Vec<Wrong>,
    pub notes: &'static [&'static str],
}

/// A mutant, the world in which it is looked for, and the harm that it must do.
pub struct Wrong {
    pub name: &'static str,
    pub mutant: Mutant,
    pub world: Config,
    pub faults: u8,
    pub kinds: &'static [Fault],
    pub harm: &'static [Promise],
}

impl Wrong {
    fn refuted(&self) -> Refuted {
        let config = Config {
            mutant: self.mutant,
            faults: self.faults,
            kinds: self.kinds,
            judged: self.harm,
            ..self.world
        };
        let found = refute(&config);
        let (refuted, how) = match found.broken {
            Some((_, how)) => (true, how),
            None => (false, format!("nothing broke in {} states", found.states)),
        };
        Refuted { name: self.name.to_owned(), refuted, how }
    }
}

/// Several runs of one world, with more and more faults.
#[derive(Default)]
struct Runs {
    cases: usize,
    phases: BTreeSet<&'static str>,
    broken: Option<String>,
    states: Vec<(f64, f64)>,
    seconds: Vec<(f64, f64)>,
    notes: Vec<String>,
}

impl Runs {
    fn add(&mut self, faults: u8, found: Found) {
        let x = f64::from(faults);
        let Found { states, depth, took, .. } = &found;
        let (states, depth, took) = (*states, *depth, took.as_secs_f64());
        if let Some((_, how)) = &found.broken {
            self.cases = states;
            self.broken = Some(how.clone());
        } else if found.is_complete {
            self.states.push((x, count(states)));
            self.seconds.push((x, took));
            self.notes.push(format!(
                "every state with up to {faults} faults: {states} states, {} steps between \
                 them, ways of up to {depth} steps, {} different questions to the rules",
                found.steps, found.questions
            ));
            self.cases = states;
            self.phases = found.phases;
        } else {
            self.notes.push(format!(
                "with {faults} faults not every state: cut after {took:.0} s at {states} states, \
                 ways of about {depth} steps, nothing broken so far"
            ));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a chart shows no single states")]
fn count(states: usize) -> f64 {
    states as f64
}

impl Proof {
    /// Looks, refutes, writes down, and fails if there is anything to fail for.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "a person who runs this wants to read the ways")]
    pub fn demand(self) {
        let began = Instant::now();
        let end = began + budget(Duration::from_secs(self.seconds));
        let runs = self.runs(end);
        let mutants = self.mutants.iter().map(Wrong::refuted).collect();
        let unreached: Vec<_> =
            self.phases.iter().filter(|phase| !runs.phases.contains(*phase)).collect();
        let is_meant = unreached.is_empty() || runs.broken.is_some();
        assert!(is_meant, "{} reached no {unreached:?}", self.claim);
        let line = |name: &str, y: &str, points| Series {
            name: name.to_owned(),
            x: "faults".to_owned(),
            y: y.to_owned(),
            points,
        };
        let mut notes = runs.notes;
        notes.extend(self.notes.iter().map(|note| (*note).to_owned()));
        let command = format!("cargo test -p keybaton-model --test model {}", self.test);
        let evidence = Evidence {
            claim: self.claim.to_owned(),
            statement: self.statement.to_owned(),
            method: "model checking of the production rules".to_owned(),
            cases: u64::try_from(runs.cases).unwrap_or(u64::MAX),
            unit: "states".to_owned(),
            seconds: began.elapsed().as_secs_f64(),
            holds: runs.broken.is_none(),
            counterexample: runs.broken.unwrap_or_default(),
            mutants,
            command: keybaton_evidence::command(&command),
            notes,
            series: vec![
                line("states", "states", runs.states),
                line("time", "seconds", runs.seconds),
            ],
        };
        for mutant in &evidence.mutants {
            println!("{}: {}\n", mutant.name, mutant.how);
        }
        println!("{}", evidence.notes.join("\n"));
        evidence.demand();
    }

    fn runs(&self, end: Instant) -> Runs {
        let mut runs = Runs::default();
        let most = if is_long_form() { FAULTS_MAX } else { self.faults };
        for faults in 0..=most {
            let left = end.saturating_duration_since(Instant::now());
            // With one fault a world is small; it is looked at whatever the time.
            let left = if faults <= 1 { left.max(SMALL) } else { left };
            if left.is_zero() {
                runs.notes.push(format!("no time was left for {faults} faults"));
                break;
            }
            let found = explore(Config { faults, ..self.world }, left);
            let goes_on = found.is_complete;
            runs.add(faults, found);
            if !goes_on {
                break;
            }
        }
        runs
    }
}
