//! All tests.

use anyhow::Result;

use crate::outcome::Outcome;
use crate::shell::Shell;

/// Runs the workspace's tests with their documentation examples, then the loom job.
pub fn run(shell: &Shell, without_loom: bool) -> Result<Outcome> {
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
    if without_loom {
        outcome.leave_out("loom on the registry", "get it with `cargo xtask loom`");
    } else {
        outcome.absorb(crate::loom::run(shell)?);
    }
    for (what, how) in NEVER_HERE {
        outcome.leave_out(what, how);
    }
    Ok(outcome)
}

/// What is no test that passes or fails, and where it is.
const NEVER_HERE: [(&str, &str); 1] =
    [("benches, whose figures need a quiet machine", "get them with `cargo xtask bench`")];
