//! What a proof has to say for itself: its claim, how many cases it looked at, and the mutants that
//! would have been caught had they been in the code.
//!
//! A proof is an ordinary test. It asks [`budget`] how long it may go on, and hands what it found
//! to [`Evidence::demand`], which writes it down for `cargo xtask prove` and fails the test when
//! the claim does not hold or a mutant survived. A claim without a mutant proves nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The environment variable with the number of seconds that one proof may take.
pub const SECONDS: &str = "KEYBATON_PROVE_SECONDS";

/// The environment variable with the directory to which evidence is written.
pub const DIRECTORY: &str = "KEYBATON_EVIDENCE_DIR";

/// The environment variable that has the conformance tests write `docs/conformance.md` where they
/// would compare it. `cargo xtask conformance` sets it once all of them have passed.
pub const WRITE_CONFORMANCE: &str = "KEYBATON_WRITE_CONFORMANCE";

/// How long one proof may go on: what `cargo xtask prove` gives it, else `usual`.
///
/// # Panics
/// When the variable is set and is no number of seconds: a mistyped budget must not be a short one.
#[must_use]
pub fn budget(usual: Duration) -> Duration {
    match std::env::var(SECONDS) {
        Ok(text) => Duration::from_secs(
            text.parse().unwrap_or_else(|_| panic!("{SECONDS}={text} is no number of seconds")),
        ),
        Err(_) => usual,
    }
}

/// Was a long form asked for, rather than the short one of an ordinary test run?
#[must_use]
pub fn is_long_form() -> bool {
    std::env::var_os(SECONDS).is_some()
}

/// The command that repeats a proof as it runs now: `line`, under the budget that was given.
#[must_use]
pub fn command(line: &str) -> String {
    match std::env::var(SECONDS) {
        Ok(seconds) => format!("{SECONDS}={seconds} {line}"),
        Err(_) => line.to_owned(),
    }
}

/// What one proof found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its name in file names and tables: lower case words with hyphens.
    pub claim: String,
    /// What is claimed, in one sentence.
    pub statement: String,
    /// How it was looked at, in a few words: "model checking", "SIGKILL of the real process".
    pub method: String,
    /// How many cases were looked at.
    pub cases: u64,
    /// What a case is, in the plural: "states", "seeds", "kills".
    pub unit: String,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Did the claim hold in every case?
    pub holds: bool,
    /// The case that broke it, in words a person can follow; empty when it held.
    pub counterexample: String,
    /// Faults put in on purpose, to see that the check finds them.
    pub mutants: Vec<Mutant>,
    /// The command that repeats it.
    pub command: String,
    /// What a reader should know besides: bounds, what is not covered.
    pub notes: Vec<String>,
    /// Figures over which something grew, for a chart.
    pub series: Vec<Series>,
}

/// A fault put in on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutant {
    /// What was made wrong, in a few words.
    pub name: String,
    /// Did the check find it?
    pub refuted: bool,
    /// How it shows: the promise that broke and the shortest way there, one step a line.
    pub how: String,
}

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What the line shows.
    pub name: String,
    /// What stands on the horizontal axis, with its unit.
    pub x: String,
    /// What stands on the vertical axis, with its unit.
    pub y: String,
    /// The points, by rising x.
    pub points: Vec<(f64, f64)>,
}

impl Evidence {
    /// The mutants that were not found.
    pub fn survivors(&self) -> impl Iterator<Item = &Mutant> {
        self.mutants.iter().filter(|mutant| !mutant.refuted)
    }

    /// Writes itself down where [`DIRECTORY`] says, and nowhere without it.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn write_down(&self) -> std::io::Result<()> {
        match std::env::var_os(DIRECTORY) {
            Some(directory) => self.write_to(Path::new(&directory)).map(drop),
            None => Ok(()),
        }
    }

    fn write_to(&self, directory: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}.json", self.claim));
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    /// Writes itself down; then fails the test unless the claim held in at least one case, there
    /// were mutants, and none survived.
    ///
    /// # Panics
    /// With the counterexample or the names of the survivors.
    pub fn demand(&self) {
        self.write_down().expect("the directory for evidence can be written to");
        let claim = &self.claim;
        assert!(self.holds, "{claim} does not hold:\n{}", self.counterexample);
        assert!(self.cases > 0, "{claim} was looked at in no case");
        assert!(!self.mutants.is_empty(), "{claim} has no mutant that shows that it can fail");
        assert!(
            self.counterexample.is_empty(),
            "{claim} held and has a counterexample: {}",
            self.counterexample
        );
        let survivors: Vec<_> = self.survivors().map(|mutant| mutant.name.as_str()).collect();
        assert!(survivors.is_empty(), "{claim} held, but nobody noticed: {survivors:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Evidence {
        let mutant = Mutant { name: "no intent".into(), refuted: true, how: "S4".into() };
        Evidence {
            claim: "s4".into(),
            cases: 3,
            holds: true,
            mutants: vec![mutant],
            ..Evidence::default()
        }
    }

    fn is_accepted(evidence: &Evidence) -> bool {
        std::panic::catch_unwind(|| evidence.demand()).is_ok()
    }

    #[test]
    fn a_claim_is_accepted_only_with_cases_and_without_survivors() {
        assert!(is_accepted(&whole()));
        assert!(!is_accepted(&Evidence { holds: false, ..whole() }));
        assert!(!is_accepted(&Evidence { cases: 0, ..whole() }));
        assert!(!is_accepted(&Evidence { mutants: Vec::new(), ..whole() }));
        assert!(!is_accepted(&Evidence { counterexample: "one".into(), ..whole() }));
        let mut survived = whole();
        survived.mutants[0].refuted = false;
        assert!(!is_accepted(&survived));
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = whole().write_to(directory.path()).expect("written");
        let text = std::fs::read_to_string(path).expect("read");
        assert_eq!(serde_json::from_str::<Evidence>(&text).expect("parsed"), whole());
    }
}
