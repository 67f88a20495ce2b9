//! `report.html`: the result on one page that needs nothing else, on a desk or on a phone.
//!
//! **Invariant:** the page loads nothing: charts and style are in it, and there is no script.

use std::fmt::Write as _;

use keybaton_oracle::Held;

use super::charts::Chart;
use super::figures::DEFINITIONS;
use super::summary::{Figure, Summary};
use super::times::shown;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8885;--faint:#8882;--good:#1a7f37;--bad:#c22}
@media(prefers-color-scheme:dark){:root{--good:#4ac26b;--bad:#ff7b72}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:70rem}
h1{font-size:1.5rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{max-width:46rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.3rem .5rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:Canvas}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere;vertical-align:top}
.facts td:first-child{white-space:nowrap}
figure{margin:1rem 0}
figure svg{width:100%;height:auto;max-width:600px;border:1px solid var(--line)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:0 1rem}
figcaption{font-size:.9rem}
.held{color:var(--good)}.broken{color:var(--bad)}
.big{font-size:1.1rem;font-weight:600}
.cards{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}
.cards div{border:1px solid var(--line);border-radius:.4rem;padding:.5rem .8rem;min-width:8.5rem}
.cards b{display:block;font-size:1.25rem}
.cards span{font-size:.85rem}
dt{font-weight:600}dd{margin:0 0 .5rem}
pre{overflow-x:auto;background:var(--faint);padding:.6rem;border-radius:.3rem;font-size:.85rem}
";

/// The whole page.
pub fn write(summary: &Summary, charts: &[Chart]) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    page.push_str("<title>Drain latency under load</title>\n<style>");
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n<h1>Drain latency under load</h1>\n");
    opening(&mut page, summary);
    figures(&mut page, summary);
    pictures(&mut page, charts);
    cases(&mut page, summary);
    definitions(&mut page, summary);
    facts(&mut page, summary);
    page.push_str("</body>\n</html>\n");
    page
}

/// Text between tags or in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing into a string does not fail.
macro_rules! add {
    ($page:expr, $($text:tt)*) => { let _ = writeln!($page, $($text)*); };
}

fn opening(page: &mut String, summary: &Summary) {
    let load = &summary.load;
    add!(
        page,
        "<p>How long it takes to move {} running agents of {} from one provider key to the next, \
         over {} rotations, and what the provider's ledger says of every call meanwhile.</p>",
        load.tasks,
        summary.tenants(),
        summary.confidence.rotations,
    );
    let (class, word) = match summary.verdict.verdict {
        Held::Held => ("held", "Held: nothing was dropped, refused, lost or doubled."),
        Held::Broken => ("broken", "Broken: see the violations below."),
    };
    add!(page, "<p class=\"big {class}\">{word}</p>");
    if summary.interrupted {
        add!(
            page,
            "<p class=\"big\">The run was ended before its time; this is what was measured by then.</p>"
        );
    }
    if !summary.environment.optimised {
        add!(
            page,
            "<p class=\"big broken\">Built without optimisation: the times say nothing.</p>"
        );
    }
    add!(page, "<div class=\"cards\">");
    for name in ["drain", "overhead", "pause"] {
        let Some(figure) = summary.figures.get(name) else { continue };
        for percentile in ["p50", "p99"] {
            if let Some(ms) = figure.percentiles_ms.get(percentile) {
                let is_bound = figure.lower_bounds.iter().any(|bound| bound == percentile);
                let mark = if is_bound { "&ge; " } else { "" };
                add!(
                    page,
                    "<div><b>{mark}{}</b><span>{name} {percentile}</span></div>",
                    shown(*ms)
                );
            }
        }
    }
    add!(page, "</div>");
    let counts: Vec<_> = summary.counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    add!(page, "<p>{}</p>", counts.join(" &middot; "));
    if !summary.verdict.violations.is_empty() {
        add!(page, "<pre>");
        for violation in &summary.verdict.violations {
            add!(page, "{}: {}", violation.rule, escaped(&violation.what));
        }
        add!(page, "</pre>");
    }
}

fn head(page: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: String = cells.into_iter().map(|cell| format!("<th>{cell}</th>")).collect();
    add!(page, "<div class=\"wide\"><table><thead><tr>{cells}</tr></thead><tbody>");
}

fn row(page: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: String =
        cells.into_iter().map(|cell| format!("<td>{}</td>", escaped(&cell))).collect();
    add!(page, "<tr>{cells}</tr>");
}

fn figures(page: &mut String, summary: &Summary) {
    add!(page, "<h2>Figures</h2>");
    head(page, Figure::heads().into_iter().chain(["95 % of the median".to_owned()]));
    for (name, _) in DEFINITIONS {
        let Some(figure) = summary.figures.get(name) else { continue };
        let mut cells = figure.cells(name, "≥ ");
        let interval = summary.confidence.intervals.get(&format!("{name}.p50"));
        cells.push(interval.map_or_else(
            || "-".into(),
            |it| format!("{} to {}", shown(it.low_ms), shown(it.high_ms)),
        ));
        row(page, cells);
    }
    add!(page, "</tbody></table></div>");
    let unit = summary.environment.journal_commit_us(&summary.stores);
    if let Some((commits, unit)) = summary.pause_in_commits.as_ref().zip(unit) {
        let of = |name| commits.get(name).copied().unwrap_or_default();
        add!(
            page,
            "<p>In units of one bare commit where the journal lies ({unit} us) the pause is {} at \
             p50 and {} at p99.</p>",
            of("p50"),
            of("p99"),
        );
    }
    if !summary.confidence.enough {
        add!(page, "<p>Fewer than 30 rotations: the intervals are not to be relied on.</p>");
    }
    for condition in &summary.conditions {
        let (class, word) = if condition.fails { ("broken", "fails") } else { ("held", "holds") };
        let (what, why) = (escaped(&condition.condition), escaped(&condition.why));
        add!(page, "<p class=\"{class}\">fail-if {what}: {word} ({why})</p>");
    }
}

fn pictures(page: &mut String, charts: &[Chart]) {
    add!(page, "<div class=\"charts\">");
    for chart in charts {
        let (caption, svg) = (chart.caption, &chart.svg);
        add!(page, "<figure><figcaption>{caption}</figcaption>\n{svg}</figure>");
    }
    add!(page, "</div>");
}

fn cases(page: &mut String, summary: &Summary) {
    if summary.comparators.is_empty() {
        return;
    }
    add!(page, "<h2>Other ways, under the same agents and the same judge</h2>");
    add!(
        page,
        "<p><b>clock</b>: a new key, a fixed wait, the old one is revoked. <b>poll</b>: agents \
         read the key again every so often, and the old one is revoked after that time. \
         <b>restart</b>: the agents are killed, the old key is revoked, they begin again with the \
         new one. Harmed is an agent that lost its work.</p>"
    );
    let names =
        ["", "wait", "agents", "harmed", "refused", "interrupted", "steps lost", "time lost"];
    head(page, names.map(str::to_owned).into_iter().chain(["verdict".to_owned()]));
    for case in &summary.comparators {
        let verdict = if case.verdict.verdict == Held::Held { "held" } else { "broken" };
        row(
            page,
            [
                case.name.to_owned(),
                shown(case.wait_s * 1e3),
                case.tasks.to_string(),
                format!("{:.0} %", case.harmed * 100.0),
                case.refused.to_string(),
                case.interrupted.to_string(),
                case.work_lost_steps.to_string(),
                shown(case.work_lost_s * 1e3),
                verdict.to_owned(),
            ],
        );
    }
    add!(page, "</tbody></table></div>");
}

fn definitions(page: &mut String, summary: &Summary) {
    add!(page, "<h2>Definitions</h2>\n<dl>");
    for (name, meaning) in DEFINITIONS {
        add!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(meaning));
    }
    add!(page, "</dl>\n<p>{}</p>", escaped(summary.censoring));
    add!(
        page,
        "<p>Dropped, refused, interrupted, lost, doubled and touched (other tenants that noticed \
         something) are counted by a judge that shares no code with the system, from the \
         provider's ledger and the tasks' journals.</p>"
    );
}

