//! Vault, built from its published module, which takes minutes the first time.
//!
//! The `minimal` build leaves out the cloud vendors' engines, and with them two thirds of the time
//! and of the program; what makes users of Postgres is then a program of its own. Vault's licence
//! (BUSL 1.1) allows that; nothing that is built here is passed on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keybaton_servers::program::{Kind, on_path};

use crate::servers::place;
use crate::shell::{Shell, say};

/// The plugin's package.
pub const PLUGIN: &str =
    "github.com/hashicorp/vault/plugins/database/postgresql/postgresql-database-plugin";

/// How often progress is told: often enough to see that it goes on, seldom enough to read.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Builds `package` to its place in the cache.
pub fn build(shell: &Shell, kind: Kind, cache: &Path, package: &str) -> Result<()> {
    let Some(go) = on_path("go") else {
        bail!("it is built with Go, 1.25 or newer, and there is no `go` on the search path");
    };
    let part = place::begin(cache, kind.word())?;
    let program = part.join(kind.program());
    let mut command = Command::new(go);
    command
        .args(["build", "-v", "-mod=readonly", "-tags", "minimal", "-trimpath"])
        .args(["-ldflags", "-s -w", "-o"])
        .arg(&program)
        .arg(package)
        .current_dir(shell.root().join("xtask/servers/vault"));
    say("== the first build takes minutes, up to a quarter of an hour on two busy cores");
    watch(kind.name(), command)?;
    place::open(&program, 0o755)?;
    place::finish(&program, &cache.join(kind.place()))?;
    place::remove(&part)
}

/// Runs a build, and tells how far it is.
fn watch(name: &str, mut command: Command) -> Result<()> {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut progress = Progress::default();
    let mut told = began;
    for line in BufReader::new(child.stderr.take().context("piped")?).lines() {
        progress.read(line?);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&format!("== {name}: {}, {} s", progress.line(), began.elapsed().as_secs()));
        }
    }
    let status = child.wait()?;
    let how = if status.success() { "ok" } else { "FAILED" };
    say(&format!("== {name}: {how}, {}, {} s", progress.line(), began.elapsed().as_secs()));
    if !status.success() {
        bail!("go build ended with {status}: {}", progress.faults.join("; "));
    }
    Ok(())
}

/// What `go build -v` has said.
#[derive(Default)]
struct Progress {
    fetched: u32,
    compiled: u32,
    /// Whatever is neither.
    faults: Vec<String>,
}

impl Progress {
    fn read(&mut self, line: String) {
        let is_path = line.contains('/') || line.chars().all(|c| c.is_ascii_alphanumeric());
        match line.strip_prefix("go: downloading ") {
            Some(_) => self.fetched += 1,
            None if is_path && !line.contains(' ') => self.compiled += 1,
            None => self.faults.push(line),
        }
    }

    fn line(&self) -> String {
        format!("{} modules fetched, {} packages compiled", self.fetched, self.compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_says_is_counted_and_faults_are_kept() {
        let mut progress = Progress::default();
        for line in [
            "go: downloading github.com/a/b v1.2.3",
            "errors",
            "github.com/a/b/c",
            "main.go:3:1: syntax error",
        ] {
            progress.read(line.to_owned());
        }
        assert_eq!(progress.line(), "1 modules fetched, 2 packages compiled");
        assert_eq!(progress.faults, ["main.go:3:1: syntax error"]);
    }
}
