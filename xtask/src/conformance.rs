//! `docs/conformance.md`: written when every implementation has kept every promise of its port.
//!
//! **Invariant:** a test that failed, or that had no server, leaves the page as it is.

use anyhow::Result;
use keybaton_evidence::WRITE_CONFORMANCE;

use crate::outcome::Outcome;
use crate::shell::{Shell, say};

const TESTS: &str = "test --workspace --test conformance --";

/// The one that compares the page, and writes it when it is told to.
const PAGE: &str = "page::the_page_is_what_these_tests_are";

/// Runs the tests, then has the page written.
pub fn run(shell: &Shell) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut tests = shell.cargo(TESTS);
    // A test whose server is missing must not pass for one that was tried.
    tests.args(["--skip", PAGE]).env("CI", "true");
    let ran = shell.run_and_keep("conformance", tests)?;
    outcome.note("conformance", &ran);
    let is_held = outcome.count(&ran.text).is_pass() && ran.is_ok;
    outcome.require("docs/conformance.md was left as it is", is_held);
    if is_held {
        let mut page = shell.cargo(TESTS);
        page.args(["--exact", PAGE]).env(WRITE_CONFORMANCE, "1");
        let written = shell.run_quietly("docs/conformance.md", page)?;
        if written.is_ok {
            say("wrote docs/conformance.md");
        } else {
            say(&written.text);
        }
        outcome.note("docs/conformance.md was not written", &written);
    }
    Ok(outcome)
}
