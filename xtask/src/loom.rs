//! Loom and shuttle on the real registry, and on wrong variants of it that they must refute.
//!
//! Loom goes through every interleaving of a few threads, in every memory order; shuttle draws
//! schedules of more threads. A check that cannot fail proves nothing:
//! `actors/registry/mutants.txt` lists the wrong variants, each with the tests that have to fail
//! under it. A variant is chosen by `--cfg`, given to our crates alone through a compiler wrapper,
//! so that the dependencies are built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keybaton_evidence::{Evidence, Mutant};

use crate::outcome::Outcome;
use crate::shell::{Shell, say};

const PACKAGE: &str = "keybaton-registry";
const MUTANTS: &str = "actors/registry/mutants.txt";

/// What shuttle reads how many schedules to draw from.
const SCHEDULES: &str = "KEYBATON_SHUTTLE_SCHEDULES";

/// Schedules of each test that two cores draw in a second.
const SCHEDULES_A_SECOND: u64 = 500;

/// What goes through interleavings.
struct Explorer {
    /// Its name: the `--cfg`, the test binary, and the end of the claim's name.
    name: &'static str,
    /// What it claims.
    statement: &'static str,
    /// How it looks.
    method: &'static str,
    /// What it does not see.
    note: &'static str,
}

const LOOM: Explorer = Explorer {
    name: "loom",
    statement: "no interleaving of a few threads, in any memory order, lets a closed version be \
                held, loses a notice, or tells one too early",
    method: "all interleavings up to three preemptions, on the real code",
    note: "two to three threads a test; no code of ours is unsafe (a test holds every crate to \
           that), so that Miri and ThreadSanitizer have nothing of ours to look at",
};

const SHUTTLE: Explorer = Explorer {
    name: "shuttle",
    statement: "no schedule of many threads lets a closed version be held, loses a notice, or \
                tells one too early",
    method: "random and PCT schedules of four to eight threads, on the real code",
    note: "one memory order alone: a wrong one is for loom",
};

/// A wrong variant.
#[derive(Debug, PartialEq, Eq)]
struct Variant {
    name: String,
    /// The tests that must fail under it, loom's and shuttle's; none: that one cannot see it.
    tests: [Option<String>; 2],
}

/// The real code passes; every wrong variant is refuted.
pub fn run(shell: &Shell) -> Result<Outcome> {
    run_for(shell, None, None)
}

/// The same for so long, with evidence in this directory; none: where the environment says.
pub fn run_for(
    shell: &Shell,
    share: Option<Duration>,
    directory: Option<&Path>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let list = std::fs::read_to_string(shell.root().join(MUTANTS))
        .with_context(|| format!("cannot read {MUTANTS}"))?;
    let variants = read(&list)?;
    for (place, explorer) in [LOOM, SHUTTLE].into_iter().enumerate() {
        explorer.explore(shell, place, &variants, share, directory, &mut outcome)?;
    }
    Ok(outcome)
}

impl Explorer {
    fn explore(
        &self,
        shell: &Shell,
        place: usize,
        variants: &[Variant],
        share: Option<Duration>,
        directory: Option<&Path>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let built = shell.run_quietly("cargo", self.command(shell, "--no-run", None)?)?;
        if !built.is_ok {
            say(&built.text);
        }
        let began = Instant::now();
        let mut command = self.command(shell, "", None)?;
        if let Some(share) = share {
            let schedules = share.as_secs().saturating_mul(SCHEDULES_A_SECOND).max(1000);
            command.env(SCHEDULES, schedules.to_string());
        }
        let ran = shell.run_and_keep(self.name, command)?;
        let seconds = began.elapsed().as_secs_f64();
        outcome.note(&format!("{} on the registry", self.name), &ran);
        let counts = outcome.count(&ran.text);
        let none = format!("{} found no test in the registry", self.name);
        outcome.require(&none, counts.is_pass() || !ran.is_ok);
        let mut mutants = Vec::new();
        for variant in variants {
            let Some(test) = &variant.tests[place] else { continue };
            let mutant = self.refute(shell, &variant.name, test)?;
            let what = format!("{}: mutant {}: {}", self.name, mutant.name, mutant.how);
            outcome.require(&what, mutant.refuted);
            mutants.push(mutant);
        }
        let evidence = Evidence {
            claim: format!("registry-{}", self.name),
            statement: self.statement.into(),
            method: self.method.into(),
            cases: explored(&ran.text),
            unit: "interleavings".into(),
            seconds,
            holds: ran.is_ok && counts.is_pass(),
            counterexample: if ran.is_ok { String::new() } else { ran.text },
            mutants,
            command: "cargo xtask loom".into(),
            notes: vec![self.note.into()],
            series: Vec::new(),
        };
        outcome.require(&format!("{} counted nothing", self.name), evidence.cases > 0);
        leave(&evidence, directory)
    }

