//! The result: a table for people, one object on one line for programs.

use std::io::Write;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use hdrhistogram::Histogram;
use keybaton::{DrainReport, StoreNames};
use keybaton_oracle::{Held, Verdict};
use keybaton_rotation::Phase;
use serde::Serialize;
use serde_json::{Value, json};

use super::options::{DemoArgs, Output};
use super::stage::{Plan, SCALE};

/// Version of the object that `-o json` ends with.
const SCHEMA: u32 = 1;

/// A phase and when it began.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseMark {
    /// By its own name.
    pub phase: String,
    /// By the word that is shown.
    pub shown: String,
    /// Milliseconds after the rotation's first phase.
    pub at_ms: u64,
}

/// What the node measured of the run.
#[derive(Default)]
pub struct Measured {
    /// Which rotation.
    pub rotation: String,
    /// Its timeline.
    pub phases: Vec<PhaseMark>,
    /// How the old version left.
    pub drain: Option<DrainReport>,
    /// Pauses of hand-overs, microseconds.
    pub hand_over: Option<Histogram<u64>>,
    /// One bare commit on the same disk.
    pub bare_commit: Option<Duration>,
    /// Where the node kept what.
    pub stores: StoreNames,
    /// The version that was left.
    pub old: Option<u32>,
    /// The version that was taken.
    pub new: Option<u32>,
}

/// What came of the naive rotation.
pub struct Naive {
    /// By the same oracle.
    pub verdict: Verdict,
    /// How long it waited before it revoked.
    pub wait: Duration,
}

