//! `--sweep`: the same run with one option at several values, each in a process of its own, and one
//! table and chart over all of them.
//!
//! **Invariant:** each value is an ordinary run: its directory has its own report and raw data, and
//! its command stands in its summary.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::super::demo::{interrupt, note};
use super::options::DrainArgs;
use super::plot::{MS_MIN, Plan, Series};
use super::times::{shown, tick};

/// The options that can be swept.
const AXES: [&str; 4] = ["tasks", "tenants", "payload", "at-once"];

/// One option at several values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    axis: &'static str,
    values: Vec<u32>,
}

impl FromStr for Sweep {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let hint = "write one of tasks, tenants, payload or at-once, as in tasks=100,1000,10000";
        let (name, values) = text.split_once('=').context(hint)?;
        let axis = AXES.into_iter().find(|axis| *axis == name).context(hint)?;
        let values = values
            .split(',')
            .map(|value| value.trim().parse().with_context(|| format!("{value:?} is no number")))
            .collect::<anyhow::Result<Vec<u32>>>()?;
        ensure!(values.windows(2).all(|two| two[0] < two[1]), "the values do not ascend; {hint}");
        Ok(Self { axis, values })
    }
}

/// What one value came to, in the columns of the table.
struct Point {
    value: u32,
    cells: Vec<(&'static str, Option<f64>)>,
    held: bool,
}

/// The columns: a name, and where its number stands in a summary.
const COLUMNS: [(&str, &str); 12] = [
    ("rotations", "/confidence/rotations"),
    ("drain_p50_ms", "/figures/drain/percentiles_ms/p50"),
    ("overhead_p50_ms", "/figures/overhead/percentiles_ms/p50"),
    ("overhead_p99_ms", "/figures/overhead/percentiles_ms/p99"),
    ("pause_p50_ms", "/figures/pause/percentiles_ms/p50"),
    ("pause_p99_ms", "/figures/pause/percentiles_ms/p99"),
    ("revoke_lag_p50_ms", "/figures/revoke_lag/percentiles_ms/p50"),
    ("censored", "/figures/drain/censored"),
    ("bare_commit_us", "/environment/bare_commit_us"),
    ("memory_peak_kib", "/environment/memory_peak_kib"),
    ("cpu_time_s", "/environment/cpu_time_s"),
    ("steps", "/load/steps"),
];

/// Lines of the chart, all in milliseconds.
const LINES: [(&str, &str); 5] = [
    ("overhead_p50_ms", "overhead p50"),
    ("overhead_p99_ms", "overhead p99"),
    ("pause_p50_ms", "pause p50"),
    ("pause_p99_ms", "pause p99"),
    ("revoke_lag_p50_ms", "revoke_lag p50"),
];

/// Runs each value, until one cannot be run; then the table has those before it.
///
/// # Errors
/// When nothing can be run or written.
pub async fn run(args: &DrainArgs, sweep: &Sweep) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{} cannot be made", args.out.display()))?;
    let mut points = Vec::new();
    let mut code = 0;
    for (place, value) in (1..).zip(&sweep.values) {
        note(&format!("{place} of {}: --{} {value}", sweep.values.len(), sweep.axis));
        let out = args.out.join(format!("{}-{value}", sweep.axis));
        let (ended, interrupted) = child(sweep.axis, *value, &out).await?;
        match ended {
            Some(0 | 1 | 130) => points.push(Point::read(*value, &out)?),
            _ if interrupted => {}
            // It has said why. What was measured before it is kept.
            _ => note(&format!("the run with --{} {value} gave nothing", sweep.axis)),
        }
        code = code.max(ended.unwrap_or(130));
        if interrupted || !matches!(ended, Some(0 | 1)) {
            break;
        }
    }
    ensure!(!points.is_empty(), "nothing was measured");
    publish(args, sweep.axis, &points)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(130)))
}

/// One value in a process of its own, whose use of memory is its own, too. A Ctrl-C reaches both.
async fn child(axis: &str, value: u32, out: &Path) -> anyhow::Result<(Option<i32>, bool)> {
    let swept = format!("--{axis}");
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(without(std::env::args_os().skip(1), &["--sweep", "--out", swept.as_str()]))
        .args([swept.as_str(), &value.to_string(), "--out"])
        .arg(out)
        .stdout(Stdio::null())
        .spawn()
        .context("this program cannot be started again")?;
    tokio::select! {
        ended = child.wait() => Ok((ended?.code(), false)),
        () = interrupt() => Ok((child.wait().await?.code(), true)),
    }
}

/// The arguments without these options and their values.
fn without(args: impl Iterator<Item = OsString>, options: &[&str]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        match options.iter().find_map(|option| text.strip_prefix(option)) {
            Some("") => drop(args.next()),
            Some(rest) if rest.starts_with('=') => {}
            _ => kept.push(arg),
        }
    }
    kept
}

impl Point {
    fn read(value: u32, out: &Path) -> anyhow::Result<Self> {
        let path = out.join("summary.json");
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self::of(value, &serde_json::from_slice(&bytes)?))
    }

    fn of(value: u32, summary: &Value) -> Self {
        let cell = |(name, at)| (name, summary.pointer(at).and_then(Value::as_f64));
        Self {
            value,
            cells: COLUMNS.into_iter().map(cell).collect(),
            held: summary["verdict"]["verdict"] == "held",
        }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.cells.iter().find(|cell| cell.0 == name)?.1
    }
}

fn publish(args: &DrainArgs, axis: &str, points: &[Point]) -> anyhow::Result<()> {
    let path = |name: &str| args.out.join(name);
    std::fs::write(path("sweep.csv"), csv(axis, points))?;
    if !args.no_report {
        std::fs::write(path("sweep.svg"), times(axis, points).svg("sweep")?)?;
        std::fs::write(path("sweep-use.svg"), used(axis, points).svg("sweep-use")?)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(axis, points))?;
    note(&format!("written to {}", args.out.display()));
    Ok(())
}

