//! All tests.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use keybaton_servers::missing::{NOT_RUN, read_line};

use crate::outcome::Outcome;
use crate::shell::Shell;

/// Runs the workspace's tests with their documentation examples, then what needs other flags.
pub fn run(shell: &Shell, short: bool) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    // Tests that find their server missing pass for the runner; they say so here.
    let list = shell.root().join("target/not-run");
    begin(&list)?;
    let mut command = shell.cargo("test --workspace --no-fail-fast");
    command.env(NOT_RUN, &list);
    let ran = shell.run_and_keep("tests", command)?;
    outcome.note("tests of the workspace", &ran);
    let counts = outcome.count(&ran.text);
    leave_out(&mut outcome, &read(&list)?);
    outcome.require("no test was found in the workspace", counts.is_pass() || !ran.is_ok);
    if short {
        outcome.leave_out("loom and shuttle on the registry", "get them with `cargo xtask loom`");
    } else {
        outcome.absorb(crate::loom::run(shell)?);
    }
    for (what, how) in NEVER_HERE {
        outcome.leave_out(what, how);
    }
    Ok(outcome)
}

/// Removes the list of an earlier run.
fn begin(list: &Path) -> Result<()> {
    match std::fs::remove_file(list) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("cannot remove {}", list.display()))
}

/// Reads the list; without one, every test had its server.
fn read(list: &Path) -> Result<String> {
    match std::fs::read_to_string(list) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("cannot read {}", list.display())),
    }
}

/// Takes the tests that could not run out of those that passed, and names them by server.
fn leave_out(outcome: &mut Outcome, list: &str) {
    let mut servers = BTreeMap::<_, Vec<_>>::new();
    for [test, server, how] in list.lines().filter_map(read_line) {
        servers.entry((server, how)).or_default().push(test);
    }
    for ((server, how), mut tests) in servers {
        tests.sort_unstable();
        let what = match tests.len() {
            1 => format!("1 test that needs {server}: {}", tests[0]),
            count => format!("{count} tests that need {server}: {}", tests.join(", ")),
        };
        outcome.leave_out(&what, how);
        outcome.discount(tests.len());
    }
}

/// What is no test that passes or fails, and where it is.
const NEVER_HERE: [(&str, &str); 1] =
    [("benches, whose figures need a quiet machine", "get them with `cargo xtask bench`")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_without_their_server_are_named_by_server_and_did_not_pass() {
        let mut outcome = Outcome::default();
        outcome.count("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured\n");
        let list = "b::t\tVault\tget it\nc::u\tRedis\tinstall it\na::s\tVault\tget it\n";
        leave_out(&mut outcome, list);
        let text = format!("{outcome:?}");
        assert!(text.contains("2 tests that need Vault: a::s, b::t"), "{text}");
        assert!(text.contains("1 test that needs Redis: c::u"), "{text}");
        assert!(text.contains("passed: 2") && text.contains("ignored: 3"), "{text}");
    }

    #[test]
    fn the_list_of_an_earlier_run_does_not_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let list = directory.path().join("not-run");
        begin(&list).expect("there is nothing to remove");
        assert_eq!(read(&list).expect("read"), "");
        std::fs::write(&list, "old").expect("written");
        begin(&list).expect("removed");
        assert_eq!(read(&list).expect("read"), "");
    }
}
