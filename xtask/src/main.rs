//! What a person or CI runs: `cargo xtask test | verify | fix | bench | conformance | loom |
//! prove | servers`.
//!
//! Every step is announced by one line and ends with one; what a step prints goes through
//! unchanged. The exit code is 0 exactly when everything that ran was right.
//!
//! **Invariant:** only `fix`, `prove` and `conformance` change a file that is under version control.
//! **Invariant:** what was not run is said at the end, with the way to get it; a tool that is not
//! installed is a failure under `CI=true`.

mod bench;
mod conformance;
mod loom;
mod outcome;
mod prove;
mod servers;
mod shell;
mod suite;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all tests: the workspace with its documentation examples, then the registry under loom
    /// and shuttle
    Test {
        /// Leave out what needs a build of its own; it is named at the end as not run
        #[arg(long)]
        short: bool,
    },
    /// Checks format, lints, documentation, licences and advisories, then runs all tests
    Verify {
        /// Leave the tests out; they are named at the end as not run
        #[arg(long)]
        without_tests: bool,
    },
    /// Formats the code and applies the lints' own corrections
    Fix,
    /// Measures; always an optimised build
    Bench(bench::Options),
    /// Holds every implementation to its port's promises, then writes docs/conformance.md
    Conformance,
    /// Explores the registry's interleavings, and demands that each wrong variant is refuted
    Loom,
    /// Proves every claim for as long as you want, and writes docs/evidence.md
    Prove(prove::Options),
    /// Obtains the servers that tests start (Postgres, Redis, Valkey, Vault), without a container
    /// engine, and prints what is there
    Servers(servers::Options),
}

fn main() -> ExitCode {
    let task = Line::parse().task;
    let result = shell::Shell::open().and_then(|shell| match task {
        Task::Test { short } => suite::run(&shell, short),
        Task::Verify { without_tests } => verify::run(&shell, without_tests),
        Task::Fix => verify::fix(&shell),
        Task::Bench(options) => bench::run(&shell, &options),
        Task::Conformance => conformance::run(&shell),
        Task::Loom => loom::run(&shell),
        Task::Prove(options) => prove::run(&shell, &options),
        Task::Servers(options) => servers::run(&shell, &options),
    });
    match result {
        Ok(outcome) => outcome.report(),
        Err(error) => {
            shell::say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
