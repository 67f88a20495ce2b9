//! The hunt itself: the corpus, then mutations of it for as long as there is time.

use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use keybaton_evidence::{Evidence, Mutant, Series, budget, command};

use crate::engine::{Find, Search, Target, corpus, feed};
use crate::planted::PLANTED;
use crate::targets::TARGETS;

/// Inputs of one target before the next one has its turn.
const TURN: u32 = 500;

/// How long a planted fault may take to be found.
const PLANTED_WAIT_MAX: Duration = Duration::from_secs(20);

fn refute(name: &str, target: Target) -> Mutant {
    let began = Instant::now();
    let found = Search::begin(target).map_err(|find| (0, find)).and_then(|mut search| {
        while began.elapsed() < PLANTED_WAIT_MAX {
            if let Err(find) = search.go_on(TURN) {
                return Err((search.inputs, find));
            }
        }
        Ok(search.inputs)
    });
    let (refuted, how) = match found {
        Err((inputs, find)) => (true, format!("found after {inputs} inputs: {find}")),
        Ok(inputs) => (false, format!("not found in {inputs} inputs")),
    };
    Mutant { name: name.to_owned(), refuted, how }
}

/// Feeds all targets in turn. Inputs, ways of taking them over time, and what was found.
fn search(limit: Duration) -> (u64, Vec<(f64, f64)>, Option<Find>) {
    let began = Instant::now();
    let mut searches = Vec::new();
    for target in TARGETS {
        match Search::begin(*target) {
            Ok(search) => searches.push(search),
            Err(find) => return (1, Vec::new(), Some(find)),
        }
    }
    let mut points = Vec::new();
    loop {
        let mut found = None;
        for search in &mut searches {
            found = found.or_else(|| search.go_on(TURN).err());
        }
        let inputs: u64 = searches.iter().map(|search| search.inputs).sum();
        let outcomes: usize = searches.iter().map(Search::outcomes).sum();
        let is_over = found.is_some() || began.elapsed() >= limit;
        let step = points.last().map_or(0.0, |(x, _): &(f64, f64)| x * 1.3);
        if is_over || inputs_of(inputs) >= step {
            points.push((inputs_of(inputs), inputs_of(outcomes as u64)));
        }
        if is_over {
            return (inputs, points, found);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53, for a chart")]
fn inputs_of(count: u64) -> f64 {
    count as f64
}

#[test]
fn fuzz() {
    let began = Instant::now();
    let (cases, points, found) = search(budget(Duration::from_secs(30)));
    let seconds = began.elapsed().as_secs_f64();
    let mutants = PLANTED.iter().map(|(name, target)| refute(name, *target)).collect();
    Evidence {
        claim: "fuzz".into(),
        statement: "none of these parsers of bytes from outside panics, takes memory without \
                    bound, or reads back something else than it accepted"
            .into(),
        method: "mutations of a checked-in corpus, grown by outcomes".into(),
        cases,
        unit: "inputs".into(),
        seconds,
        holds: found.is_none(),
        counterexample: found.map(|find| find.to_string()).unwrap_or_default(),
        mutants,
        command: command("cargo test -p keybaton-tests --test fuzz fuzz"),
        notes: vec![
            format!("{} parsers, in turns of {TURN} inputs, one seed each", TARGETS.len()),
            "inputs are chosen by the outcome of earlier ones, not by coverage of the code".into(),
        ],
        series: vec![Series {
            name: "outcomes seen".into(),
            x: "inputs".into(),
            y: "different outcomes".into(),
            points,
        }],
    }
    .demand();
}

/// Every input that is checked in; or, to repeat a find, the one that the environment names.
#[test]
fn replay() {
    let named = std::env::var("KEYBATON_FUZZ_TARGET").ok();
    let mut fed = 0;
    for target in TARGETS {
        let inputs = match (&named, std::env::var("KEYBATON_FUZZ_HEX")) {
            (Some(name), _) if name != target.name => continue,
            (Some(_), Ok(hex)) => vec![HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")],
            _ => corpus(target),
        };
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            feed(target, &input).unwrap_or_else(|find| panic!("{find}"));
            fed += 1;
        }
    }
    assert!(fed > 0, "{named:?} is no target");
}

#[test]
fn the_corpus_has_a_folder_for_each_target_and_no_other() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut there: Vec<_> = std::fs::read_dir(root)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let mut expected: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
}
