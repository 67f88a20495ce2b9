//! Gauges that are true at the moment of looking: holders, ages of credentials, stuck tasks.
//!
//! Computed from the tables of the node once in a while, so that the hot paths pay nothing. Tenants
//! beyond a bound are left out of the labels, which would otherwise grow without end.

use std::collections::BTreeSet;
use std::sync::Arc;

use keybaton_messages::{TenantId, Version, VersionStatus};
use keybaton_rotation::PairRecord;

use crate::limits::{GAUGE_TENANTS_MAX, GAUGES_EVERY};
use crate::shared::Shared;

/// Sets the gauges again and again; ends when it is dropped.
pub async fn keep_gauges(shared: Arc<Shared>) {
    metrics::gauge!("keybaton_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let mut ticks = tokio::time::interval(GAUGES_EVERY);
    loop {
        ticks.tick().await;
        set(&shared);
    }
}

fn set(shared: &Shared) {
    let mut tenants = BTreeSet::new();
    for (_, view) in shared.views.all() {
        let Some(record) = view.record else { continue };
        tenants.insert(record.pair.tenant.clone());
        if tenants.len() <= GAUGE_TENANTS_MAX {
            set_holders(shared, &record);
        }
        set_credential(shared, &record);
    }
    metrics::gauge!("keybaton_tasks_stuck").set(as_f64(shared.tasks.parked() as u64));
    metrics::gauge!("keybaton_tasks_live").set(as_f64(shared.tasks.live() as u64));
}

fn set_holders(shared: &Shared, record: &PairRecord) {
    let cell = shared.broker.cell(&record.pair);
    let held = |version: &Version| cell.holder_count(*version);
    let current = record.active.as_ref().map_or(0, held);
    let is_leaving =
        |status| matches!(status, VersionStatus::Draining | VersionStatus::RevokePending);
    let leaving = record.versions.iter().filter(|(_, entry)| is_leaving(entry.status));
    let draining: u64 = leaving.map(|(version, _)| held(version)).sum();
    for (status, count) in [("current", current), ("draining", draining)] {
        metrics::gauge!("keybaton_credential_holders",
            "tenant" => label(&record.pair.tenant),
            "provider" => record.pair.provider.to_string(), "status" => status)
        .set(as_f64(count));
    }
}

fn set_credential(shared: &Shared, record: &PairRecord) {
    let Some(entry) = record.active.and_then(|active| record.versions.get(&active)) else {
        return;
    };
    let provider = || record.pair.provider.to_string();
    if let Some(issued_at) = entry.issued_at {
        let age = issued_at.until(shared.ports.clock.now()).as_secs_f64();
        metrics::histogram!("keybaton_credential_age_seconds", "provider" => provider())
            .record(age);
    }
    if let Some(expires_at) = entry.expires_at {
        metrics::gauge!("keybaton_credential_not_after_timestamp_seconds",
            "tenant" => label(&record.pair.tenant), "provider" => provider())
        .set(as_f64(expires_at.0) / 1000.0);
    }
}

fn label(tenant: &TenantId) -> String {
    tenant.to_string()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; counts stay far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
