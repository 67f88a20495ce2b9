//! Everything that must be right before a change is shared, the cheap checks first.

use anyhow::Result;

use crate::outcome::Outcome;
use crate::shell::Shell;

const DENY_INSTALL: &str = "get it with `cargo install cargo-deny --locked`";

/// What cargo-deny says when it cannot reach the database of advisories.
const FETCH_FAILED: &str = "failed to fetch advisory database";

/// Checks without changing anything. A check that fails does not keep the others from running.
pub fn run(shell: &Shell, without_tests: bool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let component = |tool| format!("get it with `rustup component add {tool}`");
    if has(shell, &mut outcome, "fmt", &component("rustfmt")) {
        let ran = shell.run("format", shell.cargo("fmt --all --check"))?;
        outcome.note("format; mend it with `cargo xtask fix`", &ran);
    }
    if has(shell, &mut outcome, "deny", DENY_INSTALL) {
        deny(shell, &mut outcome)?;
    }
    if has(shell, &mut outcome, "clippy", &component("clippy")) {
        let line = "clippy --workspace --all-targets -- --deny warnings";
        outcome.note("lints", &shell.run("lints", shell.cargo(line))?);
    }
    // Examples among them, or the libraries get other features than under clippy and are checked
    // once more; then the programs must be named too, but for those called like their library.
    let mut docs = shell.cargo("doc --workspace --no-deps --lib --bin xtask --examples");
    docs.env("RUSTDOCFLAGS", "--deny warnings");
    outcome.note("documentation", &shell.run("documentation", docs)?);
    if without_tests {
        outcome.leave_out("tests", "get them with `cargo xtask test`");
    } else {
        outcome.absorb(crate::suite::run(shell, false)?);
    }
    Ok(outcome)
}

/// Whether cargo has a tool; when not, says how to get it, and in CI calls it a failure.
fn has(shell: &Shell, outcome: &mut Outcome, tool: &str, how: &str) -> bool {
    let is_there = shell.has(tool);
    if !is_there && shell.is_ci() {
        outcome.require(&format!("cargo {tool} is not installed; {how}"), false);
    } else if !is_there {
        outcome.leave_out(&format!("cargo {tool}, it is not installed"), how);
    }
    is_there
}

/// Licences, bans and sources always; advisories when their database can be had.
fn deny(shell: &Shell, outcome: &mut Outcome) -> Result<()> {
    let line = "deny --log-level error check licenses bans sources";
    let ran = shell.run("licences, bans, sources", shell.cargo(line))?;
    outcome.note("licences, bans, sources", &ran);
    let fetched = shell.run_quietly("cargo", shell.cargo("deny fetch db"))?;
    if fetched.is_ok {
        let line = "deny --log-level error check advisories";
        outcome.note("advisories", &shell.run("advisories", shell.cargo(line))?);
    } else if fetched.text.contains(FETCH_FAILED) {
        outcome.leave_out(
            "advisories, their database could not be fetched",
            "with a network, get them with `cargo deny check advisories`",
        );
    } else {
        crate::shell::say(&fetched.text);
        outcome.require("fetching advisories", false);
    }
    Ok(())
}

/// The one recipe that writes.
pub fn fix(shell: &Shell) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let line = "clippy --fix --allow-dirty --allow-staged --workspace --all-targets";
    outcome.note("lints", &shell.run("lints", shell.cargo(line))?);
    outcome.note("format", &shell.run("format", shell.cargo("fmt --all"))?);
    Ok(outcome)
}
