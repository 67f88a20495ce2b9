//! The benchmark itself: a small run measures, is judged, keeps its promise about files, and can
//! be ended at any moment.

use std::path::Path;
use std::process::Command;

use keybaton_tests::harness::{Ended, plain_run, start};
use serde_json::Value;

const SCHEMA: &str = include_str!("../../cluster/node/src/bench/summary.schema.json");

/// What a `summary.json` has that its schema does not want, by the few words that the schema uses.
fn complaints(at: &str, schema: &Value, root: &Value, value: &Value, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(&reference[1..]).expect("the schema names what it has");
        return complaints(at, target, root, value, found);
    }
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        found.push(format!("{at} is {value}, not {constant}"));
    }
    let is_of = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the schema has a type {other} that this test does not know"),
    };
    let kinds: Vec<_> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind)) {
        found.push(format!("{at} is {value}, not {kinds:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{at} lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{at} is not in the schema")),
            (Value::Null, Value::Null) => {}
            (Value::Null, other) => complaints(&at, other, root, inner, found),
            (known, _) => complaints(&at, known, root, inner, found),
        }
    }
    for (place, inner) in value.as_array().into_iter().flatten().enumerate() {
        if schema.get("items").is_some() {
            complaints(&format!("{at}[{place}]"), &schema["items"], root, inner, found);
        }
    }
}

fn summary(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut found = Vec::new();
    complaints("summary", &schema, &schema, &summary, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    summary
}

fn rows(out: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(out.join(name)).expect(name);
    text.lines().skip(1).map(str::to_owned).collect()
}

fn demand_held(summary: &Value, ended: &Ended) {
    assert_eq!(summary["verdict"]["verdict"], "held", "{ended:?}");
    for none in ["dropped", "refused", "interrupted", "lost", "doubled", "touched"] {
        assert_eq!(summary["counts"][none], 0, "{none}: {ended:?}");
    }
}

#[test]
fn a_small_run_is_measured_judged_and_written_down_beside_ways_that_break() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let shown = out.display().to_string();
    let ended = plain_run(
        ["bench", "drain", "--tasks", "12", "--tenants", "2", "--arrival", "3"]
            .into_iter()
            .chain(["--step-dist", "lognormal:p50=100ms,p99=400ms", "--every", "500ms"])
            .chain([
                "--at-once",
                "2",
                "--rotations",
                "3",
                "--warmup",
                "1",
                "--comparators",
                "clock,restart,poll",
            ])
            .chain(["--comparator-tasks", "6", "--wait-max", "1s", "--out", shown.as_str()])
            .chain(["--fail-if", "drain.censored>0,unfinished>0,pause.p50<0ms"]),
    );

    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = summary(&out);
    demand_held(&summary, &ended);
    assert_eq!(summary["rotations"]["rotated"], 8, "{summary}");
    assert_eq!(summary["figures"]["drain"]["n"], 6, "warm-up does not count: {summary}");
    assert!(summary["load"]["tasks_spawned"].as_u64() > Some(12), "some arrived: {summary}");
    let p50 = |name: &str| summary["figures"][name]["percentiles_ms"]["p50"].as_f64();
    assert!(p50("pause") > Some(0.0) && p50("drain") >= p50("overhead"), "{summary}");
    assert_eq!(rows(&out, "rotations.csv").len(), 8);
    let swapped = rows(&out, "tasks.csv").iter().filter(|row| row.contains(",swapped,")).count();
    assert!(swapped > 12, "{swapped} of 12 tasks were moved in four rotations of each key");
    assert!(!rows(&out, "holders.csv").is_empty());
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    for word in ["<svg", "overhead", "refused or cut", "How to repeat it", "bare commit"] {
        assert!(page.contains(word), "{word}");
    }
    for name in ["drain.hlog", "pause.hlog", "spectrum.svg", "holders.svg", "safety.svg"] {
        assert!(out.join(name).exists(), "{name}");
    }
    let left = std::fs::read_dir(&out).expect("read").filter_map(Result::ok);
    assert!(left.filter(|it| it.path().is_dir()).count() == 0, "no keys are left behind");

    // The other ways fail where they must.
    let cases = summary["comparators"].as_array().expect("cases");
    let of = |name: &str| cases.iter().filter(|case| case["name"] == name).collect::<Vec<_>>();
    assert_eq!((of("clock").len(), of("poll").len(), of("restart").len()), (2, 1, 1));
    for case in of("clock").into_iter().chain(of("restart")) {
        assert_eq!(case["verdict"]["verdict"], "broken", "{case}");
        assert!(case["dropped"].as_u64() > Some(0), "{case}");
    }
    assert!(of("clock")[0]["refused"].as_u64() > Some(0), "{cases:?}");
    assert!(of("restart")[0]["interrupted"].as_u64() > Some(0), "{cases:?}");
    assert!(of("restart")[0]["work_lost_steps"].as_u64() > Some(0), "{cases:?}");
}

