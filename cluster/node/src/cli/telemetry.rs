//! Logs to standard error, metrics over HTTP.

use std::net::SocketAddr;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use tracing_subscriber::EnvFilter;

/// Idle gauges end after this, so that a pair that went away does not alarm for ever.
const IDLE_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Sends logs to standard error.
///
/// # Errors
/// When the filter cannot be read.
pub fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?}: use error, warn, info, debug or trace"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
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
