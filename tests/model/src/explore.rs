//! Looks at every state of a world, or says that it could not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

use crate::config::{Config, Promise};
use crate::counterexample;
use crate::limits::{MUTANT_STEPS_MAX, STEPS_MAX};
use crate::world::World;

/// What was found in one world.
#[derive(Clone, Debug)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest way by which a state was first reached.
    pub depth: usize,
    /// How long that took.
    pub took: Duration,
    /// Every state was looked at.
    pub is_complete: bool,
    /// Different pairs of record and input that the production rules were asked about.
    pub questions: usize,
    /// The phases that were reached.
    pub phases: BTreeSet<&'static str>,
    /// How many steps lead to the broken promise.
    pub length: Option<usize>,
    /// The promise that broke, and the way there in words.
    pub broken: Option<(Promise, String)>,
}

/// Looks at every state of this world, for `limit` at most.
#[must_use]
pub fn explore(config: Config, limit: Duration) -> Found {
    // The checker's own time limit does not say whether it cut anything off; the world does.
    let world = World::new(config).until(Instant::now() + limit);
    run(world, |checker| checker.threads(2).target_state_count(STEPS_MAX))
}

/// Looks for the shortest way to a broken promise.
///
/// The checker goes breadth first, but reports the last of many broken states that it meets
/// together; so it is asked again for a shorter way until there is none.
#[must_use]
pub fn refute(config: &Config) -> Found {
    let bounded =
        |checker: CheckerBuilder<World>| checker.threads(1).target_state_count(MUTANT_STEPS_MAX);
    let mut found = run(World::new(*config), bounded);
    while let Some(length) = found.length {
        let shorter = |checker| bounded(checker).target_max_depth(length + 1);
        let next = run(World::new(*config), shorter);
        if next.length.is_none() {
            break;
        }
        found = next;
    }
    found
}

fn run(world: World, bound: impl Fn(CheckerBuilder<World>) -> CheckerBuilder<World>) -> Found {
    let began = Instant::now();
    let checker = bound(world.checker().finish_when(HasDiscoveries::AnyFailures));
    let checker = checker.spawn_bfs().join();
    let took = began.elapsed();
    checker.model().stop_the_clock();
    let shortest = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| (name, path.into_vec()))
        .min_by_key(|(_, steps)| steps.len());
    let length = shortest.as_ref().map(|(_, steps)| steps.len() - 1);
    let broken = shortest.and_then(|(name, steps)| {
        let promise = Promise::ALL.into_iter().find(|promise| promise.words() == name)?;
        Some((promise, counterexample::told(checker.model(), promise, &steps)))
    });
    let (questions, phases) = checker.model().book.asked();
    let is_cut = checker.model().is_cut() || checker.state_count() >= STEPS_MAX;
    Found {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        is_complete: !is_cut && broken.is_none(),
        questions,
        phases,
        length,
        broken,
    }
}
