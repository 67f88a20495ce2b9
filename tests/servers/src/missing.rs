//! What a test does when a server is not on the machine: it ends without a verdict and says so, and
//! under `CI=true` it fails.
//!
//! A test runner knows only "passed" and "failed". So a test that could not run leaves a line in
//! the file that [`NOT_RUN`] names, and `cargo xtask test` takes it out of the tests that passed
//! and prints it at the end.

use std::io::Write;

/// The environment variable with the file to which tests that could not run are written, a line
/// each: the test, the server and how to get it, separated by tabs.
pub const NOT_RUN: &str = "KEYBATON_NOT_RUN";

/// A server that is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{server} is not on this machine; {how_to_get_it}")]
pub struct Missing {
    /// Which one.
    pub server: &'static str,
    /// What to do about it.
    pub how_to_get_it: String,
}

/// The server that was started, or nothing where the machine does not have it. The test that gets
/// nothing must return: it has been noted as not run.
///
/// # Panics
/// When the server is there and did not start, and when it is missing under `CI=true`.
#[must_use]
#[track_caller]
pub fn unless_missing<T>(started: anyhow::Result<T>) -> Option<T> {
    let error = match started {
        Ok(server) => return Some(server),
        Err(error) => error,
    };
    let Some(missing) = error.downcast_ref::<Missing>() else {
        panic!("a server does not start: {error:#}");
    };
    assert!(!is_ci(), "{missing}; under CI=true that is a failure");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    note(test, missing).expect("the list of tests that were not run can be written");
    None
}

/// Whether this is CI, where a missing server is a failure.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1")
}

fn note(test: &str, missing: &Missing) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "not run: {test}: {missing}")?;
    let Some(path) = std::env::var_os(NOT_RUN) else { return Ok(()) };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    // One write, so that lines of tests that run side by side do not mix.
    file.write_all(line(test, missing).as_bytes())
}

fn line(test: &str, missing: &Missing) -> String {
    format!("{test}\t{}\t{}\n", missing.server, missing.how_to_get_it)
}

/// A line of the file that [`NOT_RUN`] names: the test, the server and how to get it.
#[must_use]
pub fn read_line(line: &str) -> Option<[&str; 3]> {
    let mut parts = line.splitn(3, '\t');
    Some([parts.next()?, parts.next()?, parts.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Missing {
        Missing { server: "Vault", how_to_get_it: "get it with `x`".into() }
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let line = line("a::test", &vault());
        assert_eq!(read_line(line.trim_end()), Some(["a::test", "Vault", "get it with `x`"]));
        assert_eq!(read_line("a::test Vault"), None);
    }

    #[test]
    fn a_server_that_does_not_start_is_a_failure_and_not_a_missing_one() {
        let broken = || unless_missing::<()>(Err(anyhow::anyhow!("no space left")));
        assert!(std::panic::catch_unwind(broken).is_err());
        assert_eq!(unless_missing(Ok(3)), Some(3));
    }
}
