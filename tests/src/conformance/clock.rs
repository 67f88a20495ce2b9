//! What the ports `Clock` and `Entropy` promise.

use std::collections::HashSet;

use keybaton_ports::{Clock, Entropy};

use crate::conformance::Has;

/// Runs every case of the port `Clock`.
#[macro_export]
macro_rules! clock_conformance {
    ($open:path) => {
        $crate::conformance_cases! { clock, $open =>
            store_time_never_goes_back
            time_since_boot_never_goes_back
        }
    };
}

/// Runs every case of the port `Entropy`.
#[macro_export]
macro_rules! entropy_conformance {
    ($open:path) => {
        $crate::conformance_cases! { clock, $open =>
            ids_do_not_repeat
            every_byte_is_filled
        }
    };
}

/// `now`: never goes back within one life, whoever looks.
pub async fn store_time_never_goes_back(world: &impl Has<dyn Clock>) {
    let clock = world.port();
    let looking: Vec<_> = (0..4)
        .map(|_| {
            let clock = clock.clone();
            std::thread::spawn(move || {
                let seen: Vec<_> = (0..10_000).map(|_| clock.now()).collect();
                seen.is_sorted()
            })
        })
        .collect();
    for thread in looking {
        assert!(thread.join().expect("no panic"));
    }
}

/// `boottime`: a monotonic clock.
pub async fn time_since_boot_never_goes_back(world: &impl Has<dyn Clock>) {
    let clock = world.port();
    let seen: Vec<_> = (0..10_000).map(|_| clock.boottime()).collect();
    assert!(seen.is_sorted());
}

/// `bytes16`, `bits`: fit for ids.
pub async fn ids_do_not_repeat(world: &impl Has<dyn Entropy>) {
    let entropy = world.port();
    let ids: HashSet<_> = (0..1000).map(|_| entropy.bytes16()).collect();
    let bits: HashSet<_> = (0..1000).map(|_| entropy.bits()).collect();
    assert_eq!((ids.len(), bits.len()), (1000, 1000));
}

/// `fill`: all of it.
pub async fn every_byte_is_filled(world: &impl Has<dyn Entropy>) {
    let entropy = world.port();
    for length in [1, 7, 64, 1000] {
        let mut ever = vec![0; length];
        for _ in 0..64 {
            let mut bytes = vec![0; length];
            entropy.fill(&mut bytes);
            ever.iter_mut().zip(bytes).for_each(|(e, b)| *e |= b);
        }
        assert!(ever.iter().all(|byte| *byte != 0), "{length}");
    }
}
