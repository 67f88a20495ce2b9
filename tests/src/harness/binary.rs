//! The real program, in processes of its own.
//!
//! **Invariant:** no process outlives its test: it is killed when its handle is dropped, and by
//! the kernel when the test itself is killed, where `setpriv` can ask for that.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use cargo_metadata::Message;
use rustix::process::{Pid, Signal, kill_process};

use super::wait::PATIENCE;

/// Where the program lies; it is built on first use, as the tests are.
///
/// # Panics
/// When it cannot be built.
pub fn keybaton() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("keybaton", &["--bin", "keybaton"]))
}

/// Where an example of the node's package lies.
///
/// # Panics
/// When it cannot be built.
pub fn example(name: &str) -> PathBuf {
    build(name, &[])
}

/// The same program with its crash points. Its libraries have another feature and lie beside the
/// usual ones; everything that is not ours is shared.
///
/// # Panics
/// When it cannot be built.
pub fn keybaton_with_crash_points() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    const NAME: &str = "keybaton-crash-points";
    PROGRAM.get_or_init(|| build(NAME, &["--bin", NAME, "--features", "keybaton/crash-points"]))
}

fn build(program: &str, what: &[&str]) -> PathBuf {
    // Whoever runs the tests says which cargo; by hand it is the usual one.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo)
        // The whole workspace, examples among it: with any other choice cargo gives the libraries
        // other features than the tests' own, and builds most of them once more.
        .args(["build", "--workspace", "--examples"])
        .args(what)
        .args(["--message-format", "json-render-diagnostics", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo runs");
    let stdout = BufReader::new(cargo.stdout.take().expect("piped"));
    let named = |message| match message {
        Message::CompilerArtifact(artifact) if artifact.target.name == program => {
            artifact.executable
        }
        _ => None,
    };
    // Read to the end, or cargo would fail at its next line.
    let executable = Message::parse_stream(stdout).filter_map(Result::ok).filter_map(named).last();
    assert!(cargo.wait().expect("cargo ends").success(), "{program} builds");
    executable.expect("cargo names the program").into()
}

/// A line of a process, or the end of one of its streams.
enum Said {
    Out(String),
    Err(String),
    OutEnded,
    ErrEnded,
}

/// A process that runs.
pub struct Running {
    child: Child,
    said: Receiver<Said>,
    streams_open: u32,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

/// What a process left.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Starts the program with these arguments.
///
/// # Panics
/// When it cannot be started.
pub fn start<I, A>(args: I) -> Running
where
    I: IntoIterator<Item = A>,
    A: AsRef<std::ffi::OsStr>,
{
    start_as(keybaton(), &[], args)
}

/// Starts a program of ours with these arguments, and these variables besides the usual ones.
///
/// # Panics
/// When it cannot be started.
pub fn start_as<I, A>(program: &Path, variables: &[(&str, &str)], args: I) -> Running
where
    I: IntoIterator<Item = A>,
    A: AsRef<std::ffi::OsStr>,
{
    let mut command = dying_with_us(program);
    let mut child = command
        .args(args)
        .env_remove("KEYBATON_MASTER_KEY")
        .env_remove("KEYBATON_LOG")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (sender, said) = channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    read(out.expect("piped"), sender.clone(), Said::Out, Said::OutEnded);
    read(err.expect("piped"), sender, Said::Err, Said::ErrEnded);
    Running { child, said, streams_open: 2, stdout: Vec::new(), stderr: Vec::new() }
}

/// Runs the program to its end.
pub fn plain_run<I, A>(args: I) -> Ended
where
    I: IntoIterator<Item = A>,
    A: AsRef<std::ffi::OsStr>,
{
    start(args).end()
}

/// The program, killed by the kernel when the thread that started it ends.
fn dying_with_us(program: &Path) -> Command {
    static HAS_SETPRIV: OnceLock<bool> = OnceLock::new();
    let has_setpriv = HAS_SETPRIV.get_or_init(|| {
        let asked = Command::new("setpriv").arg("--version").output();
        asked.is_ok_and(|answer| answer.status.success())
    });
    if !has_setpriv {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

fn read(
    stream: impl Read + Send + 'static,
    sender: Sender<Said>,
    line: fn(String) -> Said,
    end: Said,
) {
    std::thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line(text)).is_err() {
                return;
            }
        }
        // Nobody may be listening any more.
        let _ = sender.send(end);
    });
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on either stream; `None` when the process ended without it.
    ///
    /// # Panics
    /// When nothing comes for too long.
    pub fn line(&mut self, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.streams_open > 0 {
            if let Some(text) = self.next(deadline)
                && is_it(&text)
            {
                return Some(text);
            }
        }
        None
    }

    /// Whether such a line came already.
    pub fn has_said(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.stdout.iter().chain(&self.stderr).any(|text| is_it(text))
    }

    /// Waits until so much time has passed, or it ended by itself.
    pub fn linger(&mut self, until: Instant) {
        while self.streams_open > 0 && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(said) => drop(self.keep(said)),
                Err(_) => return,
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.said.recv_timeout(left) {
            Ok(said) => self.keep(said),
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing came for {PATIENCE:?}; so far:\n{}", self.stderr.join("\n"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.streams_open = 0;
                None
            }
        }
    }

    fn keep(&mut self, said: Said) -> Option<String> {
        let (kept, text) = match said {
            Said::Out(text) => (&mut self.stdout, text),
            Said::Err(text) => (&mut self.stderr, text),
            Said::OutEnded | Said::ErrEnded => {
                self.streams_open -= 1;
                return None;
            }
        };
        kept.push(text.clone());
        Some(text)
    }

    /// SIGSTOP: connections are accepted, by the kernel, and nobody answers.
    ///
    /// # Panics
    /// When the process is gone and forgotten.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// SIGCONT, for one that was frozen.
    ///
    /// # Panics
    /// When the process is gone and forgotten.
    pub fn go_on(&self) {
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has a number"), signal).expect("a child of ours");
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Ended {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill();
        self.collect()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it says nothing for too long and does not end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        self.line(|_| false);
        self.collect()
    }

    fn collect(&mut self) -> Ended {
        self.line(|_| false);
        let status = self.child.wait().expect("a child of ours");
        Ended {
            code: status.code(),
            stdout: self.stdout.join("\n"),
            stderr: self.stderr.join("\n"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The last line of standard output, as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn object(&self) -> serde_json::Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `keybaton simulator` in a process of its own.
pub struct SimulatorProcess {
    dir: PathBuf,
    args: Vec<String>,
    url: String,
    running: Option<Running>,
}

impl SimulatorProcess {
    /// Starts one on a directory.
    #[must_use]
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut simulator = Self {
            dir: dir.to_owned(),
            args: args.iter().map(ToString::to_string).collect(),
            url: String::new(),
            running: None,
        };
        simulator.open("127.0.0.1:0");
        simulator
    }

    fn open(&mut self, bind: &str) {
        let mut args = vec!["simulator".to_owned(), "--dir".to_owned()];
        args.push(self.dir.display().to_string());
        args.extend(["--bind".to_owned(), bind.to_owned()]);
        args.extend(self.args.iter().cloned());
        let mut running = start(args);
        let url = running.line(|line| line.starts_with("http://"));
        self.url = url.unwrap_or_else(|| panic!("no simulator: {:?}", running.stderr));
        self.running = Some(running);
    }

    /// Kills it and starts another one on its directory and its address.
    ///
    /// # Panics
    /// When the address is no address.
    pub fn kill_and_start_again(&mut self) {
        drop(self.running.take());
        let address: SocketAddr = self.url["http://".len()..].parse().expect("an address");
        self.open(&address.to_string());
    }

    /// Nothing happens at the provider while this is done, and so little at whoever calls it.
    pub fn frozen<T>(&self, done: impl FnOnce() -> T) -> T {
        let running = self.running.as_ref().expect("it runs until it is dropped");
        running.freeze();
        let result = done();
        running.go_on();
        result
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its ledger is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
