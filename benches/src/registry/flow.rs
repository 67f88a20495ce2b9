//! Leases on their way: across threads, across a rotation, inside tokio, and how late at worst.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;
use keybaton_registry::{Lease, Pair};

use super::baselines::{Line, TunedMap, VERSION, lease_numbers, open_pair, registry};
use super::hot::SHARDS;
use crate::figure::Report;
use crate::race::{BATCH, Candidate, ROUNDS, Worker, median, race, slice};

/// Tasks on one runtime.
const TASKS: u64 = 1000;

/// Cycles between two yields of a task.
const CYCLES_PER_TURN: u32 = 64;

/// Turns of one task in one round.
const TURNS: u32 = 20;

/// Acquired here, released there, beside the same leases released where they were acquired.
pub(super) fn cross_thread_release(report: &mut Report) {
    if !report.wants("cross_thread_release/2t") {
        return;
    }
    let pair = open_pair();
    let results = race(2, &[handing(&pair, "same", false), handing(&pair, "crossed", true)]);
    report.report("cross_thread_release/2t/same_thread", results.ratio("crossed", "same"));
    report.report("cross_thread_release/2t/crossed_core_ns", results.core_ns("crossed"));
}

/// Throughput of two threads straight after a switch, beside straight before.
pub(super) fn after_rotation(report: &mut Report) {
    if !report.wants("after_rotation/2t") {
        return;
    }
    let pair = open_pair();
    let candidate = registry(&pair);
    let throughputs: Vec<_> = (VERSION..)
        .take(ROUNDS)
        .map(|old| {
            let before = slice(2, &candidate).core_ns;
            pair.publish(old + 1).expect("drained places are used again");
            pair.close(old, || ());
            before / slice(2, &candidate).core_ns
        })
        .collect();
    report.at_least("after_rotation/2t/throughput", median(throughputs.into_iter()), 0.8);
}

/// 1 000 tasks on two workers, each with its own handle.
pub(super) fn tokio_cycle(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("tokio_cycle/2w") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let pair = open_pair();
    let map = Arc::new(TunedMap::new(SHARDS));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        times[0].push(time_tasks(&runtime, |task| {
            let member = pair.join(task);
            move || drop(member.acquire().expect("the slot is open"))
        }));
        times[1].push(time_tasks(&runtime, |_| {
            let line = Line::default();
            move || line.cycle()
        }));
        times[2].push(time_tasks(&runtime, |task| {
            let (map, mut leases) = (Arc::clone(&map), (task + 1) << 40..);
            move || {
                let lease = leases.next().unwrap_or(task);
                black_box(map.acquire(lease, task));
                black_box(map.release(lease));
            }
        }));
    }
    let [ours, own, tuned] = times;
    let ratio = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b));
    report.report("tokio_cycle/2w/own_line", ratio(&ours, &own));
    report.report("tokio_cycle/2w/dashmap_tuned", ratio(&tuned, &ours));
    report.report("tokio_cycle/2w/registry_core_ns", median(ours.into_iter()));
    Ok(())
}

/// How long one acquire and release take at worst, eight threads on all cores. A lock that makes
/// its waiters sleep shows here.
pub(super) fn latency(report: &mut Report) {
    if !report.wants("latency/8t") {
        return;
    }
    let pair = open_pair();
    let ours = p999_us(|thread| {
        let member = pair.join(thread);
        move || drop(member.acquire().expect("the slot is open"))
    });
    let map = Arc::new(TunedMap::new(SHARDS));
    let tuned = p999_us(|thread| {
        let map = Arc::clone(&map);
        let mut leases = lease_numbers(usize::try_from(thread).unwrap_or(0));
        move || {
            let lease = leases.next().unwrap_or(thread);
            black_box(map.acquire(lease, thread));
            black_box(map.release(lease));
        }
    });
    report.at_most("latency/8t/p999_us", ours, 2.0);
    report.report("latency/8t/dashmap_tuned_p999_us", tuned);
}

/// Acquires a batch and releases it, or what the other thread acquired before.
fn handing<'a>(pair: &'a Arc<Pair<u64>>, name: &'static str, is_crossed: bool) -> Candidate<'a> {
    /// Leases in one exchange; few enough for one member to have two of them out.
    const HANDFUL: usize = 32;
    let exchange = Arc::new(Mutex::new(Vec::<Lease<u64>>::with_capacity(HANDFUL)));
    let worker = move |thread: usize| -> Worker<'a> {
        let (member, exchange) = (pair.join(thread as u64), Arc::clone(&exchange));
        let mut mine = Vec::with_capacity(HANDFUL);
        Box::new(move || {
            for _ in 0..BATCH / HANDFUL {
                let lease = || member.acquire_owned().expect("fewer leases than a member may hold");
                mine.extend(std::iter::repeat_with(lease).take(HANDFUL));
                if is_crossed {
                    let mut theirs = exchange.lock().expect("no panic while locked");
                    std::mem::swap(&mut mine, &mut theirs);
                }
                mine.clear();
            }
        })
    };
    Candidate { name, worker: Box::new(worker) }
}

/// Nanoseconds of one cycle on one worker.
fn time_tasks<F: FnMut() + Send + 'static>(
    runtime: &tokio::runtime::Runtime,
    cycle: impl Fn(u64) -> F,
) -> f64 {
    let cycles: Vec<_> = (0..TASKS).map(cycle).collect();
    let begin = Instant::now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for mut cycle in cycles {
            tasks.spawn(async move {
                for _ in 0..TURNS {
                    (0..CYCLES_PER_TURN).for_each(|_| cycle());
                    tokio::task::yield_now().await;
                }
            });
        }
        tasks.join_all().await;
    });
    let total = TASKS as f64 * f64::from(TURNS) * f64::from(CYCLES_PER_TURN);
    2.0 * begin.elapsed().as_secs_f64() * 1e9 / total
}

fn p999_us<F: FnMut() + Send>(cycle: impl Fn(u64) -> F) -> f64 {
    const CYCLES: u32 = 400_000;
    let all = Mutex::new(Histogram::<u64>::new(3).expect("three digits are allowed"));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (mut cycle, all) = (cycle(thread), &all);
            scope.spawn(move || {
                let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
                for _ in 0..CYCLES {
                    let begin = Instant::now();
                    cycle();
                    let time = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    times.record(time).expect("the histogram grows");
                }
                all.lock().expect("no panic while locked").add(&times).expect("both grow");
            });
        }
    });
    let all = all.into_inner().expect("no panic while locked");
    all.value_at_quantile(0.999) as f64 / 1e3
}
