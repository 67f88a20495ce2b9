//! What a task came to: what failed, what was not run, how many tests there were.

use std::io::Write;
use std::process::ExitCode;

use crate::shell::{Ran, say};

/// Grows step by step.
#[derive(Debug, Default)]
pub struct Outcome {
    failed: Vec<String>,
    not_run: Vec<(String, String)>,
    tests: Option<Counts>,
}

/// Tests, as the test runner counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Outcome {
    /// Notes how a step ended.
    pub fn note(&mut self, name: &str, ran: &Ran) {
        self.require(name, ran.is_ok);
    }

    /// Notes a demand.
    pub fn require(&mut self, what: &str, is_met: bool) {
        if !is_met {
            self.failed.push(what.to_owned());
        }
    }

    /// Notes what was not run and how to get it.
    pub fn leave_out(&mut self, what: &str, how: &str) {
        self.not_run.push((what.to_owned(), how.to_owned()));
    }

    /// Adds the counts that a test runner printed.
    pub fn count(&mut self, text: &str) -> Counts {
        let counts = Counts::read(text);
        let sum = self.tests.get_or_insert_default();
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.ignored += counts.ignored;
        counts
    }

    /// Counts so many tests that returned early as not run, which a test runner calls "ignored".
    pub fn discount(&mut self, tests: usize) {
        let sum = self.tests.get_or_insert_default();
        let tests = sum.passed.min(u64::try_from(tests).unwrap_or(u64::MAX));
        sum.passed -= tests;
        sum.ignored += tests;
    }

    /// Adds another task's outcome.
    pub fn absorb(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.not_run.extend(other.not_run);
        if let Some(counts) = other.tests {
            let sum = self.tests.get_or_insert_default();
            sum.passed += counts.passed;
            sum.failed += counts.failed;
            sum.ignored += counts.ignored;
        }
    }

    /// Says all of it and turns it into an exit code. The last line is the test runner's.
    pub fn report(self) -> ExitCode {
        for (what, how) in &self.not_run {
            say(&format!("not run: {what}; {how}"));
        }
        for what in &self.failed {
            say(&format!("failed: {what}"));
        }
        let is_ok = self.failed.is_empty();
        match self.tests {
            Some(Counts { passed, failed, ignored }) => {
                let how = if is_ok { "ok" } else { "FAILED" };
                let line = format!(
                    "test result: {how}. {passed} passed; {failed} failed; {ignored} ignored"
                );
                drop(writeln!(std::io::stdout(), "{line}"));
            }
            None if is_ok => say("ok"),
            None => {}
        }
        if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Counts {
    /// Sums the lines `test result: ok. 3 passed; 1 failed; 0 ignored; ...`.
    fn read(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
            let words: Vec<_> =
                line.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            for pair in words.windows(2) {
                let Ok(number) = pair[0].parse::<u64>() else {
                    continue;
                };
                match pair[1] {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    "ignored" => counts.ignored += number,
                    _ => {}
                }
            }
        }
        counts
    }

    /// Whether at least one test ran and none failed.
    pub fn is_pass(self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    /// Whether at least one test failed.
    pub fn has_failures(self) -> bool {
        self.failed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let text = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out\n\
            noise 12 passed\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; finished in 0.10s\n";
        let counts = Counts::read(text);
        assert_eq!(counts, Counts { passed: 13, failed: 2, ignored: 1 });
        assert!(counts.has_failures() && !counts.is_pass());
    }

    #[test]
    fn a_run_without_tests_is_no_pass() {
        let counts = Counts::read("test result: ok. 0 passed; 0 failed; 0 ignored\n");
        assert!(!counts.is_pass() && !counts.has_failures());
    }
}
