//! `summary.json`: everything that a program may want to know of a run, in a schema with a version.
//!
//! The schema is checked in beside this file, as `summary.schema.json`. A field that changes its
//! meaning gets another name; one that goes, or is not optional any more, raises [`SCHEMA`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use keybaton::StoreNames;
use keybaton_oracle::Verdict;
use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::figures::{CENSORING, DEFINITIONS, Figures, overhead, pause, revoke_lag, swap};
use super::limits::{RESAMPLES, ROTATIONS_FOR_CONFIDENCE};
use super::sighting::{Sighting, TaskSighting};
use super::spread::{Interval, SHOWN, Spread, Value, interval};
use super::times::{millis, shown};

/// Version of the schema.
pub const SCHEMA: u32 = 1;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What kind of document this is.
    pub kind: &'static str,
    /// The command that repeats it.
    pub command: String,
    /// It was ended before its time; what was measured by then is here.
    pub interrupted: bool,
    /// What the oracle says.
    pub verdict: Verdict,
    /// The oracle's numbers, by the names of `--fail-if`.
    pub counts: BTreeMap<String, u64>,
    /// What became of the rotations.
    pub rotations: RotationCounts,
    /// What each figure means.
    pub definitions: BTreeMap<&'static str, &'static str>,
    /// How what did not end is counted.
    pub censoring: &'static str,
    /// Percentiles by the names of the definitions.
    pub figures: BTreeMap<String, Figure>,
    /// How sure the medians are.
    pub confidence: Confidence,
    /// Pauses in units of one bare commit where the journal lies: on the same disk, or in the same
    /// Postgres.
    pub pause_in_commits: Option<BTreeMap<String, f64>>,
    /// Where it ran.
    pub environment: Environment,
    /// Where the node kept what.
    pub stores: StoreNames,
    /// What was asked of the agents.
    pub load: LoadSummary,
    /// What was not real.
    pub simulated: Vec<String>,
    /// Other ways, under the same agents.
    pub comparators: Vec<CaseSummary>,
    /// What `--fail-if` came to.
    pub conditions: Vec<Condition>,
}

/// Percentiles of one figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Values.
    pub n: u64,
    /// Of them, those that had not ended.
    pub censored: u64,
    /// Milliseconds.
    pub percentiles_ms: BTreeMap<String, f64>,
    /// The percentiles that are lower bounds, because of censored values.
    pub lower_bounds: Vec<String>,
}

/// What became of the rotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RotationCounts {
    /// In the schedule, warm-up included.
    pub planned: u64,
    /// Of them, only to warm up.
    pub warm_up: u64,
    /// Never asked for: the run was ended first.
    pub not_started: u64,
    /// Asked for more than a hundredth of a second after their time: the pair's last one still ran.
    pub late: u64,
    /// Ended with a new key.
    pub rotated: u64,
    /// Refused, failed, or without an end when they were looked at last.
    pub unfinished: u64,
}

/// Bootstrap over the rotations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confidence {
    /// Rotations behind it.
    pub rotations: u64,
    /// Whether they are as many as an interval needs to be worth its name.
    pub enough: bool,
    /// Resamples.
    pub resamples: u64,
    /// 95 % intervals of these percentiles.
    pub intervals: BTreeMap<String, Interval>,
}

/// What was asked of the agents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadSummary {
    /// Agents at once.
    pub tasks: u32,
    /// Agents over the whole run.
    pub tasks_spawned: u64,
    /// Steps that they took.
    pub steps: u64,
    /// Tenants.
    pub tenants: u32,
    /// Arrivals each second.
    pub arrival: Option<f64>,
    /// The longest that an arrival waited behind its time, milliseconds.
    pub arrival_late_max_ms: f64,
    /// Lengths of steps.
    pub step_dist: String,
    /// Share of streamed steps.
    pub streaming: f64,
    /// Share of agents that keep a key.
    pub sessions: f64,
    /// Share of a step that they work without a call.
    pub own_work: f64,
    /// Bytes that an agent knows.
    pub payload: u32,
    /// Rotations that begin at the same moment.
    pub at_once: u32,
    /// Between two planned moments, milliseconds.
    pub every_ms: f64,
    /// When a drain is censored, milliseconds.
    pub deadline_ms: f64,
    /// How long the old key is kept, milliseconds.
    pub overlap_ms: f64,
    /// How the provider behaves on issue.
    pub provider_class: &'static str,
    /// Seed of all randomness.
    pub seed: u64,
}

/// One comparator with one wait.
#[derive(Clone, Debug, Serialize)]
pub struct CaseSummary {
    /// `clock`, `restart` or `poll`.
    pub name: &'static str,
    /// From the new key to the old one's revocation, seconds.
    pub wait_s: f64,
    /// Agents.
    pub tasks: u64,
    /// Agents that lost their work, as the oracle says.
    pub dropped: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Calls that were interrupted.
    pub interrupted: u64,
    /// Share of the agents that were harmed.
    pub harmed: f64,
    /// Steps whose result was thrown away.
    pub work_lost_steps: u64,
    /// Time at the provider that was thrown away, seconds.
    pub work_lost_s: f64,
    /// What the oracle says: `held` or `broken`.
    pub verdict: Verdict,
}

/// A condition of `--fail-if`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// As it was typed.
    pub condition: String,
    /// Whether it fails the run.
    pub fails: bool,
    /// With the number that decided.
    pub why: String,
}

/// What is read of another run's summary.
#[derive(Clone, Debug, Deserialize)]
pub struct Baseline {
    schema: u32,
    kind: String,
    /// Its figures.
    pub figures: BTreeMap<String, Figure>,
    /// Its numbers.
    pub counts: BTreeMap<String, u64>,
}

