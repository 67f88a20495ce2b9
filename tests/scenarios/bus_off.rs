//! Everything works without the bus: this binary runs its own scenarios again on a bus that loses,
//! refuses, or never answers.
//!
//! Left out are the two whose subject is the bus itself. With the bus off they must fail, which
//! shows that it is off.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use keybaton_evidence::{DIRECTORY, Evidence, Mutant, SECONDS, command, is_long_form};
use keybaton_tests::harness::DeadBus;

/// Scenarios that read events.
const READERS: [&str; 2] = [
    "rotation::a_class_a_rotation_tells_its_story_in_order",
    "rotation::a_class_b_rotation_empties_the_old_key_before_it_asks_for_the_new_one",
];

/// What an ordinary test run repeats; the long form repeats everything.
const SHORT: [&str; 3] = ["rotation::", "tasks::", "triggers::"];

/// Proofs of this binary: they take their own time, and no bus is in them or it is this one.
const PROOFS: [&str; 3] = ["audit_tamper::", "bus_off::", "secrets_do_not_spill::canary"];

/// Runs tests of this binary without a bus. How many passed, whether all did, and what was said.
fn run(binary: &Path, arguments: &[&str]) -> (u64, bool, String) {
    let output = Command::new(binary)
        .args(arguments)
        .args(["--test-threads", "2"])
        .env(DeadBus::SWITCH, "off")
        .env_remove(SECONDS)
        .env_remove(DIRECTORY)
        .output()
        .expect("this binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = text.lines().filter_map(|line| {
        let (_, counts) = line.split_once("test result: ")?;
        let (before, _) = counts.split_once(" passed")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    (passed.sum(), output.status.success(), text)
}

fn end_of(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[test]
fn bus_off() {
    let began = Instant::now();
    let mut arguments = if is_long_form() { Vec::new() } else { SHORT.to_vec() };
    for skipped in READERS.iter().chain(&PROOFS) {
        arguments.extend(["--skip", skipped]);
    }
    // Asked for once: after minutes the file may have been replaced by a newer build.
    let binary = std::env::current_exe().expect("this binary");
    let (_, reads, said) = run(&binary, &["--exact", READERS[0]]);
    let (cases, is_ok, text) = run(&binary, &arguments);
    let is_about_events = said.contains("Initiated") && said.contains("panicked");
    Evidence {
        claim: "bus-off".into(),
        statement: format!(
            "whatever {} shows holds without the event bus: events are hints, the record decides",
            if is_long_form() {
                "a scenario"
            } else {
                "a scenario of rotations, tasks or triggers"
            }
        ),
        method: "the scenarios again, on a bus that loses, refuses or never answers".into(),
        cases,
        unit: "scenarios".into(),
        seconds: began.elapsed().as_secs_f64(),
        holds: is_ok && cases > 0,
        counterexample: if is_ok { String::new() } else { end_of(&text) },
        mutants: vec![Mutant {
            name: "a reader that learns of a rotation from events alone".into(),
            refuted: !reads && is_about_events,
            how: format!("{} fails with the bus off", READERS[0]),
        }],
        command: command("cargo test -p keybaton-tests --test scenarios bus_off"),
        notes: vec![format!(
            "{}; left out: {}, whose subject is the bus",
            if is_long_form() { "all scenarios" } else { "rotation, tasks and triggers" },
            READERS.join(" and "),
        )],
        series: Vec::new(),
    }
    .demand();
}
