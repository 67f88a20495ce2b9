//! Everything the vendor knows, under one lock.
//!
//! One lock makes the ledger's order the real order: a request is recorded in the same breath in
//! which its key is checked, and a key's death in the same breath in which its open requests are
//! cut. What is done under it takes microseconds.
//!
//! **Invariant:** what a caller may notice about a key is on disk before the lock is let go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Class, Config};
use crate::fault::Fault;
use crate::keys::{Key, KeyNo, Keys, Life};
use crate::ledger::{Call, DeathCause, Event, Ledger, LedgerError, Line, Outcome};
use crate::limits::{DEADLINES_MAX, STATE_KEYS_MAX};
use crate::script::Armed;
use crate::secret;
use crate::tools::ToolRuns;

/// What the server's tasks share.
pub(crate) struct Site {
    pub(crate) config: Arc<Config>,
    state: Mutex<State>,
}

impl Site {
    pub(crate) fn open(config: Config) -> Result<Self, LedgerError> {
        let config = Arc::new(config);
        let state = Mutex::new(State::open(Arc::clone(&config))?);
        Ok(Self { config, state })
    }

    /// Never held across an await: the guard cannot be sent to another thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Something to do later, under the lock.
type Deadline = Box<dyn FnOnce(&mut State) + Send>;

pub(crate) struct State {
    pub(crate) config: Arc<Config>,
    pub(crate) ledger: Ledger,
    pub(crate) keys: Keys,
    pub(crate) armed: Armed,
    pub(crate) tools: ToolRuns,
    pub(crate) requests: u64,
    pub(crate) requests_open: u64,
    /// Why a request that is dropped unfinished ends; `ClientGone` until the simulator stops.
    pub(crate) loose_end: Outcome,
    deadlines: BTreeMap<(Instant, u64), Deadline>,
    deadlines_made: u64,
}

impl State {
    /// Opens the ledger and brings back what it tells.
    fn open(config: Arc<Config>) -> Result<Self, LedgerError> {
        let mut past = Past::default();
        let ledger = Ledger::open(&config.dir, |line| past.tell(line))?;
        past.settle();
        let mut state = Self {
            config,
            ledger,
            keys: past.keys,
            armed: Armed::default(),
            tools: past.tools,
            requests: past.requests,
            requests_open: 0,
            loose_end: Outcome::ClientGone,
            deadlines: BTreeMap::new(),
            deadlines_made: 0,
        };
        let class = state.config.class;
        state.ledger.append(Event::Opened { class, pid: std::process::id() });
        state.resume_deaths();
        state.ledger.flush();
        Ok(state)
    }

    /// Deaths that were promised before the restart: a slow revoke is carried out at once, an
    /// expiry when it is due.
    fn resume_deaths(&mut self) {
        let now = self.ledger.now_us() / 1_000_000;
        for no in 0..self.keys.len() {
            let key = self.keys.get(no);
            match (key.life, key.expires_at) {
                (Life::Leaving, _) => self.kill(no, DeathCause::Revoked),
                (Life::Live, Some(at)) => self.expire_in(no, at.saturating_sub(now)),
                _ => {}
            }
        }
    }

    pub(crate) fn expire_in(&mut self, no: KeyNo, seconds: u64) {
        match seconds {
            0 => self.kill(no, DeathCause::Expired),
            _ => self.after(Duration::from_secs(seconds), move |state| {
                state.kill(no, DeathCause::Expired);
            }),
        }
    }

    /// Ends a key's life: the line first, then the requests that hold it open are cut.
    pub(crate) fn kill(&mut self, no: KeyNo, cause: DeathCause) {
        let key = self.keys.get_mut(no);
        if key.life == Life::Dead {
            return;
        }
        key.life = Life::Dead;
        let mut cut: Vec<(u64, bool)> = key.open.drain().collect();
        cut.sort_unstable();
        let (project, key_id) = (key.project.clone(), key.id.clone());
        self.ledger.append(Event::KeyDied { project, key_id, cause });
        for (req, executed) in cut {
            self.requests_open = self.requests_open.saturating_sub(1);
            let outcome = Outcome::Cut;
            self.ledger.append(Event::RequestEnded { req, outcome, status: 0, executed });
        }
        self.ledger.flush();
        self.keys.get(no).death.send_replace(true);
    }

    pub(crate) fn class_of(&self, project: &str) -> Class {
        self.config.classes.get(project).copied().unwrap_or(self.config.class)
    }

    pub(crate) fn record_call(
        &mut self,
        call: Call,
        project: &str,
        key_id: Option<String>,
        fault: Option<Fault>,
        status: u16,
    ) {
        let project = project.to_owned();
        let fault = fault.map(|fault| fault.name().to_owned());
        self.ledger.append(Event::AdminCall { call, project, key_id, fault, status });
        self.ledger.flush();
    }

    /// Does `deadline` after `delay`, unless the simulator ends before or too many wait.
    pub(crate) fn after(
        &mut self,
        delay: Duration,
        deadline: impl FnOnce(&mut Self) + Send + 'static,
    ) {
        if self.deadlines.len() >= DEADLINES_MAX {
            tracing::error!(limit = DEADLINES_MAX, "too many deadlines, one is done at once");
            return deadline(self);
        }
        self.deadlines_made += 1;
        self.deadlines.insert((Instant::now() + delay, self.deadlines_made), Box::new(deadline));
    }

