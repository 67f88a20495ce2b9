//! Whether the shipped audit trail is whole, told by the node that has the key.

use std::path::Path;

use keybaton_adapters::audit::{AuditFileError, verify_file};
use keybaton_ports::AuditKey;
use serde::{Deserialize, Serialize};

use crate::builder::AUDIT_FILE;
use crate::error::StartError;
use crate::status::open_stopped;
use crate::status_server;

/// What was found in an audit file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditReport {
    /// Chains: pair and number of records.
    pub chains: Vec<(String, u64)>,
    /// The first bad place of each broken chain, in words.
    pub broken: Vec<String>,
    /// The last line is cut off: a crash while it was written, or somebody cut it.
    pub is_torn: bool,
}

impl AuditReport {
    /// Whether nothing was changed, dropped, swapped or cut off.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty() && !self.is_torn
    }
}

/// Verifies the audit file of a directory, or another file by the directory's key. A running node
/// is asked; a stopped one is opened.
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
    let embedded = open_stopped(dir, key_file)?;
    Ok(report(&file, &embedded.audit_key)?)
}

pub(crate) fn report(file: &Path, key: &AuditKey) -> Result<AuditReport, AuditFileError> {
    let (chains, is_torn) = verify_file(file, key)?;
    Ok(AuditReport {
        broken: chains
            .iter()
            .filter_map(|chain| chain.broken.as_ref().map(ToString::to_string))
            .collect(),
        chains: chains.into_iter().map(|chain| (chain.pair.to_string(), chain.records)).collect(),
        is_torn,
    })
}
