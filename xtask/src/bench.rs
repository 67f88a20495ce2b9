//! Figures, always from an optimised build.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::outcome::Outcome;
use crate::shell::Shell;

/// What to measure and how to print it. `docs/benchmarks.md` says what the figures mean, and how a
/// whole run is measured.
#[derive(Args)]
pub struct Options {
    /// Only this group, for example `registry`; without it, all
    group: Option<String>,
    /// How figures are printed; `json` is one object a line
    #[arg(short, long, default_value = "text")]
    output: Format,
    /// The build profile; one without optimisation is refused
    #[arg(long, default_value = "release")]
    profile: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Builds the benches and runs them.
pub fn run(shell: &Shell, options: &Options) -> Result<Outcome> {
    let profile = &options.profile;
    if ["dev", "test", "debug"].contains(&profile.as_str()) {
        bail!("a build with profile `{profile}` measures nothing; leave --profile out");
    }
    let mut command = shell.cargo("run --package keybaton-benches --bin keybaton-benches");
    command.args(["--profile", profile, "--"]).args(&options.group);
    if let Format::Json = options.output {
        command.args(["-o", "json"]);
    }
    let mut outcome = Outcome::default();
    outcome.note("bench", &shell.run("bench", command)?);
    Ok(outcome)
}
