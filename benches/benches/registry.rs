//! Criterion's view of the hottest path: acquire and release on one pair, beside its baselines.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keybaton_benches::race::{BATCH, Candidate};
use keybaton_benches::registry::baselines::{
    TunedMap, dashmap_naive, dashmap_tuned, open_pair, own_line, registry, registry_owned,
    shared_line,
};

fn hot_cycle(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("hot_cycle/{threads}t"));
        group.throughput(Throughput::Elements(BATCH as u64));
        let (pair, map) = (open_pair(), Arc::new(TunedMap::new(64)));
        let candidates = [
            registry(&pair),
            registry_owned(&pair),
            own_line(),
            shared_line(),
            dashmap_tuned(&map),
            dashmap_naive(),
        ];
        for candidate in &candidates {
            group.bench_function(BenchmarkId::from_parameter(candidate.name), |bencher| {
                bencher.iter_custom(|batches| together(threads, batches, candidate));
            });
        }
    }
}

/// Time in which each of the threads runs so many batches.
fn together(threads: usize, batches: u64, candidate: &Candidate<'_>) -> Duration {
    let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        for thread in 0..threads {
            let mut worker = (candidate.worker)(thread);
            let (start, end) = (&start, &end);
            scope.spawn(move || {
                start.wait();
                (0..batches).for_each(|_| black_box(&mut worker)());
                end.wait();
            });
        }
        start.wait();
        let begin = Instant::now();
        end.wait();
        begin.elapsed()
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = hot_cycle
}
criterion_main!(benches);