    /// Does what is due and writes what is buffered.
    pub(crate) fn keep_house(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.deadlines.first_entry().filter(|it| it.key().0 <= now) {
            let deadline = first.remove();
            deadline(self);
        }
        self.ledger.flush();
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let alive = |key: &&Key| key.life != Life::Dead;
        Snapshot {
            class: self.config.class,
            pid: std::process::id(),
            keys: self.keys.all().filter(alive).take(STATE_KEYS_MAX).map(KeyView::of).collect(),
            keys_alive: self.keys.all().filter(alive).count(),
            keys_made: self.keys.len(),
            requests_started: self.requests,
            requests_open: self.requests_open,
            scripts: self.armed.waiting(),
            deadlines: self.deadlines.len(),
        }
    }
}

/// What the simulator looks like from outside, at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The class of projects that have none of their own.
    pub class: Class,
    /// The process.
    pub pid: u32,
    /// Keys that authenticate, oldest first, at most [`STATE_KEYS_MAX`].
    pub keys: Vec<KeyView>,
    /// How many keys authenticate.
    pub keys_alive: usize,
    /// How many keys were ever made.
    pub keys_made: usize,
    /// Requests with a tenant key so far, over restarts too.
    pub requests_started: u64,
    /// Requests that have not ended.
    pub requests_open: u64,
    /// Scripts that still wait for their call.
    pub scripts: Vec<String>,
    /// Expiries, late executions and slow revokes that are not due yet.
    pub deadlines: usize,
}

/// A key without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    /// Whose.
    pub project: String,
    /// Of which service account.
    pub account: Option<String>,
    /// The vendor's id.
    pub key_id: String,
    /// Its label.
    pub name: String,
    /// Whether it was deleted and only waits for its death (fault `slow-revoke`).
    pub is_leaving: bool,
    /// Requests that hold it open.
    pub requests_open: usize,
    /// When it expires, in seconds since 1970.
    pub expires_at: Option<u64>,
}

impl KeyView {
    fn of(key: &Key) -> Self {
        Self {
            project: key.project.clone(),
            account: key.account.clone(),
            key_id: key.id.clone(),
            name: key.name.clone(),
            is_leaving: key.life == Life::Leaving,
            requests_open: key.open.len(),
            expires_at: key.expires_at,
        }
    }
}

/// What the lines of an older life add up to.
#[derive(Default)]
struct Past {
    keys: Keys,
    tools: ToolRuns,
    requests: u64,
    /// Tool calls that have not ended yet.
    tool_calls: HashMap<u64, secret::Digest>,
}

impl Past {
    fn tell(&mut self, line: Line) {
        let at_us = line.at_us;
        match line.event {
            Event::KeyCreated {
                project, account, key_id, name, secret_sha256, expires_at, ..
            } => {
                let Some(digest) = secret::from_hex(&secret_sha256) else {
                    return;
                };
                self.keys.insert(Key {
                    id: key_id,
                    project,
                    account,
                    name,
                    digest,
                    is_first: false,
                    created_us: at_us,
                    expires_at,
                    last_used_us: None,
                    listed_from_us: 0,
                    secret: None,
                    life: Life::Live,
                    open: HashMap::new(),
                    death: watch::Sender::new(false),
                });
            }
            Event::KeyDied { key_id, .. } => self.set_life(&key_id, Life::Dead),
            Event::AdminCall { call, key_id: Some(id), fault, status: 200, .. } => {
                self.tell_call(call, &id, fault.as_deref());
            }
            Event::RequestStarted { req, path, project, key_id, idem, .. } => {
                self.requests = self.requests.max(req);
                if let Some(no) = key_id.and_then(|id| self.keys.by_id(&id)) {
                    self.keys.get_mut(no).last_used_us = Some(at_us);
                }
                if let Some(run) = ToolRuns::name_of(project.as_deref(), &path, idem.as_deref()) {
                    self.tool_calls.insert(req, run);
                }
            }
            Event::RequestEnded { req, executed, .. } => {
                if let Some(run) = self.tool_calls.remove(&req).filter(|_| executed) {
                    self.tools.count(run);
                }
            }
            Event::Opened { .. } | Event::AdminCall { .. } => {}
        }
    }

    fn tell_call(&mut self, call: Call, key_id: &str, fault: Option<&str>) {
        match (call, fault) {
            // The answer promised a death that may not have come before the restart.
            (Call::Revoke | Call::DeleteAccount, Some("slow-revoke")) => {
                self.set_life(key_id, Life::Leaving);
            }
            (Call::CreateAccount, _) => {
                if let Some(no) = self.keys.by_id(key_id) {
                    self.keys.set_first(no);
                }
            }
            _ => {}
        }
    }

    /// A tool call that was open at a crash did its work on arrival.
    fn settle(&mut self) {
        for (_, run) in self.tool_calls.drain() {
            self.tools.count(run);
        }
    }

    /// A death is final, in whatever order the lines of a slow revoke came.
    fn set_life(&mut self, key_id: &str, life: Life) {
        if let Some(no) = self.keys.by_id(key_id) {
            let key = self.keys.get_mut(no);
            if key.life != Life::Dead {
                key.life = life;
            }
        }
    }
}
