//! The ledger: what really happened at the vendor, line by line on disk.
//!
//! One JSON object a line, in the order of the facts. A fact about a key is handed to the
//! operating system before anyone can see its effect; lines about requests are written a few
//! milliseconds later, but never behind a later line.
//!
//! **Invariant:** no secret is in it, only the SHA-256 of one.
//! **Invariant:** after a failed write nothing is written and nothing is served any more: a
//! ledger with a hole would be a false witness.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::Class;
use crate::limits::{LEDGER_BUFFER_BYTES_MAX, LEDGER_LINE_BYTES_MAX};

/// The `schema` in every line.
pub const SCHEMA: u32 = 1;

/// Name of the file in the simulator's directory.
pub const FILE_NAME: &str = "ledger.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Counts from 1 without a gap, over restarts too.
    pub seq: u64,
    /// Microseconds since 1970. Within one life of a simulator it follows the monotonic clock,
    /// so that a step of the wall clock cannot turn the order round.
    pub at_us: u64,
    /// The fact.
    #[serde(flatten)]
    pub event: Event,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A simulator began to serve. Requests that were started before and have not ended were
    /// lost with the one before it.
    Opened {
        /// What a new key does to the older ones.
        class: Class,
        /// The process.
        pid: u32,
    },
    /// A key authenticates from here on.
    KeyCreated {
        /// Whose.
        project: String,
        /// Of which service account; none for a key of a person.
        account: Option<String>,
        /// The vendor's id.
        key_id: String,
        /// The label that the caller gave.
        name: String,
        /// SHA-256 of the secret, hex.
        secret_sha256: String,
        /// Who made it.
        cause: BirthCause,
        /// Whether an answer that names this key was handed to the caller.
        answered: bool,
        /// When it expires, in seconds since 1970; absent when it does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
    },
    /// A key is refused from here on.
    KeyDied {
        /// Whose.
        project: String,
        /// The vendor's id.
        key_id: String,
        /// Why.
        cause: DeathCause,
    },
    /// A call with the admin key was decided.
    AdminCall {
        /// Which.
        call: Call,
        /// About which project.
        project: String,
        /// About or with the result of which key.
        key_id: Option<String>,
        /// The fault that struck it.
        fault: Option<String>,
        /// The status of the answer, also of one that a fault withheld; 0 when nothing was
        /// decided (dropped, late).
        status: u16,
    },
    /// A request with a tenant key arrived.
    RequestStarted {
        /// Counts requests, over restarts too.
        req: u64,
        /// The path.
        path: String,
        /// The key's project, when the key is known.
        project: Option<String>,
        /// The key, when it is known, dead or alive.
        key_id: Option<String>,
        /// Header `x-agent-tenant`.
        tenant: Option<String>,
        /// Header `x-agent-task`.
        task: Option<String>,
        /// Header `x-agent-step`.
        step: Option<u64>,
        /// Header `idempotency-key`.
        idem: Option<String>,
        /// Whether the answer is a stream.
        streaming: bool,
        /// Header `x-agent-stage`.
        stage: Option<String>,
    },
    /// A request ended.
    RequestEnded {
        /// Which.
        req: u64,
        /// How.
        outcome: Outcome,
        /// The status of the answer, also of one that never arrived.
        status: u16,
        /// Whether the vendor did the work that was asked for (for a tool: its side effect).
        executed: bool,
    },
}

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BirthCause {
    /// A call.
    Api,
    /// The test, before it began.
    Seed,
    /// A fault needed one.
    Fault,
}

/// Why a key died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathCause {
    /// A call asked for it.
    Revoked,
    /// Its time was over.
    Expired,
    /// A newer key of its project was issued.
    Voided,
    /// The test killed it.
    Fault,
}

/// The calls that need the admin key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Create a key.
    Issue,
    /// Delete a key.
    Revoke,
    /// List keys.
    List,
    /// Read one key's entry.
    Get,
    /// Create a service account, with or without a first key.
    CreateAccount,
    /// Delete a service account and its keys.
    DeleteAccount,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer was produced.
    Ok,
    /// Its key did not authenticate.
    Refused,
    /// Its key died while it was open.
    Cut,
    /// The caller dropped the connection.
    ClientGone,
    /// An injected fault, a request that makes no sense, or the simulator stopped.
    Failed,
}

