//! `cargo xtask prove`: every claim, for as long as one wants, with a report at the end.
//!
//! A claim is an ordinary test that says how it went (`tests/evidence`). Each is given a share of
//! the time; what it found is read back, shown as one line, and written into `docs/evidence.md`
//! with its charts.
//!
//! **Invariant:** a claim without evidence failed: a test that says nothing proves nothing.

mod chart;
mod page;
mod provers;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use keybaton_evidence::{DIRECTORY, Evidence, SECONDS};
use serde::Serialize;

use crate::outcome::Outcome;
use crate::shell::{Shell, say};
use provers::{How, PROVERS, Prover};

/// Where evidence of the present run is put; nothing of an earlier run is left there.
const EVIDENCE: &str = "target/evidence";

/// The shortest share of a claim: its default form takes about as long.
const SHARE_MIN: Duration = Duration::from_secs(5);

/// What `cargo xtask prove` understands.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask prove --minutes 10        # all claims; writes docs/evidence.md
  cargo xtask prove --hours 8           # over night
  cargo xtask prove --only model        # claims of one prover; leaves the report alone
  cargo xtask prove -o json             # one line per claim for a machine")]
pub struct Options {
    /// How many minutes the proofs may take together, besides building
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// The same in hours
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..=168))]
    hours: Option<u64>,
    /// Only the provers whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// `text` or `json`: one object a line, `claim`, `holds`, `mutants_refuted`, `mutants_survived`
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

/// How the last lines look.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// One claim for a machine.
#[derive(Serialize)]
struct Line<'a> {
    claim: &'a str,
    holds: bool,
    cases: u64,
    seconds: f64,
    mutants_refuted: usize,
    mutants_survived: usize,
}

/// Runs the provers, then reports.
pub fn run(shell: &Shell, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let is_asked = |it: &&Prover| options.only.as_ref().is_none_or(|part| it.name.contains(part));
    let provers: Vec<_> = PROVERS.iter().filter(is_asked).collect();
    outcome.require("no prover has that name; `cargo xtask prove` runs all", !provers.is_empty());
    let minutes = options.hours.map_or(options.minutes, |hours| hours * 60);
    let whole = Duration::from_secs(minutes * 60);
    let directory = shell.root().join(EVIDENCE);
    clear(&directory)?;

    let began = Instant::now();
    let weights: u32 = provers.iter().map(|prover| prover.weight).sum();
    for (number, prover) in provers.iter().enumerate() {
        let share = (whole * prover.weight / weights.max(1)).max(SHARE_MIN);
        say(&format!(
            "== proof {} of {}, {}: {} s of {minutes} min; {:.0} s gone",
            number + 1,
            provers.len(),
            prover.name,
            share.as_secs(),
            began.elapsed().as_secs_f64(),
        ));
        prove(shell, prover, share, &directory, &mut outcome)?;
    }
    let mut found = read(&directory)?;
    found.sort_by(|left, right| left.claim.cmp(&right.claim));
    check(&provers, &found, &mut outcome);
    if options.only.is_none() {
        let missing: Vec<_> = claims(&provers).filter(|claim| !is_there(&found, claim)).collect();
        page::write(shell.root(), &found, &missing, minutes)?;
        say("wrote docs/evidence.md and its charts");
    }
    for evidence in &found {
        print(evidence, options.output)?;
    }
    Ok(outcome)
}

/// Runs one prover with its share of the time.
fn prove(
    shell: &Shell,
    prover: &Prover,
    share: Duration,
    directory: &Path,
    outcome: &mut Outcome,
) -> Result<()> {
    let ran = match prover.how {
        How::Cargo(line) => {
            let mut build = shell.cargo(line);
            build.arg("--no-run");
            // Building is not part of the share.
            let built = shell.run_quietly(prover.name, build)?;
            if !built.is_ok {
                say(&built.text);
                outcome.require(&format!("{} does not build", prover.name), false);
                return Ok(());
            }
            let mut command = shell.cargo(line);
            command.arg("--");
            if prover.in_turn > 1 {
                command.arg("--test-threads=1");
            }
            if !prover.tests.is_empty() {
                command.arg("--exact").args(prover.tests);
            }
            command.env(SECONDS, (share.as_secs() / prover.in_turn).to_string());
            command.env(DIRECTORY, directory);
            shell.run_quietly(prover.name, command)?
        }
        How::Registry => {
            outcome.absorb(crate::loom::run_for(shell, Some(share), Some(directory))?);
            return Ok(());
        }
    };
    if !ran.is_ok {
        say(&ran.text);
    }
    outcome.note(prover.name, &ran);
    Ok(())
}

/// Every claim that these leave evidence of.
fn claims(provers: &[&Prover]) -> impl Iterator<Item = &'static str> {
    provers.iter().flat_map(|prover| prover.claims).copied()
}

fn is_there(found: &[Evidence], claim: &str) -> bool {
    found.iter().any(|evidence| evidence.claim == claim)
}

/// Demands that every claim that was asked for is there, holds, and could have failed.
fn check(provers: &[&Prover], found: &[Evidence], outcome: &mut Outcome) {
    for claim in claims(provers) {
        outcome.require(&format!("{claim} left no evidence"), is_there(found, claim));
    }
    for evidence in found {
        outcome.require(&format!("{} does not hold", evidence.claim), evidence.holds);
        for mutant in evidence.survivors() {
            let what = format!("{}: nobody noticed the mutant '{}'", evidence.claim, mutant.name);
            outcome.require(&what, false);
        }
    }
}

fn print(evidence: &Evidence, form: Form) -> Result<()> {
    let survived = evidence.survivors().count();
    let line = Line {
        claim: &evidence.claim,
        holds: evidence.holds,
        cases: evidence.cases,
        seconds: evidence.seconds,
        mutants_refuted: evidence.mutants.len() - survived,
        mutants_survived: survived,
    };
    let text = match form {
        Form::Json => serde_json::to_string(&line)?,
        Form::Text => {
            let how = if line.holds { "holds" } else { "BROKEN" };
            format!(
                "{:<26} {how}  {:>12} {}, {:.0} s; {} of {} mutants refuted",
                line.claim,
                page::grouped(line.cases),
                evidence.unit,
                line.seconds,
                line.mutants_refuted,
                evidence.mutants.len(),
            )
        }
    };
    writeln!(std::io::stdout(), "{text}").context("standard output is gone")
}

/// An empty directory.
fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))
}

/// What was found, one file a claim.
fn read(directory: &Path) -> Result<Vec<Evidence>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    let paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    let is_evidence = |path: &&PathBuf| path.extension().is_some_and(|it| it == "json");
    paths
        .iter()
        .filter(is_evidence)
        .map(|path| {
            let text = std::fs::read_to_string(path)?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no evidence", path.display()))
        })
        .collect()
}
