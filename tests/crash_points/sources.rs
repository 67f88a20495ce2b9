//! The table of points and the sources name the same places.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::points::{DOUBLES, NOT_HERE, POINTS};

/// Where production code lies.
const FOLDERS: [&str; 3] = ["actors", "adapters/src", "cluster"];

/// Where the names stand that come from a phase or an effect.
const NAMED_BY_MATCH: &str = "actors/ports/src/crash_point/armed.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the repository").to_owned()
}

fn texts(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts_of_no_build(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

fn texts_of_no_build(folder: &Path, found: &mut Vec<String>) {
    if folder.file_name().is_none_or(|name| name != "target") {
        texts(folder, found);
    }
}

/// What stands in quotes right behind each `call`.
fn quoted_behind(text: &str, call: &str) -> Vec<String> {
    let behind = text.split(call).skip(1);
    behind.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
}

/// Every place that the sources name.
fn places_in_sources() -> BTreeSet<String> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        texts(&root().join(folder), &mut found);
    }
    let calls = ["crash_point::reach(\"", "crash_point::doubles(\""];
    let named = found.iter().flat_map(|text| calls.map(|call| quoted_behind(text, call)));
    let mut places: BTreeSet<_> = named.flatten().collect();
    let armed = std::fs::read_to_string(root().join(NAMED_BY_MATCH)).expect("the sources");
    let arms = armed.lines().map(str::trim);
    let arms: Vec<_> = arms.flat_map(|line| quoted_behind(line, " => \"")).collect();
    let (effects, phases): (Vec<_>, Vec<_>) =
        arms.into_iter().partition(|name| name.starts_with("effect."));
    let phases = phases.iter().map(String::as_str).chain(["started", "note"]);
    places.extend(
        phases.flat_map(|name| ["committing", "committed"].map(|at| format!("{name}.{at}"))),
    );
    places.extend(effects);
    places
}

/// Every place that the tables name.
fn places_in_tables() -> BTreeSet<String> {
    let reached = POINTS.iter().map(|point| point.place);
    let doubled = DOUBLES.iter().map(|(_, place)| *place);
    let absent = NOT_HERE.iter().map(|(place, _)| *place);
    reached.chain(doubled).chain(absent).map(str::to_owned).collect()
}

#[test]
fn the_tables_and_the_sources_name_the_same_places() {
    let (sources, tables) = (places_in_sources(), places_in_tables());
    let untested: Vec<_> = sources.difference(&tables).collect();
    assert!(untested.is_empty(), "in the sources and in no table: {untested:?}");
    let stale: Vec<_> = tables.difference(&sources).collect();
    assert!(stale.is_empty(), "in a table and not in the sources: {stale:?}");
    assert!(sources.len() > 50, "the sources were read: {sources:?}");
}

#[test]
fn a_place_is_found_wherever_it_is_named() {
    let text = "crash_point::reach(\"a.b\", x); if crash_point::reach(\"c\", y) {}";
    assert_eq!(quoted_behind(text, "crash_point::reach(\""), ["a.b", "c"]);
    assert_eq!(quoted_behind("Phase::Preflight => \"preflight\",", " => \""), ["preflight"]);
}
