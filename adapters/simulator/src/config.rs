//! How the vendor that the simulator stands in for behaves.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{CHUNK_INTERVAL_MAX, CHUNKS_MAX, LATENCY_MAX};
use crate::script::{Script, shown};
use crate::secret::Secret;
use crate::server::{Simulator, StartError};

/// The admin key of a simulator that was not given one. It opens nothing but a simulator.
pub const ADMIN_KEY_DEFAULT: &str = "sk-admin-simulator";

/// What issuing a key does to the older keys of its project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing: keys live side by side.
    #[default]
    A,
    /// It kills them.
    B,
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// A class that is neither `a` nor `b`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a class of provider: use a (keys live side by side) or b (issuing voids)")]
pub struct ClassError(String);

impl FromStr for Class {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        match text {
            "a" | "A" => Ok(Self::A),
            "b" | "B" => Ok(Self::B),
            _ => Err(ClassError(shown(text))),
        }
    }
}

/// What deleting a key of a service account does at the OpenAI shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyDelete {
    /// Deletes it, as OpenAI does since openai-node 7.42.0 (2026-10-22).
    #[default]
    Works,
    /// 400, as in OpenAI's specification of 2026-08-21: only deleting the account helps.
    RefusedForAccounts,
}

/// How fast answers come when the request does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Until the first byte of an answer.
    pub latency: Duration,
    /// Chunks of a stream.
    pub chunks: u32,
    /// Between two chunks.
    pub chunk_interval: Duration,
}

impl Default for Pace {
    /// Quick enough for a test, long enough that a stream can be caught open.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            chunks: 8,
            chunk_interval: Duration::from_millis(10),
        }
    }
}

impl Pace {
    pub(crate) fn is_within_limits(&self) -> bool {
        self.latency <= LATENCY_MAX
            && self.chunks <= CHUNKS_MAX
            && self.chunk_interval <= CHUNK_INTERVAL_MAX
    }
}

/// Everything that is decided before the start.
pub(crate) struct Config {
    pub(crate) dir: PathBuf,
    pub(crate) bind: SocketAddr,
    pub(crate) admin_key: Secret,
    pub(crate) class: Class,
    pub(crate) classes: HashMap<String, Class>,
    pub(crate) pace: Pace,
    pub(crate) key_delete: KeyDelete,
    pub(crate) hides_from_default_listing: bool,
    pub(crate) projects: Option<BTreeSet<String>>,
    pub(crate) scripts: Vec<Script>,
}

/// Builds a [`Simulator`].
#[must_use = "a builder does nothing until it is started"]
pub struct Builder(Config);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(Config {
            dir: PathBuf::from("simulator"),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin_key: Secret::new(ADMIN_KEY_DEFAULT),
            class: Class::A,
            classes: HashMap::new(),
            pace: Pace::default(),
            key_delete: KeyDelete::Works,
            hides_from_default_listing: false,
            projects: None,
            scripts: Vec::new(),
        })
    }

    /// Where the ledger lives; created when it is missing. Default: `simulator` in the working
    /// directory. Starting again on a directory brings its keys back.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.0.dir = dir.into();
        self
    }

    /// Where to listen. Default: a free port of 127.0.0.1.
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.0.bind = addr;
        self
    }

    /// The key of the admin API and of the control endpoints. Default: [`ADMIN_KEY_DEFAULT`].
    pub fn admin_key(mut self, key: impl Into<String>) -> Self {
        self.0.admin_key = Secret::new(key);
        self
    }

    /// What issuing does to older keys. Default: [`Class::A`].
    pub fn class(mut self, class: Class) -> Self {
        self.0.class = class;
        self
    }

    /// The class of one project, where it differs.
    pub fn project_class(mut self, project: impl Into<String>, class: Class) -> Self {
        self.0.classes.insert(project.into(), class);
        self
    }

    /// How fast answers come when a request does not say.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.0.pace = pace;
        self
    }

    /// What deleting a key of a service account does. Default: [`KeyDelete::Works`].
    pub fn key_delete(mut self, key_delete: KeyDelete) -> Self {
        self.0.key_delete = key_delete;
        self
    }

    /// Leaves every second key out of listings that do not say `owner_project_access=any`, as
    /// membership rules may do at OpenAI. Default: off.
    pub fn hide_from_default_listing(mut self) -> Self {
        self.0.hides_from_default_listing = true;
        self
    }

    /// Only these projects exist, and a service account must be created before it can have a
    /// second key. Default: both come into being on first use.
    pub fn only_projects<P: Into<String>>(mut self, projects: impl IntoIterator<Item = P>) -> Self {
        self.0.projects = Some(projects.into_iter().map(Into::into).collect());
        self
    }

    /// Arms a fault before the first call.
    pub fn fault(mut self, script: Script) -> Self {
        self.0.scripts.push(script);
        self
    }

    /// Starts serving.
    ///
    /// # Errors
    /// [`StartError`] when the ledger cannot be used, the address is taken or the configuration
    /// contradicts itself.
    pub async fn start(self) -> Result<Simulator, StartError> {
        Simulator::start(self.0).await
    }
}