impl Baseline {
    /// Reads a summary.
    ///
    /// # Errors
    /// When the file is none, or of another schema.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("{name} cannot be read"))?;
        let read: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{name} is no summary of bench drain"))?;
        ensure!(
            read.kind == KIND && read.schema == SCHEMA,
            "{name} has schema {} of {}; this program compares schema {SCHEMA} of {KIND}",
            read.schema,
            read.kind
        );
        Ok(read)
    }
}

impl Summary {
    /// How many tenants there are, for a sentence.
    pub fn tenants(&self) -> String {
        match self.load.tenants {
            1 => "one tenant".to_owned(),
            more => format!("{more} tenants"),
        }
    }
}

/// The `kind` of a summary.
pub const KIND: &str = "keybaton-drain";

/// The definitions with their names.
pub fn definitions() -> BTreeMap<&'static str, &'static str> {
    DEFINITIONS.into_iter().collect()
}

/// How what did not end is counted.
pub fn censoring() -> &'static str {
    CENSORING
}

impl Figure {
    /// Of these values.
    pub fn of(spread: &Spread) -> Self {
        let mut figure =
            Self { n: spread.len() as u64, censored: spread.censored() as u64, ..Self::default() };
        for (thousandths, name) in SHOWN {
            let Some(value) = spread.at(thousandths) else { continue };
            figure.percentiles_ms.insert(name.to_owned(), millis(value.us()));
            if value.is_censored() {
                figure.lower_bounds.push(name.to_owned());
            }
        }
        figure
    }

    /// What heads the columns of [`Self::cells`].
    pub fn heads() -> Vec<String> {
        let percentiles = SHOWN.map(|(_, name)| name.replace("p999", "p99.9"));
        let all = [String::new()].into_iter().chain(percentiles);
        all.chain(["n", "censored"].map(str::to_owned)).collect()
    }

    /// Its row in a table; `bound` marks a percentile that is a lower bound.
    pub fn cells(&self, name: &str, bound: &str) -> Vec<String> {
        let percentile = |(_, name): (u32, &str)| {
            let mark = if self.lower_bounds.iter().any(|it| it == name) { bound } else { "" };
            let ms = self.percentiles_ms.get(name);
            ms.map_or_else(|| "-".into(), |ms| format!("{mark}{}", shown(*ms)))
        };
        let all = [name.to_owned()].into_iter().chain(SHOWN.map(percentile));
        all.chain([self.n.to_string(), self.censored.to_string()]).collect()
    }
}

/// All figures by name.
pub fn figures(figures: &Figures) -> BTreeMap<String, Figure> {
    let named = figures.named().into_iter();
    named.map(|(name, spread)| (name.to_owned(), Figure::of(spread))).collect()
}

/// The oracle's numbers by the names of `--fail-if`.
pub fn counts(verdict: &Verdict, rotations: &RotationCounts) -> BTreeMap<String, u64> {
    let all = [
        ("dropped", verdict.tasks_dropped),
        ("refused", verdict.calls_refused),
        ("interrupted", verdict.calls_interrupted),
        ("lost", verdict.steps_lost),
        ("doubled", verdict.steps_doubled),
        ("touched", verdict.other_tenants_touched),
        ("unfinished", rotations.unfinished),
    ];
    all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Intervals by bootstrap over the rotations that count: a rotation is drawn with all its tasks.
///
/// Those that began at the same moment had the same luck: only moments make an interval worth more.
pub fn confidence(sightings: &[Sighting], at_once: u32, seed: u64) -> Confidence {
    let counted: Vec<_> = sightings.iter().filter(|it| !it.is_warm_up).collect();
    let of_rotations = |figure: fn(&Sighting) -> Option<Value>| {
        let own = |it: &&Sighting| figure(it).map(Value::us).into_iter().collect();
        counted.iter().map(own).collect::<Vec<Vec<_>>>()
    };
    let of_tasks = |figure: fn(&Sighting, &TaskSighting) -> Option<Value>| {
        let own = |it: &&Sighting| {
            it.tasks.iter().filter_map(|task| figure(it, task)).map(Value::us).collect()
        };
        counted.iter().map(own).collect::<Vec<Vec<_>>>()
    };
    let all = [
        ("drain.p50", of_rotations(super::figures::drain), 500),
        ("floor.p50", of_rotations(super::figures::floor), 500),
        ("overhead.p50", of_rotations(overhead), 500),
        ("revoke_lag.p50", of_rotations(revoke_lag), 500),
        ("swap.p50", of_tasks(swap), 500),
        ("pause.p50", of_tasks(pause), 500),
        ("pause.p99", of_tasks(pause), 990),
    ];
    let intervals = all.into_iter().filter_map(|(name, rotations, thousandths)| {
        Some((name.to_owned(), interval(&rotations, thousandths, seed)?))
    });
    Confidence {
        rotations: counted.len() as u64,
        enough: counted.len() / at_once.max(1) as usize >= ROTATIONS_FOR_CONFIDENCE,
        resamples: RESAMPLES as u64,
        intervals: intervals.collect(),
    }
}

/// Pauses in units of one bare commit.
pub fn in_commits(pause: &Figure, commit_us: u64) -> BTreeMap<String, f64> {
    let unit = millis(commit_us.max(1));
    let ratio = |ms: f64| (ms / unit * 100.0).round() / 100.0;
    pause.percentiles_ms.iter().map(|(name, ms)| (name.clone(), ratio(*ms))).collect()
}
