//! Whether the shipped audit trail is whole, told by the node that has the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keybaton_adapters::audit::{ChainReport, verify_file};
use keybaton_ports::{AuditKey, Journal, Refusal};
use serde::{Deserialize, Serialize};

use crate::builder::AUDIT_FILE;
use crate::error::StartError;
use crate::status_server;
use crate::stores::open_stopped;

/// What was found in an audit file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditReport {
    /// Chains: pair and number of records.
    pub chains: Vec<(String, u64)>,
    /// The first bad place of each broken chain, in words.
    pub broken: Vec<String>,
    /// Each pair of which the journal has records that are not in the file: they were not shipped
    /// yet when the process was killed, or somebody cut the file off.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The last line is cut off: a crash while it was written, or somebody cut it.
    pub is_torn: bool,
}

impl AuditReport {
    /// Whether nothing was changed, dropped, swapped or cut off.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty() && self.missing.is_empty() && !self.is_torn
    }
}

/// Verifies the audit file of a directory, or another file by the directory's key, and compares it
/// with the journal. A running node is asked; a stopped one is opened.
///
/// # Errors
/// [`StartError`] when the directory, its key or the file cannot be read.
pub async fn verify_audit(
    dir: &Path,
    file: Option<&Path>,
    key_file: Option<&Path>,
) -> Result<AuditReport, StartError> {
    let own = dir.join(AUDIT_FILE);
    let file = std::path::absolute(file.unwrap_or(&own)).unwrap_or(own);
    if let Some(report) = status_server::verify(dir, &file).await {
        return Ok(report);
    }
    let stores = open_stopped(dir, key_file).await?;
    report(file, stores.audit_key.clone(), stores.journal.as_ref()).await
}

/// Reads the file first: what the journal has got since is not missing from it.
pub(crate) async fn report(
    file: PathBuf,
    key: Arc<AuditKey>,
    journal: &dyn Journal,
) -> Result<AuditReport, StartError> {
    let verified = tokio::task::spawn_blocking(move || verify_file(&file, &key)).await;
    let (chains, is_torn) = verified.expect("verifying does not panic")?;
    Ok(AuditReport {
        broken: chains
            .iter()
            .filter_map(|chain| chain.broken.as_ref().map(ToString::to_string))
            .collect(),
        missing: missing(&chains, journal).await.map_err(StartError::Store)?,
        chains: chains.into_iter().map(|chain| (chain.pair.to_string(), chain.records)).collect(),
        is_torn,
    })
}

/// What the journal has behind the end of each chain.
async fn missing(chains: &[ChainReport], journal: &dyn Journal) -> Result<Vec<String>, Refusal> {
    let mut missing = Vec::new();
    for summary in journal.pairs().await? {
        let chain = chains.iter().find(|chain| chain.pair == summary.pair);
        let told = chain.map_or(0, |chain| chain.records);
        if let Some(next) = journal.audit(&summary.pair, told).await?.first() {
            missing.push(format!("{} from record {} on", summary.pair, next.seq));
        }
    }
    Ok(missing)
}
