//! What the benchmark can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::super::cli::StoreArgs;
use super::super::demo::{ProviderClass, ServersChoice};
use super::fail_if::FailIf;
use super::limits::{
    CALLS_SPREAD, DEADLINE_MIN, DEADLINE_STEPS, EVERY_MORE, PAYLOAD_MAX, TASKS_MAX,
};
use super::steps::StepDist;
use super::sweep::Sweep;
use super::times;

/// What can be measured.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Drain latency under load: moving running agents from one key to the next
    Drain(Box<DrainArgs>),
}

/// Measure drain latency under load.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Examples:
  keybaton bench drain                              200 agents, 33 rotations, about five minutes
  keybaton bench drain --tasks 10000 --step-dist fixed:10s --sessions 1 --own-work 0.9
  keybaton bench drain --tenants 20 --arrival 50 --every 2s
  keybaton bench drain --comparators clock,restart,poll --wait-max 10m
  keybaton bench drain --journal postgres://keybaton@db/bench --postgres-password-file pw
  keybaton bench drain --sweep tasks=100,1000,10000 --step-dist fixed:10s --sessions 1 --own-work 0.9
  keybaton bench drain --servers start              on a real Postgres, Vault and Redis
  keybaton bench drain --baseline before/summary.json --fail-if 'overhead.p99>1.2x,dropped>0'

--fail-if takes conditions separated by commas; one that is true fails the run. Left stands
drain, floor, overhead, swap, pause or revoke_lag with .p50 .p75 .p90 .p95 .p99 .p999 .max .n or
.censored, or one of dropped, refused, interrupted, lost, doubled, touched, unfinished. Right stands
a duration (12s, 250us), a number, or a multiple of the baseline (1.2x).

Exit code: 0 all held, 1 the verdict is broken or a condition of --fail-if is true, 2 the benchmark
could not run, 130 interrupted (what was measured is kept).")]
pub struct DrainArgs {
    /// Agents at work at once
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(TASKS_MAX)))]
    pub tasks: u32,

    /// Tenants, each with a key of its own; rotations go round among them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tenants: u32,

    /// Agents that arrive each second (open loop), as many leaving; without it all stay
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub arrival: Option<f64>,

    /// How long a step lasts: lognormal:p50=2s,p99=30s, fixed:200ms or file:PATH
    #[arg(long, default_value = "lognormal:p50=500ms,p99=5s", value_name = "DIST")]
    pub step_dist: StepDist,

    /// Share of the steps whose answer is a stream
    #[arg(long, default_value_t = 0.3, value_name = "SHARE", value_parser = share)]
    pub streaming: f64,

    /// Share of the agents that keep a key over many steps
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", value_parser = share)]
    pub sessions: f64,

    /// Share of each step that an agent which keeps its key works with its own tools before it calls:
    /// it holds the key and no connection, so that many more agents fit on a machine
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub own_work: f64,

    /// Bytes that an agent knows, and so about the size of its checkpoint
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=i64::from(PAYLOAD_MAX)))]
    pub payload: u32,

    /// Rotations that count
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rotations: u32,

    /// Rotations before them that do not
    #[arg(long, default_value_t = 3)]
    pub warmup: u32,

    /// Rotations that begin at the same moment, each of another tenant; then --rotations and
    /// --warmup count moments
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: u32,

    /// Between the planned beginnings of two rotations; without it the step's p99 and a second
    #[arg(long, value_name = "DURATION", value_parser = times::parse)]
    pub every: Option<Duration>,

    /// When a drain that has not ended is counted as censored; without it four times the step's
    /// p99, at least a minute
    #[arg(long, value_name = "DURATION", value_parser = times::parse)]
    pub deadline: Option<Duration>,

    /// How long the old key is kept for a rollback; it delays the revocation, not the drain
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = times::parse)]
    pub overlap: Duration,

    /// a: keys live side by side; b: issuing voids the old key
    #[arg(long, value_enum, default_value_t = ProviderClass::A)]
    pub provider_class: ProviderClass,

    /// Seed of all randomness
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// Where results are written; the run works below it, so its disk is what is measured
    #[arg(long, default_value = "keybaton-drain", value_name = "DIR")]
    pub out: PathBuf,

    /// A summary.json to compare with
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Conditions that fail the run, as in 'drain.p99>12s,dropped>0'
    #[arg(long, value_name = "EXPR")]
    pub fail_if: Option<FailIf>,

    /// Other ways to replace a key, under the same agents and the same judge
    #[arg(long, value_enum, value_delimiter = ',')]
    pub comparators: Vec<Comparator>,

    /// Agents of each comparator; without it as many as --tasks, at most 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub comparator_tasks: Option<u32>,

    /// Longest wait that the comparators are tried with
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = times::parse)]
    pub wait_max: Duration,

    /// Leaves out report.html and the charts
    #[arg(long)]
    pub no_report: bool,

    /// One option at several values, a run for each, and a chart over all: tasks, tenants, payload
    /// or at-once, as in tasks=100,1000,10000
    #[arg(long, value_name = "OPTION=VALUES")]
    pub sweep: Option<Sweep>,

    /// Where the node keeps what.
    #[command(flatten)]
    pub stores: StoreArgs,

    /// Start the servers of stores that are not chosen otherwise, for this run
    #[arg(long, value_enum, help_heading = "Stores")]
    pub servers: Option<ServersChoice>,
}