#[test]
fn a_run_that_is_interrupted_keeps_what_was_measured() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let shown = out.display().to_string();
    let mut running = start(
        ["bench", "drain", "--tasks", "10", "--step-dist", "fixed:50ms", "--every", "200ms"]
            .into_iter()
            .chain([
                "--rotations",
                "5000",
                "--warmup",
                "0",
                "--no-report",
                "--out",
                shown.as_str(),
            ]),
    );
    running.line(|line| line.contains("rotation 2 ")).expect("two rotations");
    let pid = running.pid().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
    assert!(killed.success());
    let ended = running.end();

    assert_eq!(ended.code, Some(130), "{ended:?}");
    let summary = summary(&out);
    demand_held(&summary, &ended);
    assert_eq!(summary["interrupted"], true);
    let measured = summary["figures"]["drain"]["n"].as_u64().expect("a number");
    assert!((2..5000).contains(&measured), "{measured}");
    assert_eq!(summary["rotations"]["planned"], 5000);
    assert!(summary["rotations"]["not_started"].as_u64() > Some(4000), "{summary}");
    assert!(!out.join("report.html").exists(), "it was not wanted");
}

#[test]
fn a_condition_that_is_true_fails_the_run_and_a_senseless_one_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let shown = dir.path().join("out").display().to_string();
    let run = |condition: &'static str| {
        plain_run(
            ["bench", "drain", "--tasks", "5", "--step-dist", "fixed:20ms", "--every", "50ms"]
                .into_iter()
                .chain([
                    "--rotations",
                    "1",
                    "--warmup",
                    "0",
                    "--no-report",
                    "--out",
                    shown.as_str(),
                ])
                .chain(["--fail-if", condition]),
        )
    };
    let ended = run("drain.n<2,dropped>0");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("fail-if drain.n<2: FAILS"), "{ended:?}");
    assert!(ended.stdout.contains("fail-if dropped>0: holds"), "{ended:?}");
    let refused = run("drain>fast");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("behind the point stands"), "{refused:?}");
    let refused = run("drain.p50>1.2x");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--baseline"), "{refused:?}");
}

#[test]
fn one_option_at_several_values_is_a_run_for_each_and_a_chart_over_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let shown = out.display().to_string();
    let ended = plain_run(
        ["bench", "drain", "--sweep", "tasks=2,4", "--step-dist", "fixed:20ms", "--every", "50ms"]
            .into_iter()
            .chain(["--rotations", "1", "--warmup", "0", "--out", shown.as_str()]),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (value, row) in [2, 4].into_iter().zip(rows(&out, "sweep.csv")) {
        assert!(row.starts_with(&format!("{value},held,1,")), "{row}");
        let summary = summary(&out.join(format!("tasks-{value}")));
        assert_eq!(summary["load"]["tasks"], value);
        demand_held(&summary, &ended);
    }
    assert!(out.join("sweep.svg").exists() && out.join("sweep-use.svg").exists());
}