fn csv(axis: &str, points: &[Point]) -> String {
    let names: Vec<_> = COLUMNS.iter().map(|column| column.0).collect();
    let mut text = format!("{axis},verdict,{}\n", names.join(","));
    for point in points {
        let verdict = if point.held { "held" } else { "broken" };
        let cells =
            point.cells.iter().map(|(_, cell)| cell.map_or(String::new(), |it| it.to_string()));
        text += &format!("{},{verdict},{}\n", point.value, cells.collect::<Vec<_>>().join(","));
    }
    text
}

fn table(axis: &str, points: &[Point]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let names = LINES.map(|line| line.1);
    let head = [axis, "verdict"].into_iter().chain(names);
    table.set_header(head.chain(["memory", "processor each step"]));
    for point in points {
        let ms = |name: &str| point.get(name).map_or_else(|| "-".to_owned(), shown);
        let mut row = vec![point.value.to_string()];
        row.push(if point.held { "held" } else { "broken" }.to_owned());
        row.extend(LINES.map(|line| ms(line.0)));
        let memory = point.get("memory_peak_kib").map(|kib| format!("{:.0} MiB", kib / 1024.0));
        row.push(memory.unwrap_or_else(|| "-".to_owned()));
        row.push(step_ms(point).map_or_else(|| "-".to_owned(), shown));
        table.add_row(row);
    }
    table
}

/// Processor time for each step, provider and agents included, milliseconds.
fn step_ms(point: &Point) -> Option<f64> {
    let steps = point.get("steps").filter(|steps| *steps > 0.0)?;
    Some(point.get("cpu_time_s")? * 1e3 / steps)
}

/// An axis without a zero needs a place for it.
fn x(point: &Point) -> f64 {
    f64::from(point.value.max(1))
}

fn line(colour: usize, name: &str, points: &[Point], of: impl Fn(&Point) -> Option<f64>) -> Series {
    let points = points.iter().filter_map(|point| Some((x(point), of(point)?.max(MS_MIN))));
    let points: Vec<_> = points.collect();
    Series { name: name.into(), is_dots: points.len() == 1, points, width: 2, colour }
}

/// A number at the axis, with the unit that people read.
fn count(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.0}M", x / 1e6),
        x if x >= 1e3 => format!("{:.0}k", x / 1e3),
        x => format!("{x:.0}"),
    }
}

fn plan(axis: &str, y_label: fn(f64) -> String, lines: Vec<Series>) -> Plan {
    let x = match axis {
        "tasks" => "agents",
        "tenants" => "tenants",
        "payload" => "bytes that an agent knows",
        _ => "rotations that begin at once",
    };
    Plan { x, y: "", x_is_log: true, y_is_log: true, x_label: count, y_label, lines }
}

fn times(axis: &str, points: &[Point]) -> Plan {
    let lines = (0..).zip(LINES);
    let lines =
        lines.map(|(colour, (column, name))| line(colour, name, points, |it| it.get(column)));
    plan(axis, tick, lines.filter(|line| !line.points.is_empty()).collect())
}

fn used(axis: &str, points: &[Point]) -> Plan {
    let mib = |it: &Point| it.get("memory_peak_kib").map(|kib| kib / 1024.0);
    let step_us = |it: &Point| step_ms(it).map(|ms| ms * 1e3);
    let lines = vec![
        line(0, "peak memory, MiB", points, mib),
        line(1, "processor time each step, us", points, step_us),
    ];
    plan(axis, count, lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_option_and_ascending_values_are_a_sweep_and_nothing_else_is() {
        let sweep: Sweep = "tasks=100,1000".parse().expect("a sweep");
        assert_eq!((sweep.axis, sweep.values), ("tasks", vec![100, 1000]));
        for text in ["tasks", "seed=1,2", "tasks=", "tasks=10,5", "tasks=1,x"] {
            assert!(text.parse::<Sweep>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_of_the_sweep_gets_the_same_options_but_the_swept_one() {
        let typed = "bench drain --tasks 5 --sweep tasks=1,2 --out=x --every 1s --task-like 3";
        let args = typed.split(' ').map(OsString::from);
        let kept = without(args, &["--sweep", "--out", "--tasks"]);
        assert_eq!(kept, ["bench", "drain", "--every", "1s", "--task-like", "3"]);
    }

    #[test]
    fn each_value_is_a_row_and_a_point() {
        let summary = |pause: f64| {
            json!({
                "verdict": {"verdict": "held"},
                "figures": {"pause": {"percentiles_ms": {"p50": pause, "p99": pause * 3.0}}},
                "environment": {"memory_peak_kib": 204_800, "cpu_time_s": 2.0},
                "load": {"steps": 1000},
            })
        };
        let points = [Point::of(100, &summary(1.5)), Point::of(1000, &summary(1.75))];
        let rows = csv("tasks", &points);
        assert!(rows.lines().nth(1).is_some_and(|row| row.starts_with("100,held,,")), "{rows}");
        assert_eq!(rows.lines().count(), 3);
        let shown = table("tasks", &points).to_string();
        assert!(shown.contains("1.75 ms") && shown.contains("200 MiB"), "{shown}");
        assert_eq!(step_ms(&points[0]), Some(2.0));
        let svg = times("tasks", &points).svg("sweep").expect("drawn");
        assert!(svg.contains("pause p99") && !svg.contains("overhead"), "{svg}");
        assert!(used("tasks", &points).svg("use").expect("drawn").contains("peak memory"));
    }
}
