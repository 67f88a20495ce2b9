//! Logs to standard error, metrics over HTTP.

use std::net::SocketAddr;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use tracing_subscriber::EnvFilter;

/// Idle gauges end after this, so that a pair that went away does not alarm for ever.
const IDLE_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Libraries that are silent unless somebody names them: they call a key that is not there an error,
/// and at lower levels they would tell what they send.
const QUIET: &str = "rustify=off,vaultrs=off";

/// Sends logs to standard error.
///
/// # Errors
/// When the filter cannot be read.
pub fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .with_context(|| format!("--log {filter:?}: use error, warn, info, debug or trace"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// Serves Prometheus metrics, if an address is given.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve_metrics(addr: Option<SocketAddr>) -> anyhow::Result<()> {
    let Some(addr) = addr else { return Ok(()) };
    PrometheusBuilder::new()
        .with_http_listener(addr)
        .idle_timeout(MetricKindMask::GAUGE, Some(IDLE_AFTER))
        .install()
        .with_context(|| format!("metrics cannot be served on {addr}; try another --metrics"))
}

/// Keeps secrets out of what a crash leaves behind: no core file, no attaching by other processes
/// of the user, and a panic tells its place only, since its text could quote anything.
pub fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files are not switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process can be dumped");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}
