//! Looks at every state of a world, or says that it could not.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::{Config, Promise};
use crate::counterexample;
use crate::limits::MUTANT_STATES_MAX;
use crate::world::World;

/// What was found in one world.
#[derive(Clone, Debug)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest of all shortest ways to a state.
    pub depth: usize,
    /// How long that took.
    pub took: Duration,
    /// Every state was looked at.
    pub is_complete: bool,
    /// The promise that broke, and the way there in words.
    pub broken: Option<(Promise, String)>,
}

/// Looks at every state of this world, for `limit` at most.
#[must_use]
pub fn explore(config: Config, limit: Duration) -> Found {
    run(World::new(config), 2, Some(limit))
}

/// Looks for the shortest way to a broken promise.
#[must_use]
pub fn refute(config: Config) -> Found {
    run(World::new(config), 1, None)
}

fn run(world: World, threads: usize, limit: Option<Duration>) -> Found {
    let began = Instant::now();
    let checker = world.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = match limit {
        Some(limit) => checker.timeout(limit),
        // With one thread the checker looks at its clock only at the end.
        None => checker.target_state_count(MUTANT_STATES_MAX),
    };
    let checker = checker.spawn_bfs().join();
    let took = began.elapsed();
    let shortest = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| (name, path.into_vec()))
        .min_by_key(|(_, steps)| steps.len());
    let broken = shortest.and_then(|(name, steps)| {
        let promise = Promise::ALL.into_iter().find(|promise| promise.words() == name)?;
        Some((promise, counterexample::told(checker.model(), promise, &steps)))
    });
    let is_cut = limit.is_some_and(|limit| took >= limit)
        || (limit.is_none() && checker.state_count() >= MUTANT_STATES_MAX);
    Found {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        is_complete: !is_cut && broken.is_none(),
        broken,
    }
}
