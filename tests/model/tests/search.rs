//! The search itself: it says when it looked at everything, and when it did not.

use std::time::Duration;

use keybaton_model::{Config, Mutant, Promise, explore};
use keybaton_rotation::Class;

#[test]
fn a_search_that_ran_out_of_time_is_not_complete() {
    let found = explore(Config::new(Class::A), Duration::ZERO);
    assert!(!found.is_complete, "{} states", found.states);
    assert!(found.broken.is_none());
}

#[test]
fn a_broken_promise_is_found_with_its_way_by_every_search() {
    let config = Config {
        mutant: Mutant::PromoteInTwoWrites,
        judged: &[Promise::OneActive],
        ..Config::new(Class::A)
    };
    let found = explore(config, Duration::from_secs(60));
    let (_, way) = found.broken.expect("broken");
    assert!(way.contains("v2 is ACTIVE"), "{way}");
    assert!(!found.is_complete);
}
