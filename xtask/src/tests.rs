//! All tests.

use anyhow::Result;

use crate::outcome::Outcome;
use crate::shell::Shell;

/// Runs the workspace's tests with their documentation examples, then what needs other flags.
pub fn run(shell: &Shell, short: bool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    // The tests that kill a process start the real program; it must be the one of this tree.
    let built = shell.run("program", shell.cargo("build --package keybaton --bins"))?;
    outcome.note("the program does not build", &built);
    if built.is_ok {
        let command = shell.cargo("test --workspace --no-fail-fast");
        let ran = shell.run_and_keep("tests", command)?;
        outcome.note("tests of the workspace", &ran);
        let counts = outcome.count(&ran.text);
        outcome.require("no test was found in the workspace", counts.is_pass() || !ran.is_ok);
    }
    if short {
        outcome.leave_out("loom and shuttle on the registry", "get them with `cargo xtask loom`");
        outcome.leave_out("the simulation of the actors", "get it with `cargo xtask test`");
    } else {
        outcome.absorb(crate::loom::run(shell)?);
        outcome.absorb(crate::simulation::run(shell)?);
    }
    for (what, how) in NEVER_HERE {
        outcome.leave_out(what, how);
    }
    Ok(outcome)
}

/// What is no test that passes or fails, and where it is.
const NEVER_HERE: [(&str, &str); 1] =
    [("benches, whose figures need a quiet machine", "get them with `cargo xtask bench`")];
