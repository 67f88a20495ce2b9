//! What the caller knows about the run that stands in no file.

use serde::{Deserialize, Serialize};

/// A tenant at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PairName {
    /// The tenant.
    pub tenant: String,
    /// The provider.
    pub provider: String,
}

impl PairName {
    /// Names a pair.
    pub fn new(tenant: impl Into<String>, provider: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), provider: provider.into() }
    }
}

/// A task of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskName {
    /// The tenant.
    pub tenant: String,
    /// The task's id.
    pub task: String,
}

/// A process was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kill {
    /// When, in microseconds since 1970, on the clock of the machine that wrote the ledger.
    pub at_us: u64,
}

/// What is asked of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// The pairs whose key was to be replaced. Nobody else may notice anything.
    pub rotated: Vec<PairName>,
    /// Interrupted and refused calls of rotated pairs are allowed when each one was repeated
    /// under another key and its step has a result: emergencies, and providers that void the old
    /// key without having said so.
    pub allow_repeated_interruptions: bool,
    /// When processes were killed. Calls that were open then are counted apart.
    pub kills: Vec<Kill>,
    /// How many tasks were spawned, when the caller counted them: a task without any trace is
    /// dropped too.
    pub tasks_expected: Option<u64>,
    /// Tasks that somebody cancelled on purpose.
    pub cancelled: Vec<TaskName>,
    /// What the labels of our keys begin with.
    pub label_prefix: String,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rotated: Vec::new(),
            allow_repeated_interruptions: false,
            kills: Vec::new(),
            tasks_expected: None,
            cancelled: Vec::new(),
            label_prefix: "kb1-".to_owned(),
        }
    }
}
