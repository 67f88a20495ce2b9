//! Many seeds, and what each of them must show.

use std::collections::BTreeSet;

use keybaton_rotation::Class;

use crate::world::World;
use crate::{Mutant, diagram};

/// Seeds of one run in the ordinary test; `KEYBATON_SEEDS` asks for more.
const SEEDS: u64 = 150;
const EVENTS: u32 = 300;
/// The rarest arrows of the diagram are gone within so many seeds.
const DIAGRAM_SEEDS: u64 = 2000;
/// A mutant must be found within so many seeds.
const MUTANT_SEEDS: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> std::ops::Range<u64> {
    match (number("KEYBATON_SEED"), number("KEYBATON_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => 0..many.unwrap_or(SEEDS),
    }
}

fn run(seed: u64, class: Class) -> World {
    let mut world = World::new(seed, class, Mutant::None);
    world.seen.is_verbose = number("KEYBATON_SEED").is_some();
    let events = number("KEYBATON_EVENTS").and_then(|n| u32::try_from(n).ok()).unwrap_or(EVENTS);
    if let Err(violation) = world.run(events) {
        let story = world.log.join("\n");
        let title = world.title();
        panic!(
            "{story}\nseed {seed} ({title}): {violation}\nreplay: KEYBATON_SEED={seed} cargo test \
             -p keybaton-rotation --test world"
        );
    }
    world
}

fn every_promise_holds(class: Class) {
    for seed in seeds() {
        run(seed, class);
    }
}

#[test]
fn every_promise_holds_where_keys_coexist() {
    every_promise_holds(Class::A);
}

#[test]
fn every_promise_holds_where_issuing_voids_the_old_key() {
    every_promise_holds(Class::B);
}

#[test]
fn the_diagram_draws_every_move_and_no_other() {
    let drawn = diagram::arrows();
    let mut made = BTreeSet::new();
    for seed in 0..DIAGRAM_SEEDS {
        for class in [Class::A, Class::B] {
            made.append(&mut run(seed, class).seen.moves);
        }
        if seed >= SEEDS && made.is_superset(&drawn) {
            break;
        }
    }
    let undrawn: Vec<_> = made.difference(&drawn).collect();
    assert!(undrawn.is_empty(), "moves that the diagram does not draw: {undrawn:?}");
    let unmade: Vec<_> = drawn.difference(&made).collect();
    assert!(unmade.is_empty(), "arrows that no seed has gone: {unmade:?}");
}

/// Runs a mutant until a promise breaks that is one of `promises`.
fn is_found(mutant: Mutant, classes: &[Class], promises: &[&str]) {
    for seed in 0..MUTANT_SEEDS {
        for class in classes {
            let mut world = World::new(seed, *class, mutant);
            let Err(violation) = world.run(EVENTS) else {
                continue;
            };
            if promises.iter().any(|promise| violation.starts_with(promise)) {
                return;
            }
        }
    }
    panic!("{mutant:?} broke none of {promises:?} within {MUTANT_SEEDS} seeds");
}

const BOTH: [Class; 2] = [Class::A, Class::B];

#[test]
fn believing_counts_instead_of_grants_is_found() {
    is_found(Mutant::NoGrantsIgnored, &BOTH, &["S1", "S3"]);
}

#[test]
fn ignoring_key_claims_is_found() {
    is_found(Mutant::KeyUnclaimedOff, &BOTH, &["R9", "S1"]);
}

#[test]
fn issuing_again_without_settling_is_found() {
    is_found(Mutant::SettleZero, &[Class::B], &["S1"]);
}

#[test]
fn forgetting_burned_labels_is_found() {
    is_found(Mutant::NoSweeper, &[Class::A], &["S4", "L3"]);
}

#[test]
fn guards_before_the_revision_are_found() {
    is_found(Mutant::GuardsBeforeRevision, &BOTH, &["S9"]);
}

#[test]
fn promoting_in_two_writes_is_found() {
    is_found(Mutant::PromoteInTwoWrites, &[Class::A], &["S2"]);
}

#[test]
fn promoting_an_untried_key_is_found() {
    is_found(Mutant::PromoteUnverified, &BOTH, &["R8"]);
}

#[test]
fn rolling_back_to_a_key_that_is_being_revoked_is_found() {
    is_found(Mutant::RollBackAfterRevokePending, &[Class::A], &["S1", "S8"]);
}

#[test]
fn acting_before_remembering_is_found() {
    is_found(Mutant::ActFirst, &[Class::A], &["S1", "S4", "L3", "impossible"]);
}

#[test]
fn sending_a_label_twice_is_found() {
    is_found(Mutant::LabelSentTwice, &[Class::A], &["S4", "L3"]);
}

#[test]
fn returning_a_grant_early_is_found() {
    is_found(Mutant::GrantReturnedEarly, &BOTH, &["S1", "S3"]);
}

#[test]
fn losing_acknowledged_writes_is_found() {
    is_found(Mutant::WritesLost, &BOTH, &["S1", "S4", "S8", "L3", "impossible"]);
}