/// Why a ledger could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot use the ledger {}: check the directory and its rights", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another simulator writes it.
    #[error("a running simulator owns the ledger {}: choose another directory", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line is not ours.
    #[error("line {line} of {} is not a ledger line: choose another directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads a ledger, also one that is being written. A last line without its end is left out: its
/// effect was never shown to anyone.
///
/// # Errors
/// [`LedgerError`] when the file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Vec<Line>, LedgerError> {
    let fault = |source| LedgerError::Io { path: path.to_owned(), source };
    let mut lines = Vec::new();
    replay(path, &File::open(path).map_err(fault)?, |line| lines.push(line))?;
    Ok(lines)
}

/// Calls `each` with every whole line and returns the length of the whole lines in bytes.
fn replay(path: &Path, file: &File, mut each: impl FnMut(Line)) -> Result<u64, LedgerError> {
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    let (mut whole, mut number) = (0_u64, 0_u64);
    loop {
        text.clear();
        let bound = LEDGER_LINE_BYTES_MAX as u64;
        let read = (&mut reader)
            .take(bound)
            .read_until(b'\n', &mut text)
            .map_err(|source| LedgerError::Io { path: path.to_owned(), source })?;
        number += 1;
        if text.last() != Some(&b'\n') && (read as u64) < bound {
            return Ok(whole);
        }
        let foreign = |source| LedgerError::Foreign { path: path.to_owned(), line: number, source };
        each(serde_json::from_slice(&text).map_err(foreign)?);
        whole += read as u64;
    }
}

/// The one writer of a ledger.
pub(crate) struct Ledger {
    file: File,
    buffer: Vec<u8>,
    seq: u64,
    last_us: u64,
    started: Instant,
    started_us: u64,
    is_broken: bool,
}

impl Ledger {
    /// Opens or creates the ledger in `dir`, takes it for this simulator alone, and hands every
    /// line that is there to `each`.
    pub(crate) fn open(dir: &Path, mut each: impl FnMut(Line)) -> Result<Self, LedgerError> {
        let path = dir.join(FILE_NAME);
        let fault = |source| LedgerError::Io { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(fault)?;
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(fault)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::InUse { path: path.clone() },
            TryLockError::Error(source) => fault(source),
        })?;
        let (mut seq, mut last_us) = (0, 0);
        let whole = replay(&path, &file, |line| {
            (seq, last_us) = (line.seq, line.at_us);
            each(line);
        })?;
        // A torn last line was never acted on; a new line must not be glued to it.
        file.set_len(whole).map_err(fault)?;
        file.seek(SeekFrom::End(0)).map_err(fault)?;
        Ok(Self {
            file,
            buffer: Vec::with_capacity(2 * LEDGER_BUFFER_BYTES_MAX),
            seq,
            last_us,
            started: Instant::now(),
            started_us: wall_us(),
            is_broken: false,
        })
    }

    /// Microseconds since 1970, never going back.
    pub(crate) fn now_us(&mut self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_us = self.last_us.max(self.started_us.saturating_add(elapsed));
        self.last_us
    }

    /// Adds a line that may be written a little later.
    pub(crate) fn append(&mut self, event: Event) {
        if self.is_broken {
            return;
        }
        self.seq += 1;
        let line = Line { schema: SCHEMA, seq: self.seq, at_us: self.now_us(), event };
        if serde_json::to_writer(&mut self.buffer, &line).is_err() {
            // Plain data into memory; treated like a full disk all the same.
            self.is_broken = true;
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= LEDGER_BUFFER_BYTES_MAX {
            self.flush();
        }
    }

    /// Hands everything added so far to the operating system.
    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() || self.is_broken {
            return;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            tracing::error!(%error, "the ledger cannot be written, the simulator stops serving");
            self.is_broken = true;
        }
        self.buffer.clear();
    }

    /// Whether a line may be missing.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Writes what is left and lets another simulator have the file. Later lines are dropped.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.is_broken = true;
        // Dropping the file unlocks it too, only later.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the ledger stays locked until the simulator is dropped");
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.flush();
    }
}

fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