/// The name of a phase as the rules call it.
pub fn phase_name(phase: &Phase) -> String {
    let text = format!("{phase:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

/// One line on standard error.
pub fn note(line: &str) {
    // A terminal that is gone cannot be told so.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints the result on standard output.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    args: &DemoArgs,
    plan: &Plan,
    verdict: &Verdict,
    measured: &Measured,
    naive: Option<&Naive>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", object(plan, verdict, measured, naive))?,
        Output::Text => text(&mut out, verdict, measured, naive)?,
    }
    Ok(())
}

fn object(plan: &Plan, verdict: &Verdict, measured: &Measured, naive: Option<&Naive>) -> Value {
    let kept = counts(plan, verdict, measured);
    let Some(naive) = naive else { return kept };
    let mut object = judged(plan, &naive.verdict);
    object["naive"] = json!({"wait_ms": millis(naive.wait)});
    object["keybaton"] = kept;
    object
}

fn judged(plan: &Plan, verdict: &Verdict) -> Value {
    let mut object = serde_json::to_value(verdict).unwrap_or_else(|_| json!({}));
    object["seed"] = json!(plan.seed);
    object["schema"] = json!(SCHEMA);
    object["scale"] = json!(SCALE);
    object
}

fn counts(plan: &Plan, verdict: &Verdict, measured: &Measured) -> Value {
    let mut object = judged(plan, verdict);
    object["rotation"] = json!({
        "id": measured.rotation,
        "class": plan.class,
        "phases": measured.phases,
    });
    object["stores"] = json!(measured.stores);
    object["drain"] = measured.drain.map_or(Value::Null, |drain| {
        json!({
            "holders_at_close": drain.holders_at_close,
            "latency_ms": drain.latency.map(millis),
            "longest_remaining_step_ms": millis(drain.longest_remaining),
            "overhead_ms": drain.latency.map(|latency| {
                millis(latency.saturating_sub(drain.longest_remaining))
            }),
        })
    });
    object["handover_pause"] = pause(measured).unwrap_or(Value::Null);
    object
}

fn pause(measured: &Measured) -> Option<Value> {
    let pauses = measured.hand_over.as_ref()?;
    let (p50, p99) = (pauses.value_at_quantile(0.5), pauses.value_at_quantile(0.99));
    Some(json!({
        "count": pauses.len(),
        "p50_us": p50,
        "p99_us": p99,
        "max_us": pauses.max(),
        "p50_commits": measured.bare_commit.map(|bare| in_commits(p50, bare)),
        "p99_commits": measured.bare_commit.map(|bare| in_commits(p99, bare)),
        "bare_commit_us": measured.bare_commit.map(micros),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio with two digits needs no 52 bits")]
fn in_commits(pause_us: u64, bare: Duration) -> f64 {
    let ratio = pause_us as f64 / (bare.as_secs_f64() * 1e6);
    (ratio * 100.0).round() / 100.0
}

fn text(
    out: &mut impl Write,
    verdict: &Verdict,
    measured: &Measured,
    naive: Option<&Naive>,
) -> std::io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{}", table(verdict, naive))?;
    if let (Some(old), Some(new)) = (measured.old, measured.new) {
        let phases: Vec<_> = measured
            .phases
            .iter()
            .map(|mark| format!("{} {}", mark.phase, seconds(mark.at_ms)))
            .collect();
        writeln!(out, "{}  v{old} -> v{new}", measured.rotation)?;
        writeln!(out, "  {}", phases.join("  "))?;
    }
    if let Some(drain) = measured.drain {
        writeln!(out, "{}", drain_line(&drain))?;
    }
    if let Some(pauses) = measured.hand_over.as_ref().filter(|pauses| !pauses.is_empty()) {
        writeln!(out, "{}", pause_line(pauses, measured.bare_commit))?;
    }
    conclusion(out, "keybaton", verdict)?;
    if let Some(naive) = naive {
        let name = format!("today's way (revoke after {} ms)", millis(naive.wait));
        conclusion(out, &name, &naive.verdict)?;
    }
    Ok(())
}

fn pause_line(pauses: &Histogram<u64>, bare: Option<Duration>) -> String {
    let (p50, p99) = (pauses.value_at_quantile(0.5), pauses.value_at_quantile(0.99));
    let count = pauses.len();
    match bare {
        None => format!("  {count} hand-overs, pause p50 {p50} us  p99 {p99} us"),
        Some(bare) => format!(
            "  {count} hand-overs, pause p50 {p50} us ({} commits)  p99 {p99} us ({} commits)  \
             of {} us each",
            in_commits(p50, bare),
            in_commits(p99, bare),
            micros(bare),
        ),
    }
}

fn drain_line(drain: &DrainReport) -> String {
    let held = drain.holders_at_close;
    match drain.latency {
        Some(latency) => format!(
            "  {held} holders when v{} was closed; the last left after {} ms, {} ms after the \
             longest step",
            drain.version.0,
            millis(latency),
            millis(latency.saturating_sub(drain.longest_remaining)),
        ),
        None => {
            format!("  {held} holders when v{} was closed; some are still there", drain.version.0)
        }
    }
}

/// What a row is called, and its value in a verdict.
type Row = (&'static str, fn(&Verdict) -> String);

fn table(verdict: &Verdict, naive: Option<&Naive>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let mut head = vec!["judged by the provider's ledger".to_owned(), "keybaton".to_owned()];
    head.extend(naive.map(|_| "today's way".to_owned()));
    table.set_header(head);
    let rows: [Row; 11] = [
        ("agents", |v| v.tasks.to_string()),
        ("agents dropped", |v| v.tasks_dropped.to_string()),
        ("calls that ended well", |v| v.calls_ok.to_string()),
        ("calls interrupted", |v| v.calls_interrupted.to_string()),
        ("calls refused", |v| v.calls_refused.to_string()),
        ("calls cut by a kill of ours", |v| v.calls_cut_by_kill.to_string()),
        ("other tenants touched", |v| v.other_tenants_touched.to_string()),
        ("steps lost", |v| v.steps_lost.to_string()),
        ("steps doubled", |v| v.steps_doubled.to_string()),
        ("old key dead", |v| if v.old_key_dead { "yes" } else { "no" }.into()),
        ("live keys (expected)", |v| format!("{} ({})", v.live_keys.found, v.live_keys.expected)),
    ];
    for (name, value) in rows {
        let mut row = vec![name.to_owned(), value(verdict)];
        row.extend(naive.map(|naive| value(&naive.verdict)));
        table.add_row(row);
    }
    table
}

fn conclusion(out: &mut impl Write, who: &str, verdict: &Verdict) -> std::io::Result<()> {
    const SHOWN: usize = 5;
    match verdict.verdict {
        Held::Held => writeln!(out, "verdict of {who}: HELD"),
        Held::Broken => {
            writeln!(out, "verdict of {who}: BROKEN")?;
            for violation in verdict.violations.iter().take(SHOWN) {
                writeln!(out, "  {}: {}", violation.rule, violation.what)?;
            }
            if verdict.violations.len() > SHOWN {
                writeln!(out, "  and {} more", verdict.violations.len() - SHOWN)?;
            }
            Ok(())
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.2}s", Duration::from_millis(ms).as_secs_f64())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
