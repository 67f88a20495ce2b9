//! `keybaton simulator`: the simulated provider in a process of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use keybaton_simulator::{Class, Script, Simulator};

/// Serve a provider that stands in for the vendors.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  keybaton simulator --dir provider
  keybaton simulator --dir provider --class b --fault issue:1=ack-lost
  curl -H 'Authorization: Bearer KEY' URL/v1/models

The ledger is DIR/ledger.jsonl; it says when each key lived and which request used which key.")]
pub struct SimulatorArgs {
    /// Directory of the ledger; a simulator that was killed goes on from it
    #[arg(long)]
    dir: PathBuf,

    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,

    /// a: keys live side by side; b: issuing voids the older keys of a project
    #[arg(long, default_value = "a")]
    class: Class,

    /// A fault, as <op>[@<project>]:<n>[x<times>]=<fault>[:<millis>]; may be given again
    #[arg(long)]
    fault: Vec<Script>,
}

/// Serves until interrupted. The first line on standard output is the URL.
///
/// # Errors
/// When the directory or the address cannot be used.
pub async fn run(args: SimulatorArgs) -> anyhow::Result<ExitCode> {
    let mut builder = Simulator::builder().dir(&args.dir).bind(args.bind).class(args.class);
    for script in args.fault {
        builder = builder.fault(script);
    }
    let simulator = builder
        .start()
        .await
        .with_context(|| format!("the simulator cannot work in {}", args.dir.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", simulator.base_url())?;
    out.flush()?;
    drop(out);
    tokio::signal::ctrl_c().await?;
    simulator.stop().await;
    Ok(ExitCode::SUCCESS)
}
