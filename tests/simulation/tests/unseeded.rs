//! Without a seeded runtime no run repeats, but what is promised is promised in every order.

use std::time::Duration;

use keybaton_simulation::{Mode, seeds};

use crate::proof::{run_asked, run_seeds, told};

/// Some seconds: the proof itself is for builds that can seed the runtime.
const TIME: Duration = Duration::from_secs(4);

fn holds(mode: Mode) {
    if let Some(seed) = seeds::asked_for() {
        return run_asked(mode, seed);
    }
    let tally = run_seeds(mode, TIME);
    let failed = tally.failed.as_ref().map(|(seed, what)| told(mode, *seed, what));
    assert_eq!(failed, None);
    assert!(tally.seeds > 0, "no seed was run: {}", tally.speed());
}

#[test]
fn safety_holds_in_whatever_order_the_runtime_takes() {
    holds(Mode::Safety);
}

#[test]
fn liveness_holds_in_whatever_order_the_runtime_takes() {
    holds(Mode::Liveness);
}
