//! The end of a run: what the journals say is written down, the node stops, the oracle judges.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use keybaton::messages::ProviderKeyId;
use keybaton::{Export, Node};
use keybaton_oracle::{Files, Rules, Verdict, judge_files};
use keybaton_ports::TaskRow;

use super::stage::Vendor;

/// How long a node whose agents have ended may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Exports the journals into `dir`, stops node and provider, and asks the oracle.
///
/// `steps_expected`: how many steps a task was meant to take, where that is known.
///
/// # Errors
/// When a file cannot be written, or what was written is no evidence.
pub async fn judge(
    dir: &Path,
    node: Node,
    vendor: Vendor,
    rules: &Rules,
    steps_expected: impl Fn(&TaskRow) -> Option<u64>,
) -> anyhow::Result<Verdict> {
    let (tasks, pairs) = (dir.join("tasks.jsonl"), dir.join("pairs.jsonl"));
    let ports = &node.shared().ports;
    let export = Export { journal: ports.journal.as_ref(), tasks: ports.tasks.as_ref() };
    // The simulator's ledger has the last part of `project/account/key`.
    let key_name =
        |key: &ProviderKeyId| key.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    export.pairs(&pairs, |pair| pair.tenant.to_string(), key_name).await?;
    export.tasks(&tasks, steps_expected).await?;
    let began = Instant::now();
    let audit = Some(node.audit_file());
    node.shutdown(STOP_PATIENCE).await;
    let ledger = vendor.ledger.clone();
    vendor.close().await;
    let files = Files { ledger, tasks, pairs, audit };
    let verdict =
        judge_files(&files, rules).context("the run left no evidence that can be judged")?;
    tracing::debug!(took = ?began.elapsed(), "judged");
    Ok(verdict)
}
