//! One server process in a directory of its own: killed, paused, resumed and restarted at will.
//!
//! **Invariant:** whoever was killed is reaped, and everything below it has ended, before the call
//! returns: Postgres does not start beside a dead process that nobody has asked about.
//! **Invariant:** all servers are children of one thread that lives as long as the test process. The
//! kernel kills a child when the *thread* that started it ends, and a test's threads come and go.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

pub use crate::home::{Home, Launch, is_root};
use crate::limits::{LOOK_EVERY, READY_MAX, SIGNAL_MAX};
pub use crate::port::{Port, is_free};
use crate::tree;

/// Asks a server whether it is ready; every call has an end, also when the server is paused.
pub type Probe = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// A server that was started.
pub struct Server {
    name: &'static str,
    launch: Launch,
    probe: Probe,
    child: Mutex<Option<Child>>,
    home: Home,
}

impl Server {
    /// Starts it and waits until `probe` is content.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of what it said.
    pub fn start(name: &'static str, home: Home, launch: Launch, probe: Probe) -> Result<Self> {
        let server = Self { name, launch, probe, child: Mutex::new(None), home };
        server.start_again()?;
        Ok(server)
    }

    /// Its directory, and with it everything that it keeps.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The same, to write into.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Everything that it has said since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// Its process id; `None` while it is not running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Time that it and all below it have spent on processors since it was started.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processor_time(&self) -> Result<Duration> {
        tree::used(self.running()?)
    }

    /// Kills it with SIGKILL, it and all below it, and waits until they are gone. One that does not
    /// run stays as it is.
    ///
    /// # Errors
    /// When they do not go.
    pub fn kill(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        let all = tree::below(pid(&child)?)?;
        for &pid in &all {
            tree::send(pid, Signal::KILL)?;
        }
        self.reap(&mut child)?;
        tree::wait_for_end(&all)
    }

    /// Asks it to stop with the signal that means so to it, and waits until it has.
    ///
    /// # Errors
    /// When it is still there after [`SIGNAL_MAX`].
    pub fn stop(&self, politely: Signal) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        let all = tree::below(pid(&child)?)?;
        tree::send(pid(&child)?, politely)?;
        self.reap(&mut child)?;
        tree::wait_for_end(&all)
    }

    /// Stops it and all below it with SIGSTOP: connections are accepted, by the kernel, and nobody
    /// answers. Returns when all of them stand.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        tree::stop(self.running()?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        for pid in tree::below(self.running()?)? {
            tree::send(pid, Signal::CONT)?;
        }
        Ok(())
    }

    /// Kills it if it runs, and starts it on the same directory and the same port.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of what it said.
    pub fn restart(&self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// Whether it is ready.
    ///
    /// # Errors
    /// With what the probe does not like.
    pub fn probe(&self) -> Result<()> {
        (self.probe)()
    }

    /// Waits until `probe` is content.
    ///
    /// # Errors
    /// When the server ends, or is not `what` within [`READY_MAX`], with the end of what it said.
    pub fn wait_until(&self, what: &str, probe: impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let Err(refused) = probe() else { return Ok(()) };
            let (name, log) = (self.name, || self.home.log_end());
            if let Some(status) = self.ended()? {
                bail!("{name} ended with {status} instead of being {what}; it says:\n{}", log());
            }
            if Instant::now() > deadline {
                bail!("{name} is not {what} after {READY_MAX:?}: {refused:#}; it says:\n{}", log());
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn start_again(&self) -> Result<()> {
        let command = self.home.command(&self.launch)?;
        let program = self.launch.program.display();
        let started = spawn(command).with_context(|| format!("cannot start {program}"))?;
        *self.child() = Some(started);
        let ready = self.wait_until("ready", &self.probe);
        if ready.is_err() {
            self.kill()?;
        }
        ready
    }

    /// How it ended, when it did.
    fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else { return Ok(None) };
        let ended = running.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if ended.is_some() {
            *child = None;
        }
        Ok(ended)
    }

    fn running(&self) -> Result<i32> {
        let child = self.child();
        let child = child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        pid(child)
    }

    fn reap(&self, child: &mut Child) -> Result<()> {
        let deadline = Instant::now() + SIGNAL_MAX;
        while child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?.is_none()
        {
            if Instant::now() > deadline {
                bail!("{} did not end within {SIGNAL_MAX:?}", self.name);
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// A test that panicked while it held the lock has left a whole value behind.
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to tell; what survives this dies with the test process.
        drop(self.kill());
    }
}

fn pid(child: &Child) -> Result<i32> {
    i32::try_from(child.id()).context("a process id is too large")
}

/// Starts a command from the thread that never ends.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static PARENT: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // Whoever ordered waits for the answer.
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(sender)
    });
    let (sender, answer) = channel();
    let order = parent.lock().unwrap_or_else(PoisonError::into_inner).send((command, sender));
    order.context("the thread that starts servers is gone")?;
    Ok(answer.recv().context("the thread that starts servers is gone")??)
}

/// Starts a server on a port that is free, and on another one when somebody was faster.
///
/// # Errors
/// What `start` says, when its port is not the reason.
pub fn on_free_ports<T, const N: usize>(start: impl Fn([Port; N]) -> Result<T>) -> Result<T> {
    for _ in 1..crate::limits::STARTS_MAX {
        let ports = claim()?;
        let numbers: [u16; N] = std::array::from_fn(|place| ports[place].number);
        match start(ports) {
            Err(_) if !numbers.into_iter().all(is_free) => {}
            result => return result,
        }
    }
    start(claim()?)
}

fn claim<const N: usize>() -> Result<[Port; N]> {
    let ports: Vec<_> = (0..N).map(|_| Port::claim()).collect::<Result<_>>()?;
    ports.try_into().ok().context("as many ports as asked for")
}
