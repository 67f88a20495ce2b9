//! The temporary directory of one server, and the user that it belongs to.
//!
//! Postgres refuses to run as root, and what a test takes away from a directory root does not miss.
//! So when the test runs as root, its servers run as `nobody`, and their files belong to `nobody`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::limits::{LOG_LINES, LOOK_EVERY, READY_MAX};
use crate::program;

/// The uid and the gid of `nobody`, the same on every Linux distribution in use.
const NOBODY: u32 = 65_534;

/// What is run.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, besides `HOME` and `PATH`. Nothing is inherited: what a person has set for
    /// the server of their own must not reach the test's.
    pub env: Vec<(OsString, OsString)>,
}

impl Launch {
    /// A program without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// With these arguments too.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// With this variable too.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }
}

/// A directory that is removed when it is dropped.
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// Makes one. Its path is short: that of a Unix socket may have 107 bytes.
    pub fn make() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("kb-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir();
        let home = Self { directory: directory.context("cannot make a temporary directory")? };
        home.hand_over(home.path())?;
        Ok(home)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a directory in it that belongs to the server.
    pub fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        self.hand_over(&path)?;
        Ok(path)
    }

    /// Writes a file that the server and the test can read, and nobody else.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.write_as(name, text, 0o600)
    }

    /// Writes a script that the server can start.
    pub fn write_program(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.write_as(name, text, 0o700)
    }

    fn write_as(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path().join(name);
        let fault = || format!("cannot write {}", path.display());
        let mut file = File::create(&path).with_context(fault)?;
        file.set_permissions(Permissions::from_mode(mode)).with_context(fault)?;
        file.write_all(text.as_bytes()).with_context(fault)?;
        self.hand_over(&path)?;
        Ok(path)
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last that the server has said.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// The command, as the server's user, its outputs going to the log; killed by the kernel when
    /// the thread that starts it ends.
    pub fn command(&self, launch: &Launch) -> Result<Command> {
        let log = self.path().join("log");
        let log = OpenOptions::new().create(true).append(true).open(&log);
        let log = log.context("cannot write the log of a server")?;
        let mut command = as_nobody_and_dying_with_us(&launch.program)?;
        command
            .args(&launch.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write the log of a server")?)
            .stderr(log);
        Ok(command)
    }

    /// Runs what prepares the server's data to its end.
    pub fn run(&self, launch: &Launch) -> Result<()> {
        let name = launch.program.display();
        let mut child = self.command(launch)?.spawn();
        let child = child.as_mut().map_err(|error| anyhow::anyhow!("cannot start {name}: {error}"));
        let child = child?;
        let deadline = Instant::now() + READY_MAX;
        loop {
            let ended = child.try_wait().with_context(|| format!("cannot wait for {name}"))?;
            match ended {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{name} ended with {status}; it says:\n{}", self.log_end()),
                None if Instant::now() < deadline => std::thread::park_timeout(LOOK_EVERY),
                None => {
                    child.kill().with_context(|| format!("cannot kill {name}"))?;
                    child.wait().with_context(|| format!("cannot wait for {name}"))?;
                    bail!("{name} did not end within {READY_MAX:?}");
                }
            }
        }
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY))
                .with_context(|| format!("cannot give {} to nobody", path.display()))?;
        }
        Ok(())
    }
}

/// Whether the test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_nobody_and_dying_with_us(program: &Path) -> Result<Command> {
    static HAS_SETPRIV: OnceLock<bool> = OnceLock::new();
    let has_setpriv = *HAS_SETPRIV.get_or_init(|| program::on_path("setpriv").is_some());
    if is_root() {
        if !has_setpriv {
            bail!("a server must not run as root, and setpriv (of util-linux) is not here");
        }
        if let Some(closed) = closed_to_others(program) {
            bail!(
                "{} cannot be started by nobody: {} is closed to others; set {} to a directory \
                 that everybody may enter, or do not run the tests as root",
                program.display(),
                closed.display(),
                program::CACHE,
            );
        }
    }
    if !has_setpriv {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([user, group]).arg("--clear-groups");
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// What keeps another user from this program: itself, or a directory on the way to it.
fn closed_to_others(program: &Path) -> Option<PathBuf> {
    let program = program.canonicalize().ok()?;
    let is_closed = |path: &&Path| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 == 0)
    };
    program.ancestors().find(is_closed).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_closed_to_others_and_goes_with_its_owner() {
        let home = Home::make().expect("a home");
        let path = home.write("secret", "word").expect("written");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!((mode(&path) & 0o777, mode(home.path()) & 0o777), (0o600, 0o700));
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_behind_a_closed_door_is_noticed() {
        let folder = tempfile::tempdir().expect("a directory");
        let program = folder.path().join("program");
        std::fs::write(&program, "").expect("written");
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
        };
        open(&program, 0o755);
        open(folder.path(), 0o700);
        let closed = closed_to_others(&program).expect("closed");
        assert_eq!(closed, folder.path().canonicalize().expect("there"));
        open(folder.path(), 0o755);
        assert_eq!(closed_to_others(&program), None);
    }

    #[test]
    fn what_prepares_the_data_and_fails_says_why() {
        let home = Home::make().expect("a home");
        home.run(&Launch::new("/bin/sh").args(["-c", "exit 0"])).expect("ends well");
        let failed = home.run(&Launch::new("/bin/sh").args(["-c", "echo no room; exit 3"]));
        let text = failed.expect_err("ends badly").to_string();
        assert!(text.contains("exit status: 3") && text.contains("no room"), "{text}");
    }
}
