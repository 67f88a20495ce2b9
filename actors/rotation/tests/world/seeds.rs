//! Many seeds, and what each of them must show.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, budget, command};
use keybaton_rotation::Class;

use crate::world::World;
use crate::{Mutant, diagram};

/// Seeds of one run in the ordinary test; `KEYBATON_SEEDS` asks for more.
const SEEDS: u64 = 150;
const EVENTS: u32 = 300;
/// The rarest arrows of the diagram are gone within so many seeds.
const DIAGRAM_SEEDS: u64 = 2000;
/// What looking for the mutants takes of a long form.
const MUTANTS_TAKE: Duration = Duration::from_secs(5);
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

/// Seeds one after the other, as many as were asked for, or as fit into the time that was given.
fn every_promise_holds(class: Class) {
    let began = Instant::now();
    let budget = budget(Duration::ZERO).saturating_sub(MUTANTS_TAKE);
    let mut evidence = Evidence { holds: true, ..about(class) };
    for seed in seeds() {
        run(seed, class);
        evidence.cases += 1;
    }
    let mut seed = seeds().end;
    while began.elapsed() < budget {
        run(seed, class);
        seed += 1;
        evidence.cases += 1;
    }
    let of_class = MUTANTS.iter().filter(|(_, _, classes, _)| classes.contains(&class));
    evidence.mutants = of_class.map(|mutant| look_for(class, mutant)).collect();
    evidence.seconds = began.elapsed().as_secs_f64();
    evidence.demand();
}

fn about(class: Class) -> Evidence {
    let (letter, what) = match class {
        Class::A => ("a", "where two keys coexist"),
        Class::B => ("b", "where issuing voids the old key"),
    };
    Evidence {
        claim: format!("rules-random-world-{letter}"),
        statement: format!(
            "S1-S4, S8, S9, R8 and R9 hold after every event and everything ends once it is \
             healed, {what}"
        ),
        method: "random histories around the production rules".to_owned(),
        unit: format!("seeds of {EVENTS} events"),
        command: command("cargo test -p keybaton-rotation --test world"),
        notes: vec![
            "one node; crashes between any two lines, late and doubled answers, counts that lie, \
             operators, emergencies, clocks that jump"
                .to_owned(),
        ],
        ..Evidence::default()
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

const BOTH: &[Class] = &[Class::A, Class::B];
const A: &[Class] = &[Class::A];
const B: &[Class] = &[Class::B];

/// A mutant, what it is, where it can show, and the promises of which it must break one.
type Row = (Mutant, &'static str, &'static [Class], &'static [&'static str]);

const MUTANTS: [Row; 12] = [
    (Mutant::NoGrantsIgnored, "counts are believed instead of grants", BOTH, &["S1", "S3"]),
    (Mutant::KeyUnclaimedOff, "a key that another version has is accepted", BOTH, &["R9", "S1"]),
    (Mutant::SettleZero, "issued again without waiting for the abandoned call", B, &["S1"]),
    (Mutant::NoSweeper, "nobody looks for burned labels", A, &["S4", "L3"]),
    (Mutant::GuardsBeforeRevision, "guards are looked at before the revision", BOTH, &["S9"]),
    (Mutant::PromoteInTwoWrites, "promoted in two writes", A, &["S2"]),
    (Mutant::PromoteUnverified, "promoted without having been tried", BOTH, &["R8"]),
    (
        Mutant::RollBackAfterRevokePending,
        "rolled back to a key that is being revoked",
        A,
        &["S1", "S8"],
    ),
    (
        Mutant::ActFirst,
        "no intent: acted on before it is written down",
        A,
        &["S1", "S4", "L3", "impossible"],
    ),
    (Mutant::LabelSentTwice, "a label is sent twice", A, &["S4", "L3"]),
    (Mutant::GrantReturnedEarly, "a grant is returned while it is used", BOTH, &["S1", "S3"]),
    (
        Mutant::WritesLost,
        "acknowledged writes get lost",
        BOTH,
        &["S1", "S4", "S8", "L3", "impossible"],
    ),
];

/// Runs a mutant until a promise breaks that is one of its own.
fn look_for(class: Class, (mutant, name, _, promises): &Row) -> keybaton_evidence::Mutant {
    let mut found = keybaton_evidence::Mutant { name: (*name).to_owned(), ..Default::default() };
    for seed in 0..MUTANT_SEEDS {
        let mut world = World::new(seed, class, *mutant);
        let Err(violation) = world.run(EVENTS) else {
            continue;
        };
        if promises.iter().any(|promise| violation.starts_with(promise)) {
            found.refuted = true;
            found.how = format!("{violation} (seed {seed})");
            break;
        }
    }
    found
}
