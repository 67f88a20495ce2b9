//! What operators see of rotations: metrics and pages.
//!
//! Labels are bounded: tenant and provider, never a version, task or rotation id; those stand in
//! traces.

use std::time::Duration;

use keybaton_messages::{PairId, RotationId, Shown, Timestamp};
use keybaton_rotation::{PairRecord, Phase, Rotation};

/// A person should look.
pub(crate) fn page(pair: &PairId, rotation: Option<&RotationId>, why: &str) {
    let id = rotation.map_or_else(|| pair.to_string(), ToString::to_string);
    tracing::error!(rotation = id, page = true, "{why}");
    metrics::counter!("keybaton_pages_total", "tenant" => pair.tenant.to_string(),
        "provider" => pair.provider.to_string())
    .increment(1);
}

/// The span that everything of one rotation runs in; before the first rotation, the pair's.
pub(crate) fn span(pair: &PairId, rotation: Option<&RotationId>) -> tracing::Span {
    match rotation {
        Some(id) => tracing::info_span!("rotation", rotation.id = %id, tenant.id = %pair.tenant),
        None => tracing::info_span!("pair", %pair, tenant.id = %pair.tenant),
    }
}

/// Counts what a written record changed.
///
/// `state_time`: how long the phase that ended had lasted, when this process saw it begin.
pub(crate) fn record_changed(
    before: &PairRecord,
    after: &PairRecord,
    now: Timestamp,
    state_time: Option<Duration>,
) {
    let Some(rotation) = &after.rotation else {
        return;
    };
    let was = before.rotation.as_ref().filter(|was| was.id == rotation.id);
    if was.is_some_and(|was| was.phase == rotation.phase) {
        return;
    }
    let provider = || after.pair.provider.to_string();
    let phase = rotation.phase.shown();
    log_phase(rotation, phase);
    if let Some(was) = was {
        metrics::gauge!("keybaton_rotations_active", "provider" => provider(),
            "state" => was.phase.shown().to_string())
        .decrement(1.0);
    }
    if let Some(left) = was.and_then(|was| state_time.map(|time| (was.phase.shown(), time))) {
        metrics::histogram!("keybaton_rotation_state_duration_seconds", "provider" => provider(),
            "state" => left.0.to_string())
        .record(left.1.as_secs_f64());
    }
    let seconds = rotation.started_at.until(now).as_secs_f64();
    match &rotation.phase {
        Phase::Complete { .. } => {
            metrics::histogram!("keybaton_rotation_duration_seconds", "provider" => provider(),
                "outcome" => "complete")
            .record(seconds);
        }
        Phase::Failed { cause } => {
            metrics::histogram!("keybaton_rotation_duration_seconds", "provider" => provider(),
                "outcome" => "failed")
            .record(seconds);
            metrics::counter!("keybaton_rotation_failures_total",
                "tenant" => after.pair.tenant.to_string(), "provider" => provider(),
                "reason" => format!("{cause:?}"))
            .increment(1);
        }
        _ => {
            metrics::gauge!("keybaton_rotations_active", "provider" => provider(),
                "state" => phase.to_string())
            .increment(1.0);
        }
    }
}

fn log_phase(rotation: &Rotation, phase: Shown) {
    let why = rotation.error.as_deref().unwrap_or("");
    tracing::info!(rotation = %rotation.id, %phase, why, "phase");
}
