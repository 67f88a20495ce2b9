//! Writes down what the journals say, one line of JSON per pair and per task, for whoever judges a
//! run without our help.
//!
//! **Invariant:** an export holds names, numbers and idempotency keys, never an outcome or a key.

use std::io::{BufWriter, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use keybaton_messages::{PairId, ProviderKeyId, Version};
use keybaton_ports::{Entry, Journal, Refusal, TaskError, TaskJournal, TaskRow, TaskState};
use keybaton_rotation::PairRecord;
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

/// Schema of both kinds of line.
const SCHEMA: u32 = 1;

/// The export could not be written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The file could not be written.
    #[error("the export could not be written")]
    Io(#[from] std::io::Error),
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Journal(#[from] Refusal),
    /// The task journal could not be read.
    #[error("the task journal could not be read")]
    Tasks(#[from] TaskError),
}

/// What to export from.
pub struct Export<'a> {
    /// Pair records.
    pub journal: &'a dyn Journal,
    /// Tasks and their entries.
    pub tasks: &'a dyn TaskJournal,
}

impl Export<'_> {
    /// Writes every pair's record. `project_of` names the pair's account at the provider, and
    /// `key_name` says a key's id in the provider's own short words.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn pairs(
        &self,
        path: &Path,
        project_of: impl Fn(&PairId) -> String,
        key_name: impl Fn(&ProviderKeyId) -> String,
    ) -> Result<(), ExportError> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for summary in self.journal.pairs().await? {
            if let Some(stored) = self.journal.load(&summary.pair).await? {
                write_line(
                    &mut file,
                    &pair_line(&stored.record, &project_of(&summary.pair), &key_name),
                )?;
            }
        }
        file.flush().map_err(Into::into)
    }

    /// Writes every task with the facts of its entries. `steps_expected` says how many steps a
    /// task was meant to take, when its caller knows.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn tasks(
        &self,
        path: &Path,
        steps_expected: impl Fn(&TaskRow) -> Option<u64>,
    ) -> Result<(), ExportError> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for row in self.tasks.list(None).await? {
            let entries = self.tasks.entries(&row.key).await?;
            write_line(&mut file, &task_line(&row, &entries, steps_expected(&row)))?;
        }
        file.flush().map_err(Into::into)
    }
}

fn write_line(file: &mut impl Write, line: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

#[derive(Serialize)]
struct VersionLine {
    v: Version,
    status: String,
    label: Option<String>,
    key_id: Option<String>,
    promoted_at_ms: Option<u64>,
}

fn pair_line(
    record: &PairRecord,
    project: &str,
    key_name: &dyn Fn(&ProviderKeyId) -> String,
) -> Value {
    let versions: Vec<_> = record
        .versions
        .iter()
        .map(|(v, entry)| VersionLine {
            v: *v,
            status: entry.status.to_string(),
            label: entry.label.as_ref().map(ToString::to_string),
            key_id: entry.key_id.as_ref().map(key_name),
            promoted_at_ms: entry.promoted_at.map(|at| at.0),
        })
        .collect();
    let rotation = record.rotation.as_ref().map(|rotation| {
        json!({
            "id": rotation.id.to_string(),
            "phase": rotation.phase.shown().to_string(),
            "class": format!("{:?}", record.class).to_lowercase(),
        })
    });
    json!({
        "schema": SCHEMA,
        "tenant": record.pair.tenant,
        "provider": record.pair.provider,
        "project": project,
        "rev": record.rev.0,
        "epoch": record.epoch.0,
        "active": record.active,
        "gate": format!("{:?}", record.gate),
        "versions": versions,
        "rotation": rotation,
        "obligations": record.obligations.iter().map(|o| format!("{:?}", o.debt)).collect::<Vec<_>>(),
    })
}

fn task_line(row: &TaskRow, entries: &[Entry], steps_expected: Option<u64>) -> Value {
    let state = match &row.state {
        TaskState::Running => "running",
        TaskState::Parked(_) => "parked",
        TaskState::Done(_) => "done",
        TaskState::Failed(_) => "failed",
        TaskState::Cancelled => "cancelled",
    };
    json!({
        "schema": SCHEMA,
        "tenant": row.key.tenant,
        "task": row.key.task,
        "kind": row.spec.kind,
        "provider": row.spec.provider,
        "state": state,
        "steps_expected": steps_expected,
        "entries": entries.iter().map(entry_line).collect::<Vec<_>>(),
        "output": null,
    })
}

fn entry_line(entry: &Entry) -> Value {
    match entry {
        Entry::Intent { n, idem, version, at } => json!({
            "entry": "intent", "n": n, "idem": HEXLOWER.encode(idem), "version": version,
            "at_ms": at.0,
        }),
        Entry::Result { n, idem, version, at, .. } => json!({
            "entry": "result", "n": n, "idem": HEXLOWER.encode(idem), "version": version,
            "at_ms": at.0,
        }),
        Entry::Checkpoint { n, at, .. } => json!({
            "entry": "checkpoint", "n": n, "idem": null, "version": null, "at_ms": at.0,
        }),
        Entry::State { at, .. } => json!({
            "entry": "state", "n": null, "idem": null, "version": null, "at_ms": at.0,
        }),
    }
}
