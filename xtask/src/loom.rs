//! Loom on the real registry, and on wrong variants of it that loom must refute.
//!
//! A check that cannot fail proves nothing: `actors/registry/mutants.txt` lists the wrong
//! variants, each with the test that has to fail under it. A variant is chosen by `--cfg`, given
//! to our crates alone through a compiler wrapper, so that the dependencies are built once.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::outcome::Outcome;
use crate::shell::{Shell, say};

const PACKAGE: &str = "keybaton-registry";
const MUTANTS: &str = "actors/registry/mutants.txt";

/// Builds with another `--cfg` get a directory of their own, or every build would undo the last.
const TARGET_DIR: &str = "target/loom";

/// A wrong variant.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    /// The test that must fail under it.
    test: String,
}

/// The real code passes; every wrong variant is refuted.
pub fn run(shell: &Shell) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let list = std::fs::read_to_string(shell.root().join(MUTANTS))
        .with_context(|| format!("cannot read {MUTANTS}"))?;
    let mutants = read(&list)?;
    let ran = shell.run_and_keep("loom", command(shell, "", None)?)?;
    outcome.note("loom on the registry", &ran);
    let counts = outcome.count(&ran.text);
    outcome.require("loom found no test in the registry", counts.is_pass() || !ran.is_ok);
    for mutant in &mutants {
        let why_not = refute(shell, mutant)?;
        if let Some(why) = &why_not {
            outcome.require(&format!("mutant {} {why}", mutant.name), false);
        }
    }
    Ok(outcome)
}

/// Returns why the mutant stands, if it does.
fn refute(shell: &Shell, mutant: &Mutant) -> Result<Option<String>> {
    let began = Instant::now();
    let Mutant { name, test } = mutant;
    let built = shell.run_quietly("cargo", command(shell, "--no-run", Some(mutant))?)?;
    if !built.is_ok {
        say(&built.text);
        return Ok(Some("does not build".to_owned()));
    }
    let mut command = command(shell, "", Some(mutant))?;
    command.args(["--", "--exact", test]);
    let ran = shell.run_quietly("cargo", command)?;
    let counts = Outcome::default().count(&ran.text);
    let why_not = match (ran.is_ok, counts.has_failures()) {
        (false, true) => None,
        (true, _) if !counts.is_pass() => {
            Some(format!("names the test {test}, which is not there"))
        }
        (true, _) => Some(format!("was not refuted by {test}")),
        (false, false) => {
            say(&ran.text);
            Some(format!("ended {test} without a result"))
        }
    };
    let how = why_not.as_deref().unwrap_or("refuted");
    say(&format!("== mutant {name}: {how}, {:.1} s", began.elapsed().as_secs_f64()));
    Ok(why_not)
}

fn command(shell: &Shell, extra: &str, mutant: Option<&Mutant>) -> Result<Command> {
    let line = format!("test --package {PACKAGE} --release --test loom {extra}");
    let mut command = shell.cargo(&line);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", shell.root().join(TARGET_DIR));
    if let Some(mutant) = mutant {
        command.env("RUSTC_WORKSPACE_WRAPPER", wrapper(shell, &mutant.name)?);
    }
    Ok(command)
}

/// Writes the compiler wrapper of a mutant. Its path is part of what cargo tells builds apart by,
/// so each mutant has a file of its own.
fn wrapper(shell: &Shell, name: &str) -> Result<PathBuf> {
    let folder = shell.root().join(TARGET_DIR).join("mutants");
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
fn make_executable(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &std::path::Path) -> std::io::Result<()> {
    Err(std::io::Error::other("the wrapper is a shell script; run this on Linux or macOS"))
}

/// Reads the list: one mutant a line, its name and its test; `#` begins a comment.
fn read(list: &str) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for (place, line) in list.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        match words[..] {
            [] => {}
            [name, test] if is_word(name) && is_word(test) => {
                mutants.push(Mutant { name: name.to_owned(), test: test.to_owned() });
            }
            _ => bail!("line {} of {MUTANTS} is not `NAME TEST`: {line}", place + 1),
        }
    }
    if mutants.is_empty() {
        bail!("{MUTANTS} lists no mutant: a check that cannot fail proves nothing");
    }
    Ok(mutants)
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_name_and_a_test_per_line() {
        let mutants = read("# head\n\nno_bias  a_walk_is_whole  # why\n").expect("well formed");
        let (name, test) = ("no_bias".to_owned(), "a_walk_is_whole".to_owned());
        assert_eq!(mutants, [Mutant { name, test }]);
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused() {
        for list in ["", "# nothing\n", "alone\n", "one two three\n", "no'bias test\n"] {
            assert!(read(list).is_err(), "{list:?}");
        }
    }
}
