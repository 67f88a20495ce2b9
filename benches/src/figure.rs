//! One figure: a ratio, its bound, and whether it holds. As a table for people, as lines of JSON
//! for programs.

use std::io::Write;
use std::process::Command;

use serde::Serialize;

/// How a figure relates to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Op {
    /// The figure may not be larger.
    #[serde(rename = "<=")]
    AtMost,
    /// The figure may not be smaller.
    #[serde(rename = ">=")]
    AtLeast,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// `group/case/threads/baseline`.
    pub name: String,
    /// What was measured: a ratio, unless the name ends in a unit.
    pub ratio: f64,
    /// The bound; none for a figure that is only reported.
    pub limit: Option<f64>,
    /// How the bound is meant.
    pub op: Option<Op>,
    /// Is the bound kept? None without a bound.
    pub holds: Option<bool>,
    /// Cores of the machine: no figure says anything about another number of them.
    pub cores: usize,
    /// Commit that was measured; `+` if the tree had changes on top.
    pub commit: String,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one line of JSON for each figure.
    Json,
}

/// How large the benches of a whole node are: less for a quick look.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Scale {
    /// Rotations of which the median counts.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub rotations: u32,
    /// Tasks on one pair.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
}

/// Collects figures, and says on standard error what is being measured.
pub struct Report {
    /// How large the benches of a whole node are.
    pub scale: Scale,
    figures: Vec<Figure>,
    filter: Option<String>,
    cores: usize,
    commit: String,
}

impl Report {
    /// An empty report that measures only cases whose name contains `filter`.
    #[must_use]
    pub fn new(scale: Scale, filter: Option<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { scale, figures: Vec::new(), filter, cores, commit: commit() }
    }

    /// Should the case called `name` be measured? Says so to the person who waits.
    pub fn wants(&self, name: &str) -> bool {
        let is_wanted = self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
        if is_wanted {
            // Nobody reads it when standard error is gone, and that is no reason to stop.
            writeln!(std::io::stderr(), "measuring {name}").unwrap_or(());
        }
        is_wanted
    }

    /// A figure that may be at most `limit`.
    pub fn at_most(&mut self, name: impl Into<String>, ratio: f64, limit: f64) {
        self.push(name.into(), ratio, Some((Op::AtMost, limit)));
    }

    /// A figure that must be at least `limit`.
    pub fn at_least(&mut self, name: impl Into<String>, ratio: f64, limit: f64) {
        self.push(name.into(), ratio, Some((Op::AtLeast, limit)));
    }

    /// A figure without a bound.
    pub fn report(&mut self, name: impl Into<String>, ratio: f64) {
        self.push(name.into(), ratio, None);
    }

    /// Do all bounds hold?
    #[must_use]
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds != Some(false))
    }

    /// Writes the figures.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, format: Format, mut out: impl Write) -> anyhow::Result<()> {
        match format {
            Format::Table => writeln!(out, "{}", self.table())?,
            Format::Json => {
                for figure in &self.figures {
                    writeln!(out, "{}", serde_json::to_string(figure)?)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, name: String, ratio: f64, bound: Option<(Op, f64)>) {
        let holds = bound.map(|(op, limit)| match op {
            Op::AtMost => ratio <= limit,
            Op::AtLeast => ratio >= limit,
        });
        // Some groups take minutes: what is known is told at once.
        let verdict = if holds == Some(false) { ", which is not its bound" } else { "" };
        writeln!(std::io::stderr(), "  {name}: {ratio:.3}{verdict}").unwrap_or(());
        let (op, limit) = bound.unzip();
        let (cores, commit) = (self.cores, self.commit.clone());
        self.figures.push(Figure { name, ratio, limit, op, holds, cores, commit });
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["figure", "measured", "bound", ""]);
        for figure in &self.figures {
            let bound = match (figure.op, figure.limit) {
                (Some(Op::AtMost), Some(limit)) => format!("<= {limit}"),
                (Some(Op::AtLeast), Some(limit)) => format!(">= {limit}"),
                _ => String::new(),
            };
            let verdict = match figure.holds {
                Some(true) => "holds",
                Some(false) => "FAILS",
                None => "",
            };
            let measured = format!("{:.2}", figure.ratio);
            table.add_row([figure.name.as_str(), &measured, &bound, verdict]);
        }
        table.add_row([format!("{} cores, commit {}", self.cores, self.commit)]);
        table
    }
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    let is_changed = git(&["status", "--porcelain", "-uno"]).is_some_and(|lines| !lines.is_empty());
    format!("{}{}", commit.trim(), if is_changed { "+" } else { "" })
}
