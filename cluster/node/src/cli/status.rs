//! `keybaton status`: a directory explained, whether a process works on it or not.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use keybaton::{KeyStatus, NodeStatus, PairStatus, read_status};

use super::super::demo::Output;
use super::node_dir;

/// Explain a data directory.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  keybaton status --data-dir /var/lib/keybaton
  keybaton status --data-dir d -o json | jq '.pairs[].why'

A running node is asked; of a stopped one the journal is read. Where that lies in Postgres or Redis,
the password comes from the file that the node was started with, or from KEYBATON_POSTGRES_PASSWORD
or KEYBATON_REDIS_JOURNAL_PASSWORD.")]
pub struct StatusArgs {
    /// The node's data directory, or a demo's
    #[arg(long)]
    data_dir: PathBuf,

    /// File with the master key, if it is not in the usual place
    #[arg(long)]
    master_key_file: Option<PathBuf>,

    /// Text for people or one JSON object
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the status.
///
/// # Errors
/// When the directory cannot be read; the message says what to do next.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let dir = node_dir(&args.data_dir);
    let status = read_status(&dir, args.master_key_file.as_deref()).await?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&status)?)?,
        Output::Text => write!(out, "{}", text(&dir, &status))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(dir: &Path, status: &NodeStatus) -> String {
    let mut text = String::new();
    let how = if status.running { "running" } else { "stopped" };
    let (tasks, stores) = (&status.tasks, &status.stores);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}: {how}", dir.display());
    let _ = writeln!(text, "journal: {}", stores.journal);
    if let Some(loss) = &stores.journal_may_lose {
        let _ = writeln!(text, "journal is {loss}");
    }
    let _ = writeln!(text, "secrets: {}; events: {}", stores.secrets, stores.bus);
    let _ = writeln!(
        text,
        "tasks: {} running, {} done, {} parked, {} failed, {} cancelled",
        tasks.running, tasks.done, tasks.parked, tasks.failed, tasks.cancelled
    );
    if status.pairs.is_empty() {
        text.push_str("no pair has a key yet\n");
        return text;
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["pair", "rotation", "phase", "active", "gate", "next", "holders", "why"]);
    for pair in &status.pairs {
        table.add_row(row(pair));
    }
    let _ = writeln!(text, "{table}");
    for pair in &status.pairs {
        for key in pair.versions.iter().filter(|key| is_alive(key)) {
            let _ = writeln!(text, "{} {}", pair.pair, shown(key, status.at_ms));
        }
        for owed in &pair.obligations {
            let _ = writeln!(text, "{} owes: {owed}", pair.pair);
        }
        for holder in &pair.holders {
            let shown = holder.tasks.join(" ");
            let _ = writeln!(
                text,
                "{} v{}: {} leases: {shown}",
                pair.pair, holder.version, holder.leases
            );
        }
        if let Some(why) = &pair.stopped {
            let _ = writeln!(text, "{} IS STOPPED: {why}", pair.pair);
        }
    }
    text
}

/// Whether the provider may still accept its key.
fn is_alive(key: &KeyStatus) -> bool {
    key.provider_key_id.is_some() && !matches!(key.status.as_str(), "REVOKED" | "GONE")
}

fn shown(key: &KeyStatus, now_ms: u64) -> String {
    let KeyStatus { version, status, .. } = key;
    let mut text = format!("v{version}: {status}");
    if let Some(secret) = key.secret {
        let _ = write!(text, ", secret s{secret}");
    }
    if let Some(id) = &key.provider_key_id {
        let _ = write!(text, ", key {id}");
    }
    if let Some(at) = key.issued_at_ms {
        let ago = Duration::from_secs(now_ms.saturating_sub(at) / 1000);
        let _ = write!(text, ", issued {ago:?} ago");
    }
    if let Some(at) = key.expires_at_ms {
        let left = Duration::from_secs(at.saturating_sub(now_ms) / 1000);
        let _ = write!(text, ", ends by itself in {left:?}");
    }
    text
}

fn row(pair: &PairStatus) -> Vec<String> {
    let next = pair.next.as_ref().map_or_else(String::new, |(timer, left)| {
        format!("{timer} in {:?}", Duration::from_millis(*left))
    });
    let holders: Vec<_> = pair
        .holders
        .iter()
        .map(|holder| format!("v{}:{}", holder.version, holder.leases))
        .collect();
    vec![
        pair.pair.clone(),
        pair.rotation.clone().unwrap_or_default(),
        format!("{} ({})", pair.shown, pair.phase),
        pair.active.map_or_else(|| "none".into(), |version| format!("v{version}")),
        pair.gate.clone(),
        next,
        holders.join(" "),
        pair.why.clone(),
    ]
}
