//! The deterministic simulation: a build in which the runtime draws nothing by chance.

use anyhow::Result;

use crate::outcome::Outcome;
use crate::shell::Shell;

/// The test binary.
pub const LINE: &str = "test --profile simulation --package keybaton-simulation --test simulation";

/// Seeds `select!`, without which no run repeats.
pub const RUSTFLAGS: &str = "--cfg tokio_unstable";

/// Builds with other flags get a directory of their own, or every build would undo the last.
pub const TARGET: &str = "target/simulation";

/// The short form.
pub fn run(shell: &Shell) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut command = shell.cargo(LINE);
    command.env("RUSTFLAGS", RUSTFLAGS).env("CARGO_TARGET_DIR", shell.root().join(TARGET));
    let ran = shell.run_and_keep("simulation", command)?;
    outcome.note("simulation of the actors", &ran);
    let counts = outcome.count(&ran.text);
    outcome.require("the simulation found no test", counts.is_pass() || !ran.is_ok);
    Ok(outcome)
}