fn facts(page: &mut String, summary: &Summary) {
    let (it, load, counts) = (&summary.environment, &summary.load, &summary.rotations);
    add!(page, "<h2>How to repeat it</h2>\n<pre>{}</pre>", escaped(&summary.command));
    let optional = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let mib = |kib: Option<u64>| {
        kib.map_or_else(|| "unknown".into(), |kib| format!("{} MiB", kib / 1024))
    };
    let facts = [
        ("seed", load.seed.to_string()),
        ("commit", it.commit.clone()),
        ("compiler", it.compiler.to_owned()),
        ("processor", format!("{}, {} cores", it.cpu, it.cores)),
        ("governor", optional(&it.governor)),
        ("control group", optional(&it.cpu_max)),
        (
            "memory",
            format!("{}, at most {} used", mib(it.memory_kib), mib(it.used.memory_peak_kib)),
        ),
        ("processor time", it.used.cpu_time_s.map_or_else(String::new, |s| format!("{s} s"))),
        (
            "taken by the host",
            it.used
                .stolen_s
                .map_or_else(|| "unknown".into(), |s| format!("{s} s of processor time")),
        ),
        ("kernel", it.kernel.clone()),
        ("file system", it.file_system.clone()),
        ("bare commit", format!("{} us for {} bytes", it.bare_commit_us, it.bare_commit_bytes)),
        (
            "bare commit in the database",
            it.database_commit_us.map_or_else(|| "-".into(), |us| format!("{us} us for as many")),
        ),
        ("fsync", format!("{} us", it.fsync_us)),
        ("load before", it.load_before.map_or_else(|| "unknown".into(), |load| load.to_string())),
        ("journal", summary.stores.journal.clone()),
        ("secrets", summary.stores.secrets.clone()),
        ("events", summary.stores.bus.clone()),
        ("steps", format!("{}, {} taken", load.step_dist, load.steps)),
        (
            "agents",
            format!(
                "{} at once, {} in all; {:.0} % keep a key and call in {:.0} % of a step, {:.0} % of \
                 the steps are streams",
                load.tasks,
                load.tasks_spawned,
                load.sessions * 100.0,
                (1.0 - load.own_work) * 100.0,
                load.streaming * 100.0
            ),
        ),
        (
            "schedule",
            format!(
                "{} every {}, {} planned, {} of them to warm up, {} began late, {} did not \
                 end, {} were not begun",
                if load.at_once == 1 {
                    "a rotation".to_owned()
                } else {
                    format!("{} rotations", load.at_once)
                },
                shown(load.every_ms),
                counts.planned,
                counts.warm_up,
                counts.late,
                counts.unfinished,
                counts.not_started
            ),
        ),
        ("not real", summary.simulated.join("; ")),
    ];
    add!(page, "<div class=\"wide\"><table class=\"facts\"><tbody>");
    for (name, value) in facts {
        row(page, [name.to_owned(), value]);
    }
    add!(page, "</tbody></table></div>");
}
