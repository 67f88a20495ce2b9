//! The command line: demo, bench, simulator, status, audit, redis, vault.

mod audit;
mod redis;
mod simulator;
mod status;
mod stores;
mod telemetry;
mod vault;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::bench;
use super::demo;

pub use stores::StoreArgs;

/// Hands a model-provider key over under running agents.
#[derive(Parser)]
#[command(name = "keybaton", version, about, max_term_width = 100)]
#[command(after_help = "Start with: keybaton demo")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged to standard error, as in `info` or `keybaton_actors=debug`
    #[arg(long, global = true, env = "KEYBATON_LOG", default_value = "error")]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Replace a key under running agents, live, and have the result judged
    Demo(Box<demo::DemoArgs>),
    /// Measure, with raw data and a report that others can repeat
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Serve a simulated provider, with its ledger and its faults
    Simulator(simulator::SimulatorArgs),
    /// Explain a data directory: phases, why they wait, holders, what is owed
    Status(status::StatusArgs),
    /// Look at the audit trail
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Prepare Redis for events or for a journal
    #[command(subcommand)]
    Redis(redis::RedisCommand),
    /// Prepare a Vault for secrets
    #[command(subcommand)]
    Vault(vault::VaultCommand),
}

/// Carries out the command.
///
/// # Errors
/// When it cannot be carried out; the message says what to do next.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(&cli.log)?;
    telemetry::harden();
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => {
                telemetry::serve_metrics(args.metrics)?;
                demo::run(*args).await
            }
            Command::Bench(command) => bench::run(command).await,
            Command::Simulator(args) => simulator::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Audit(command) => audit::run(command).await,
            Command::Redis(command) => redis::run(command),
            Command::Vault(command) => vault::run(command),
        }
    })
}

/// A demo keeps its node one level down.
fn node_dir(dir: &Path) -> PathBuf {
    let inside = dir.join("node");
    if dir.join("demo.json").exists() && inside.is_dir() { inside } else { dir.to_owned() }
}

/// Thousands of agents are thousands of connections; the usual soft limit is 1024.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
