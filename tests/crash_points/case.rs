//! One run: a life that something happens to, and the lives after it, up to the verdict.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use keybaton_tests::harness::{
    Ended, Running, SimulatorProcess, keybaton_with_crash_points, plain_run, start_as,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::points::{Point, Stage};

/// How long a process is frozen: longer than the demo's provider calls may last. With the real
/// rules that limit is 30 s.
const FREEZE: Duration = Duration::from_millis(3_300);

/// Lives that one run may take. Nothing happens to the last ones.
const LIVES_MAX: usize = 5;

/// The fewest agents that the demo takes: four of the rotated tenant, two of which keep their key.
const AGENTS: &str = "8";

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Stop,
    /// The disk refuses every write from there on.
    Refuse,
    /// The disk refuses one write.
    Stumble,
    /// What is done there is done twice, from there on.
    Twice,
}

impl Way {
    /// The word in a script.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Refuse => "refuse",
            Self::Stumble => "stumble",
            Self::Twice => "twice",
        }
    }
}

/// What happens to one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: String,
    /// The tenant, the count and the delay, as a script writes them.
    when: String,
    way: Way,
}

impl Fault {
    /// Something at a point of the table, at its time.
    pub fn at(point: &Point, way: Way) -> Self {
        let delay = if point.after_ms > 0 { format!("+{}", point.after_ms) } else { String::new() };
        let when = format!("@acme:{}{delay}", point.nth);
        Self { place: point.place.to_owned(), when, way }
    }

    /// What happens.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The next time that the place is reached.
    pub fn next(place: &str, way: Way) -> Self {
        Self { place: place.to_owned(), when: "@acme:1".to_owned(), way }
    }

    /// What is done at a place is done twice, always and for everybody.
    pub fn twice(place: &str) -> Self {
        Self { place: place.to_owned(), when: ":1".to_owned(), way: Way::Twice }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}={}", self.place, self.when, self.way.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no <place>[@<tenant>]:<n>[+<millis>]=<way>");
        let (at, way) = text.split_once('=').ok_or_else(wrong)?;
        let place = at.split(['@', ':']).next().unwrap_or_default();
        let ways = [Way::Kill, Way::Stop, Way::Refuse, Way::Stumble, Way::Twice];
        let way = ways.into_iter().find(|known| known.name() == way).ok_or_else(wrong)?;
        Ok(Self { place: place.to_owned(), when: at[place.len()..].to_owned(), way })
    }
}

/// A run, and what happens to its lives: what stands together happens to the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub stage: Stage,
    pub lives: Vec<Vec<Fault>>,
    /// A way in which the program is wrong, and in which of its lives, to see that the verdict
    /// finds it.
    pub mutant: Option<(&'static str, usize)>,
    /// Besides what belongs to the stage.
    pub simulator: &'static [&'static str],
}

