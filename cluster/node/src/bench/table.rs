//! The result in a terminal.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};

use super::curve;
use super::figures::drain;
use super::sighting::Sighting;
use super::summary::{Baseline, Figure, Summary};
use super::times::shown;

/// Prints the result on standard output.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    summary: &Summary,
    sightings: &[Sighting],
    baseline: Option<&Baseline>,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out)?;
    for line in holders(sightings) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", figures(summary, baseline))?;
    for (name, meaning) in super::figures::DEFINITIONS {
        writeln!(out, "  {name:<10} {meaning}")?;
    }
    writeln!(out, "  {}", summary.censoring)?;
    writeln!(out)?;
    for line in facts(summary) {
        writeln!(out, "{line}")?;
    }
    if !summary.comparators.is_empty() {
        writeln!(out, "{}", cases(summary))?;
    }
    for condition in &summary.conditions {
        let word = if condition.fails { "FAILS" } else { "holds" };
        writeln!(out, "fail-if {}: {word} ({})", condition.condition, condition.why)?;
    }
    verdict(&mut out, summary)
}

/// The curve of the rotation whose drain is the median one.
fn holders(sightings: &[Sighting]) -> Vec<String> {
    let mut counted: Vec<_> = sightings
        .iter()
        .filter(|it| !it.is_warm_up && it.curve.len() > 1)
        .filter_map(|it| Some((drain(it)?, it)))
        .collect();
    counted.sort_by_key(|(drain, _)| *drain);
    let Some((_, it)) = counted.get(counted.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let from = it.committed.unwrap_or_default();
    let to = it.emptied.unwrap_or(it.looked);
    let mut lines = vec![format!("holders in the median rotation, {}", it.rotation)];
    // A little more than the drain, so that its end is seen.
    lines.extend(curve::draw(&it.curve, from, to + to.saturating_sub(from) / 20));
    lines
}

fn plain_table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.into_iter().collect::<Vec<_>>());
    table
}

fn figures(summary: &Summary, baseline: Option<&Baseline>) -> Table {
    let to_baseline = baseline.map(|_| "p50 to baseline".to_owned());
    let mut table = plain_table(Figure::heads().into_iter().chain(to_baseline));
    for (name, _) in super::figures::DEFINITIONS {
        let Some(figure) = summary.figures.get(name) else { continue };
        let mut row = figure.cells(name, ">=");
        if let Some(baseline) = baseline {
            let before = baseline.figures.get(name).and_then(|it| it.percentiles_ms.get("p50"));
            let ratio = figure.percentiles_ms.get("p50").zip(before).filter(|(_, ms)| **ms > 0.0);
            row.push(ratio.map_or_else(|| "-".into(), |(now, ms)| format!("{:.2}x", now / ms)));
        }
        table.add_row(row);
    }
    table
}

/// What has to be known to read the figures, a line each.
fn facts(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    let confidence = &summary.confidence;
    let warning = if confidence.enough { "" } else { ": too few to rely on" };
    let intervals: Vec<_> = confidence
        .intervals
        .iter()
        .map(|(name, it)| format!("{name} {} to {}", shown(it.low_ms), shown(it.high_ms)))
        .collect();
    let rotations = confidence.rotations;
    lines.push(format!("95 % by bootstrap over {rotations} rotations{warning}"));
    lines.push(format!("  {}", intervals.join("; ")));
    let environment = &summary.environment;
    let unit = environment.journal_commit_us(&summary.stores);
    if let Some((commits, unit)) = summary.pause_in_commits.as_ref().zip(unit) {
        let of = |name| commits.get(name).copied().unwrap_or_default();
        lines.push(format!(
            "pause in bare commits of {unit} us: p50 {}, p99 {}",
            of("p50"),
            of("p99")
        ));
    }
    let (load, counts) = (&summary.load, &summary.rotations);
    lines.push(format!(
        "{} agents ({} over the run), {}, steps {}, seed {}; {} rotations, {} of them to \
         warm up, {} began late, {} did not end, {} were not begun",
        load.tasks,
        load.tasks_spawned,
        summary.tenants(),
        load.step_dist,
        load.seed,
        counts.planned,
        counts.warm_up,
        counts.late,
        counts.unfinished,
        counts.not_started,
    ));
    lines.push(format!(
        "{}, {} cores, kernel {}, {}, fsync {} us, {}, commit {}",
        environment.cpu,
        environment.cores,
        environment.kernel,
        environment.file_system,
        environment.fsync_us,
        environment.compiler,
        environment.commit,
    ));
    if !environment.optimised {
        lines.push("built without optimisation: the times say nothing, the verdict does".into());
    }
    lines.push(format!("not real: {}", summary.simulated.join("; ")));
    lines
}

fn cases(summary: &Summary) -> Table {
    let head = ["other ways", "wait", "agents", "harmed", "refused", "interrupted", "work lost"];
    let mut table = plain_table(head.into_iter().chain(["verdict"]).map(str::to_owned));
    for case in &summary.comparators {
        table.add_row([
            case.name.to_owned(),
            shown(case.wait_s * 1e3),
            case.tasks.to_string(),
            format!("{:.0} %", case.harmed * 100.0),
            case.refused.to_string(),
            case.interrupted.to_string(),
            format!("{} steps, {}", case.work_lost_steps, shown(case.work_lost_s * 1e3)),
            if case.verdict.verdict == keybaton_oracle::Held::Held { "held" } else { "broken" }
                .to_owned(),
        ]);
    }
    table
}

fn verdict(out: &mut impl Write, summary: &Summary) -> std::io::Result<()> {
    const LISTED: usize = 5;
    let counts: Vec<_> = summary.counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    let verdict = &summary.verdict;
    let word = if verdict.verdict == keybaton_oracle::Held::Held { "HELD" } else { "BROKEN" };
    writeln!(out, "verdict of the provider's ledger: {word} ({})", counts.join(", "))?;
    for violation in verdict.violations.iter().take(LISTED) {
        writeln!(out, "  {}: {}", violation.rule, violation.what)?;
    }
    if verdict.violations.len() > LISTED {
        writeln!(out, "  and {} more, all in summary.json", verdict.violations.len() - LISTED)?;
    }
    Ok(())
}
