//! `keybaton audit verify`: is the trail whole?

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::node_dir;

/// What can be asked of the audit trail.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Verify every chain of a shipped audit file; exit code 1 when one is broken
    #[command(after_long_help = "\
Examples:
  keybaton audit verify --data-dir /var/lib/keybaton
  keybaton audit verify --data-dir d --file /mnt/archive/audit.jsonl")]
    Verify {
        /// The node's data directory, or a demo's
        #[arg(long)]
        data_dir: PathBuf,
        /// The file, if it is not the one in the directory
        #[arg(long)]
        file: Option<PathBuf>,
        /// File with the master key, if it is not in the usual place
        #[arg(long)]
        master_key_file: Option<PathBuf>,
    },
}

/// Verifies.
///
/// # Errors
/// When the directory, the file or the key cannot be read.
pub async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    let AuditCommand::Verify { data_dir, file, master_key_file } = command;
    let dir = node_dir(&data_dir);
    let report = keybaton::verify_audit(&dir, file.as_deref(), master_key_file.as_deref()).await?;
    let mut out = std::io::stdout().lock();
    for (pair, records) in &report.chains {
        writeln!(out, "{pair}: {records} records")?;
    }
    for broken in &report.broken {
        writeln!(out, "BROKEN: {broken}")?;
    }
    for missing in &report.missing {
        writeln!(
            out,
            "INCOMPLETE: the journal has records that are not in the file: {missing}. They were not \
             shipped yet, or the file was cut off; start the node, which ships what it misses, and \
             verify again"
        )?;
    }
    if report.is_torn {
        writeln!(out, "BROKEN: the last line is cut off")?;
    }
    if report.is_whole() {
        writeln!(out, "whole")?;
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
