//! The shape of every source file, and what must not stand in one.

use std::path::{Path, PathBuf};

use crate::{demand_none, root};

const LINES_MAX: usize = 500;

/// Words that must not stand in any source: what they mark is unfinished. Written in halves, so
/// that this file does not find itself.
const UNFINISHED: [&str; 2] = [concat!("to", "do!("), concat!("unimple", "mented!(")];

/// Words that must not stand in a test: it waits for a state, and it runs.
const NOT_IN_TESTS: [&str; 3] =
    [concat!("#[", "ignore"), concat!("sleep", "("), concat!("sleep_until", "(")];

/// What the standard library would let the rules of a rotation do. Maps that hash begin with a
/// random number.
const NOT_IN_ROTATION: [&str; 11] = [
    "async fn",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "SystemTime",
    "Instant",
    "HashMap",
    "HashSet",
];

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The lines of this file that belong to tests, with their numbers. The oracle is no test, a
    /// fake of something slow is slow, and time in the simulation passes by itself.
    fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        const OTHER: [&str; 3] = ["tests/oracle/src/", "tests/fakes/src/", "tests/simulation/src/"];
        let is_other = OTHER.iter().any(|folder| self.path.starts_with(folder));
        let is_all = self.path.split('/').any(|part| part == "tests") && !is_other;
        let lines = self.text.lines().enumerate();
        let mut is_test = is_all;
        let mut was_marked = false;
        lines.filter_map(move |(place, line)| {
            is_test |= was_marked && line.starts_with("mod ") && line.ends_with('{');
            was_marked = line == "#[cfg(test)]";
            is_test.then_some((place + 1, line))
        })
    }
}

/// Every source file of ours, in order.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    let root = root();
    let read = |file: PathBuf| Source {
        path: file.strip_prefix(&root).expect("below the root").display().to_string(),
        text: std::fs::read_to_string(&file).expect("a source is readable text"),
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether `word` stands in `line` as a word of its own and not in a comment.
fn says(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(is_part))
}

#[test]
fn every_file_opens_with_its_point_and_is_short() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        if !text.starts_with("//! ") {
            found.push(format!("{path}: open it with `//!` and its one point"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{path}: {lines} lines, split it at {LINES_MAX}"));
        }
    }
    demand_none("shape of files", &found);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        for (place, line) in text.lines().enumerate() {
            if UNFINISHED.iter().any(|word| says(line, word)) {
                found.push(format!("{path}:{}: finish it: {}", place + 1, line.trim()));
            }
        }
    }
    demand_none("unfinished code", &found);
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    let mut found = Vec::new();
    for source in &sources() {
        for (number, line) in source.test_lines() {
            if NOT_IN_TESTS.iter().any(|word| says(line, word)) {
                let path = &source.path;
                found.push(format!("{path}:{number}: wait for a state: {}", line.trim()));
            }
        }
    }
    demand_none("tests that sleep or do not run", &found);
}

#[test]
fn the_rules_of_a_rotation_cannot_act() {
    let mut found = Vec::new();
    for Source { path, text } in sources() {
        if !path.starts_with("actors/rotation/src") {
            continue;
        }
        for (place, line) in text.lines().enumerate() {
            if NOT_IN_ROTATION.iter().any(|word| says(line, word)) {
                found.push(format!("{path}:{}: {}", place + 1, line.trim()));
            }
        }
    }
    demand_none("the rules of a rotation take time and chance as arguments", &found);
}

#[test]
fn the_searches_find_what_they_look_for() {
    let [ignore, sleep, _] = NOT_IN_TESTS;
    assert!(says(&format!("    std::thread::{sleep}ONE);"), sleep));
    assert!(says(&format!("first(); {sleep}ONE).await"), sleep));
    assert!(!says(&format!("no_{sleep}ONE)"), sleep));
    assert!(!says(&format!("// never {sleep}ONE)"), sleep));
    assert!(says(&format!("    {ignore} = \"slow\"]"), ignore));
    let text = "fn real() {}\n#[cfg(test)]\nmod tests {\n    first();\n}\n";
    let of = |path: &str| {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        source.test_lines().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(of("actors/src/x.rs"), [3, 4, 5]);
    assert_eq!(of("tests/scenarios/x.rs"), [1, 2, 3, 4, 5]);
    assert_eq!(of("tests/oracle/src/x.rs"), [3, 4, 5]);
}

#[test]
fn all_of_the_repository_is_searched() {
    let paths: Vec<_> = sources().into_iter().map(|source| source.path).collect();
    let known = ["messages/src/wire.rs", "actors/rotation/src/step.rs", "tests/tidy/sources.rs"];
    assert!(known.iter().all(|path| paths.iter().any(|it| it == path)), "{paths:?}");
}