    /// Runs the test under the wrong variant; says how that ended.
    fn refute(&self, shell: &Shell, name: &str, test: &str) -> Result<Mutant> {
        let began = Instant::now();
        let built = shell.run_quietly("cargo", self.command(shell, "--no-run", Some(name))?)?;
        let mutant = |refuted, how: String| Mutant { name: name.to_owned(), refuted, how };
        if !built.is_ok {
            say(&built.text);
            return Ok(mutant(false, "does not build".to_owned()));
        }
        let mut command = self.command(shell, "", Some(name))?;
        command.args(["--", "--exact", test]);
        let ran = shell.run_quietly("cargo", command)?;
        let counts = Outcome::default().count(&ran.text);
        let mutant = match (ran.is_ok, counts.has_failures()) {
            (false, true) => mutant(true, format!("{test} fails: {}", why(&ran.text))),
            (true, _) if !counts.is_pass() => {
                mutant(false, format!("names the test {test}, which is not there"))
            }
            (true, _) => mutant(false, format!("was not refuted by {test}")),
            (false, false) => {
                say(&ran.text);
                mutant(false, format!("ended {test} without a result"))
            }
        };
        let how = if mutant.refuted { "refuted" } else { &mutant.how };
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("== {} mutant {name}: {how}, {seconds:.1} s", self.name));
        Ok(mutant)
    }

    /// Builds with another `--cfg` get a directory of their own, or every build would undo the
    /// last.
    fn target(&self, shell: &Shell) -> PathBuf {
        shell.root().join("target").join(self.name)
    }

    fn command(&self, shell: &Shell, extra: &str, mutant: Option<&str>) -> Result<Command> {
        let Self { name, .. } = self;
        let mut command =
            shell.cargo(&format!("test --package {PACKAGE} --release --test {name} {extra}"));
        let target = self.target(shell);
        command.env("RUSTFLAGS", format!("--cfg {name}")).env("CARGO_TARGET_DIR", &target);
        if let Some(mutant) = mutant {
            command.env("RUSTC_WORKSPACE_WRAPPER", wrapper(&target, mutant)?);
        }
        Ok(command)
    }
}

/// Writes evidence down, in the directory or where the environment says.
fn leave(evidence: &Evidence, directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else {
        return evidence.write_down().context("the directory for evidence cannot be written to");
    };
    let path = directory.join(format!("{}.json", evidence.claim));
    std::fs::write(&path, serde_json::to_string_pretty(evidence)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What the tests say that they went through, summed.
fn explored(text: &str) -> u64 {
    let counts = text.lines().filter_map(|line| {
        // The line may stand behind what the test runner printed without an end.
        let (_, count) = line.rsplit_once("explored ")?;
        count.strip_suffix(" interleavings")?.parse::<u64>().ok()
    });
    counts.sum()
}

/// What the first panic says.
fn why(text: &str) -> &str {
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    lines.nth(1).unwrap_or("it ended early").trim()
}

/// Writes the compiler wrapper of a mutant. Its path is part of what cargo tells builds apart by,
/// so each mutant has a file of its own.
fn wrapper(target: &Path, name: &str) -> Result<PathBuf> {
    let folder = target.join("mutants");
    let path = folder.join(name);
    let script = format!("#!/bin/sh\nexec \"$@\" --cfg 'keybaton_mutant=\"{name}\"'\n");
    let is_there = std::fs::read_to_string(&path).is_ok_and(|old| old == script);
    if !is_there {
        let fault = || format!("cannot write {}", path.display());
        std::fs::create_dir_all(&folder).with_context(fault)?;
        std::fs::write(&path, script).with_context(fault)?;
        make_executable(&path).with_context(fault)?;
    }
    Ok(path)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("the wrapper is a shell script; run this on Linux or macOS"))
}

/// Reads the list: a mutant a line, its name and its two tests; `#` begins a comment.
fn read(list: &str) -> Result<Vec<Variant>> {
    let mut variants = Vec::new();
    for (place, line) in list.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        let test = |word: &str| (word != "-").then(|| word.to_owned());
        match words[..] {
            [] => {}
            [name, loom, shuttle] if [name, loom, shuttle].into_iter().all(is_word) => {
                let tests = [test(loom), test(shuttle)];
                if tests == [None, None] {
                    bail!("line {} of {MUTANTS} names no test", place + 1);
                }
                variants.push(Variant { name: name.to_owned(), tests });
            }
            _ => bail!("line {} of {MUTANTS} is not `NAME LOOM SHUTTLE`: {line}", place + 1),
        }
    }
    for (place, explorer) in [LOOM, SHUTTLE].iter().enumerate() {
        if variants.iter().all(|variant| variant.tests[place].is_none()) {
            let name = explorer.name;
            bail!("{MUTANTS} has no mutant for {name}: a check that cannot fail proves nothing");
        }
    }
    Ok(variants)
}

fn is_word(text: &str) -> bool {
    text == "-" || text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_name_and_two_tests_per_line() {
        let list = "# head\n\nno_bias  a_walk  many_walks  # why\nno_order a_use -\n";
        let variants = read(list).expect("well formed");
        let some = |test: &str| Some(test.to_owned());
        assert_eq!(variants[0].name, "no_bias");
        assert_eq!(variants[0].tests, [some("a_walk"), some("many_walks")]);
        assert_eq!(variants[1].tests, [some("a_use"), None]);
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused() {
        let lists = [
            "",
            "# nothing\n",
            "alone\n",
            "a b\n",
            "a b c d\n",
            "no'bias t u\n",
            "a b -\n",
            "a - -\n",
        ];
        for list in lists {
            assert!(read(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn what_was_explored_is_summed() {
        let text = "running 2 tests\ntest a ... explored 12 interleavings\nok\n\
            explored 30 interleavings\nexplored no interleavings\n";
        assert_eq!(explored(text), 42);
        assert_eq!(why("x\nthread 'a' panicked at b.rs:1:\nthe notice came\n"), "the notice came");
    }
}
