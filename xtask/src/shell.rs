//! Runs programs from the root of the repository and says so.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

/// Says one line to the person who waits. Standard output belongs to what the steps print.
pub fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Where programs are run and which cargo runs them.
pub struct Shell {
    root: PathBuf,
    cargo: OsString,
}

/// What a program did.
pub struct Ran {
    /// Whether its exit code was 0.
    pub is_ok: bool,
    /// What it wrote to standard output, when that was asked for.
    pub text: String,
}

impl Shell {
    /// Finds the root of the repository.
    pub fn open() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().context("the xtask folder has no parent; clone again")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Self { root: root.to_owned(), cargo })
    }

    /// The root of the repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is CI, where a missing tool is a failure.
    pub fn is_ci(&self) -> bool {
        std::env::var_os("CI").is_some_and(|ci| ci == "true" || ci == "1")
    }

    /// A cargo command; `line` is split at spaces.
    pub fn cargo(&self, line: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(line.split_whitespace()).current_dir(&self.root);
        command
    }

    /// Whether cargo has this sub-command.
    pub fn has(&self, tool: &str) -> bool {
        let mut probe = self.cargo(tool);
        probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }

    /// Runs a command, its output going where ours goes.
    pub fn run(&self, name: &str, mut command: Command) -> Result<Ran> {
        let step = Step::begin(name, &command);
        let status = command.status().with_context(|| format!("cannot start {name}"))?;
        step.end(status.success());
        Ok(Ran { is_ok: status.success(), text: String::new() })
    }

    /// Runs a command, showing its standard output line by line and keeping it.
    pub fn run_and_keep(&self, name: &str, mut command: Command) -> Result<Ran> {
        let step = Step::begin(name, &command);
        command.stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut text = String::new();
        if let Some(pipe) = child.stdout.take() {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = line.with_context(|| format!("cannot read what {name} prints"))?;
                let line = String::from_utf8_lossy(&line);
                writeln!(std::io::stdout(), "{line}").context("standard output is gone")?;
                text.push_str(&line);
                text.push('\n');
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
        step.end(status.success());
        Ok(Ran { is_ok: status.success(), text })
    }

    /// Runs a command in silence and keeps both of its outputs.
    pub fn run_quietly(&self, name: &str, mut command: Command) -> Result<Ran> {
        let output = command.output().with_context(|| format!("cannot start {name}"))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Ran { is_ok: output.status.success(), text })
    }
}

/// The two lines around a step.
struct Step<'a> {
    name: &'a str,
    began: Instant,
}

impl<'a> Step<'a> {
    fn begin(name: &'a str, command: &Command) -> Self {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let line: Vec<_> = std::iter::once(program)
            .chain(command.get_args())
            .map(OsStr::to_string_lossy)
            .collect();
        say(&format!("== {name}: {}", line.join(" ")));
        Self { name, began: Instant::now() }
    }

    fn end(self, is_ok: bool) {
        let how = if is_ok { "ok" } else { "FAILED" };
        say(&format!("== {}: {how}, {:.1} s", self.name, self.began.elapsed().as_secs_f64()));
    }
}