impl Case {
    /// One life that something happens to.
    pub fn one(stage: Stage, fault: Fault) -> Self {
        Self { stage, lives: vec![vec![fault]], mutant: None, simulator: &[] }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.stage.name())?;
        for faults in &self.lives {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            write!(out, " {}", faults.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let stage = words.next().unwrap_or_default();
        let stage = Stage::ALL.into_iter().find(|known| known.name() == stage);
        let lives = words.map(|faults| faults.split(',').map(str::parse).collect());
        Ok(Self {
            stage: stage.ok_or_else(|| format!("{text:?} begins with no stage"))?,
            lives: lives.collect::<Result<_, _>>()?,
            mutant: None,
            simulator: &[],
        })
    }
}

/// How a run went.
pub struct Run {
    /// Lives that it took.
    pub lives: usize,
    /// Violations of the verdict, each with its rule; empty when it held.
    pub violations: Vec<String>,
    /// Whether the first life came to its place.
    pub is_struck: bool,
}

/// Runs it, on stores that these options of the demo choose.
///
/// # Errors
/// When something other than a verdict came of it, in words.
pub fn run(case: &Case, stores: &[String]) -> Result<Run, String> {
    let place = Place::open(case, stores);
    let mut is_struck = true;
    for life in 0..LIVES_MAX {
        let none = Vec::new();
        let faults = case.lives.get(life).unwrap_or(&none);
        let mutant = case.mutant.filter(|(_, wrong)| *wrong == life).map(|(name, _)| name);
        let ended = place.live(case, faults, mutant.unwrap_or_default());
        let struck: Vec<_> = faults.iter().filter(|fault| fault.struck(&ended)).collect();
        // What is doubled may come after the place at which the life ends.
        let is_needed = |fault: &&Fault| faults.len() == 1 || fault.way != Way::Twice;
        let missed = faults.iter().filter(is_needed).any(|fault| !fault.struck(&ended));
        is_struck &= life > 0 || !missed;
        let has = |ways: &[Way]| struck.iter().any(|fault| ways.contains(&fault.way));
        match ended.code {
            Some(0 | 1) => {
                let violations = violations(&ended)?;
                place.demand_sound_audit()?;
                return Ok(Run { lives: life + 1, violations, is_struck });
            }
            None if has(&[Way::Kill]) => {}
            // A store that cannot write ends the process, which says so.
            Some(2) if has(&[Way::Refuse, Way::Stumble]) => {}
            _ => return Err(format!("life {} ended by itself: {ended:?}", life + 1)),
        }
    }
    Err(format!("no verdict after {LIVES_MAX} lives"))
}

fn violations(ended: &Ended) -> Result<Vec<String>, String> {
    let last = ended.stdout.lines().last().unwrap_or_default();
    let verdict: Value = serde_json::from_str(last).map_err(|error| format!("{error}: {last}"))?;
    let listed = verdict["violations"].as_array().ok_or("a verdict lists its violations")?;
    let shown = |violation: &Value| {
        let word = |name: &str| violation[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", word("rule"), word("what"))
    };
    let mut violations: Vec<_> = listed.iter().map(shown).collect();
    if violations.is_empty() && (verdict["verdict"] != "held" || ended.code != Some(0)) {
        violations.push(format!("no reason is given: {verdict}"));
    }
    let live = &verdict["live_keys"];
    if violations.is_empty() && (live["found"] != live["expected"] || live["found"] != 4) {
        violations.push(format!("four tenants have four live keys, not {live}"));
    }
    Ok(violations)
}

impl Fault {
    fn struck(&self, ended: &Ended) -> bool {
        // A place with a star has other names.
        let place = self.place.trim_end_matches('*');
        let said = format!("crash point {place}");
        let way = format!(": {:?}", self.way);
        ended.stderr.lines().any(|line| line.starts_with(&said) && line.ends_with(&way))
    }
}

/// A directory with a simulator that serves it.
struct Place<'a> {
    dir: TempDir,
    simulator: SimulatorProcess,
    stores: &'a [String],
}

impl<'a> Place<'a> {
    fn open(case: &Case, stores: &'a [String]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args = [case.stage.simulator(), case.simulator].concat();
        let simulator = SimulatorProcess::start(&dir.path().join("provider"), &args);
        Self { dir, simulator, stores }
    }

    fn data(&self) -> String {
        self.dir.path().join("demo").display().to_string()
    }

    /// One life, to its end.
    fn live(&self, case: &Case, faults: &[Fault], mutant: &str) -> Ended {
        let (data, provider) = (self.data(), self.simulator.dir().display().to_string());
        let mut args = vec!["demo", "--data-dir", &data, "--tasks", AGENTS, "-o", "json"];
        args.extend(["--simulator", self.simulator.url(), "--simulator-dir", &provider]);
        args.extend(case.stage.demo());
        args.extend(self.stores.iter().map(String::as_str));
        let scripts: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let scripts = scripts.join(",");
        let variables =
            [("KEYBATON_CRASH_POINT", scripts.as_str()), ("KEYBATON_CRASH_MUTANT", mutant)];
        let mut life = start_as(keybaton_with_crash_points(), &variables, args);
        if faults.iter().any(|fault| fault.way == Way::Stop) {
            freeze(&mut life);
        }
        life.end()
    }

    /// S7, which the demo's judge does not look at.
    fn demand_sound_audit(&self) -> Result<(), String> {
        let verified = plain_run(["audit", "verify", "--data-dir", &self.data()]);
        match verified.code {
            Some(0) => Ok(()),
            _ => Err(format!("S7: {verified:?}")),
        }
    }
}

/// Waits until it has frozen itself, lets the time pass, and wakes it up.
fn freeze(life: &mut Running) {
    let is_frozen = |line: &str| line.starts_with("crash point") && line.ends_with(": Stop");
    if life.line(is_frozen).is_some() {
        life.linger(Instant::now() + FREEZE);
        life.go_on();
    }
}
