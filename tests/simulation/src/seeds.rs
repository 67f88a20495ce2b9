//! Which seeds are run: those that failed once, then as many more as there is time for.

use crate::run::Mode;

/// The environment variable with the one seed to run.
pub const SEED: &str = "KEYBATON_SEED";

/// Seeds that failed once, each with what it found.
const KNOWN: &str = include_str!("../seeds.txt");

/// The seed that was asked for.
///
/// # Panics
/// When the variable is set and is no number.
#[must_use]
pub fn asked_for() -> Option<u64> {
    let text = std::env::var(SEED).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SEED}={text} is no number")))
}

/// The seeds that failed once in this mode.
///
/// # Panics
/// When a line of the list is no mode, number and reason.
#[must_use]
pub fn known(mode: Mode) -> Vec<u64> {
    let lines = KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seeds = lines.filter_map(|line| {
        let mut words = line.splitn(3, ' ');
        let (of, seed, reason) = (words.next(), words.next(), words.next());
        let is_mode = [Mode::Safety, Mode::Liveness].map(Mode::word).contains(&of.unwrap_or(""));
        let seed = seed.and_then(|seed| seed.parse().ok());
        let (Some(seed), true, Some(_)) = (seed, is_mode, reason) else {
            panic!("seeds.txt: not `mode seed reason`: {line}");
        };
        (of == Some(mode.word())).then_some(seed)
    });
    seeds.collect()
}

/// The command that runs one seed again.
#[must_use]
pub fn command(mode: Mode, seed: u64) -> String {
    let word = mode.word();
    format!("{SEED}={seed} {COMMAND} {word}")
}

/// The command of the whole.
pub const COMMAND: &str = "cargo test --workspace --test simulation";
