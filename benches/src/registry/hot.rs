//! Acquire and release on one hot pair, handle resolved.

use std::sync::Arc;

use super::baselines::{
    TunedMap, dashmap_by_task, dashmap_naive, dashmap_tuned, open_pair, own_line, registry,
    registry_owned, shared_line,
};
use crate::figure::Report;
use crate::race::{Candidate, race};

/// Shards of a pair's tuned map, hot or not: which pair becomes hot is not known when its map is
/// made. Eight, the library's own choice for two cores, are slower on a hot pair.
pub(super) const SHARDS: usize = 64;

/// So many shards take 64 KiB for each pair, but two threads hardly meet: reported beside.
const SHARDS_LAVISH: usize = 512;

/// One, two and eight threads.
pub(super) fn hot_cycle(report: &mut Report) {
    for threads in [1, 2, 8] {
        if report.wants(&format!("hot_cycle/{threads}t")) {
            measure(report, threads);
        }
    }
}

fn measure(report: &mut Report, threads: usize) {
    let (pair, map) = (open_pair(), Arc::new(TunedMap::new(SHARDS)));
    let lavish = Candidate {
        name: "dashmap_lavish",
        ..dashmap_tuned(&Arc::new(TunedMap::new(SHARDS_LAVISH)))
    };
    let results = race(
        threads,
        &[
            registry(&pair),
            own_line(),
            shared_line(),
            dashmap_tuned(&map),
            dashmap_by_task(SHARDS),
            lavish,
            dashmap_naive(),
            registry_owned(&pair),
        ],
    );
    let name = |base: &str| format!("hot_cycle/{threads}t/{base}");
    let to_own = results.ratio("registry", "own_line");
    let faster = |base: &str| results.ratio(base, "registry");
    match threads {
        1 => {
            report.at_most(name("own_line"), to_own, 1.3);
            report.at_least(name("dashmap_tuned"), faster("dashmap_tuned"), 1.4);
        }
        2 => {
            report.at_most(name("own_line"), to_own, 1.3);
            let to_shared = results.ratio("registry", "shared_line");
            report.at_most(name("shared_line"), to_shared, 0.4);
            report.at_least(name("dashmap_tuned"), faster("dashmap_tuned"), 6.0);
            report.at_least(name("dashmap_naive"), faster("dashmap_naive"), 20.0);
        }
        _ => {
            report.report(name("own_line"), to_own);
            report.report(name("dashmap_tuned"), faster("dashmap_tuned"));
        }
    }
    report.report(name("dashmap_by_task"), faster("dashmap_by_task"));
    report.report(name("dashmap_lavish"), faster("dashmap_lavish"));
    report.report(name("owned_to_own_line"), results.ratio("registry_owned", "own_line"));
    for candidate in results.names() {
        report.report(name(&format!("{candidate}_core_ns")), results.core_ns(candidate));
    }
}
