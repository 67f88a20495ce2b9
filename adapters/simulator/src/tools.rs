//! How often each tool call was executed.
//!
//! A tool stands for a side effect in the world. It is not idempotent unless the caller says
//! that its tool is: asked twice, it happens twice, and the ledger says so.

use std::collections::{HashMap, VecDeque};

use crate::limits::TOOL_RUNS_MAX;
use crate::secret::{self, Digest};

/// Path prefix of the tools.
pub(crate) const TOOLS_PATH: &str = "/v1/tools/";

/// Executions by project, tool and idempotency key.
#[derive(Default)]
pub(crate) struct ToolRuns {
    counts: HashMap<Digest, u64>,
    oldest_first: VecDeque<Digest>,
}

impl ToolRuns {
    /// The name of what is counted; a call without an idempotency key is not counted.
    pub(crate) fn name_of(project: Option<&str>, path: &str, idem: Option<&str>) -> Option<Digest> {
        let (project, idem) = (project?, idem?);
        let tool = path.strip_prefix(TOOLS_PATH)?;
        // Header values cannot contain the separator, so that no two calls share a name.
        Some(secret::digest([project, tool, idem].join("\0").as_bytes()))
    }

    /// Counts one execution and returns how many there were with it.
    pub(crate) fn count(&mut self, run: Digest) -> u64 {
        let count = self.counts.entry(run).or_insert(0);
        *count += 1;
        let count = *count;
        if count == 1 {
            self.oldest_first.push_back(run);
        }
        if self.counts.len() > TOOL_RUNS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.counts.remove(&oldest);
        }
        count
    }

    pub(crate) fn executions(&self, run: &Digest) -> u64 {
        self.counts.get(run).copied().unwrap_or(0)
    }
}
