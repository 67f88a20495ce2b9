//! The state diagram in the head of the crate, compared with what really happens.

use std::collections::BTreeSet;

use keybaton_rotation::Phase;

/// The phase's name as it stands in the diagram.
pub fn name(phase: &Phase) -> String {
    let debug = format!("{phase:?}");
    debug.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Every arrow that the diagram draws: lines of the form `From -> To, To`.
pub fn arrows() -> BTreeSet<(String, String)> {
    let source = include_str!("../../src/lib.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! "));
    let mut arrows = BTreeSet::new();
    for line in lines {
        let Some((from, to)) = line.split_once(" -> ") else {
            continue;
        };
        for to in to.split(',') {
            arrows.insert((from.trim().to_owned(), to.trim().to_owned()));
        }
    }
    arrows
}