/// Another way to replace a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Comparator {
    /// New key, fixed wait, revoke.
    Clock,
    /// Kill the agents, revoke, start them again with the new key.
    Restart,
    /// Agents read the key again every so often; the old one is revoked after that time.
    Poll,
}

impl DrainArgs {
    /// Between the planned beginnings of two rotations.
    pub fn every(&self) -> Duration {
        self.every.unwrap_or_else(|| self.step_dist.p99() + EVERY_MORE)
    }

    /// Calls that may be open at once: what the shares say on average, several times that at worst,
    /// and at least those of the steps that fall due within a second in which nothing ran.
    #[expect(clippy::cast_possible_truncation, reason = "it lies between one and the tasks")]
    pub fn calls(&self) -> u32 {
        let tasks = f64::from(self.tasks);
        let calling = 1.0 - self.sessions * self.own_work;
        let in_a_second = tasks / self.step_dist.mean().as_secs_f64();
        (tasks * calling * CALLS_SPREAD).max(in_a_second).clamp(1.0, tasks).round() as u32
    }

    /// The share of own work with which that many calls are enough, if all agents keep their key.
    pub fn own_work_for(&self, calls: u32) -> f64 {
        let calling = f64::from(calls) / (f64::from(self.tasks) * CALLS_SPREAD);
        ((1.0 - calling) * 100.0).ceil() / 100.0
    }

    /// How long a drain is watched.
    pub fn deadline(&self) -> Duration {
        let usual = (self.step_dist.p99() * DEADLINE_STEPS).max(DEADLINE_MIN);
        self.deadline.unwrap_or(usual).max(Duration::from_secs(1))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1".into()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number.parse().map_err(|_| format!("{text:?} is no rate; write 50 or 50/s"))?;
    if (0.001..=100_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate is between 0.001 and 100000 a second".into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DrainArgs,
    }

    /// What is asked for with this line; its steps last ten seconds.
    fn args(line: &str) -> DrainArgs {
        let words = format!("drain --step-dist fixed:10s {line}");
        Line::try_parse_from(words.split_whitespace()).expect("a line that is understood").args
    }

    #[test]
    fn open_calls_follow_from_who_calls_and_who_works_alone() {
        let calls = |line| args(line).calls();
        assert_eq!(calls("--tasks 500"), 500, "everybody calls all the time");
        assert_eq!(calls("--tasks 10000 --sessions 1 --own-work 0.9"), 3000, "thrice a tenth");
        assert_eq!(calls("--tasks 10000 --sessions 0.5 --own-work 0.9"), 10_000, "thrice 0.55");
        assert_eq!(calls("--tasks 10000 --sessions 1 --own-work 1"), 1000, "due in one second");
        assert_eq!(calls("--tasks 3 --sessions 1 --own-work 1"), 1, "never none");
    }

    #[test]
    fn the_share_of_own_work_that_is_named_leaves_no_more_calls_than_fit() {
        for (tasks, fit) in [(10_000, 1200), (100_000, 12_000), (50_000, 8999)] {
            let line = |share| format!("--tasks {tasks} --sessions 1 --own-work {share}");
            let share = args(&line(0.0)).own_work_for(fit);
            assert!(share > 0.0 && share < 1.0, "{share}");
            assert!(args(&line(share)).calls() <= fit, "{share} for {fit} calls of {tasks}");
            let less = share - 0.01;
            assert!(args(&line(less)).calls() > fit, "{less} would have been enough");
        }
    }
}
