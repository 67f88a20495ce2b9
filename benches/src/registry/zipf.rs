//! Many pairs, few of them hot: 10 000, drawn by Zipf's law with exponent 1.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keybaton_registry::{Member, Pair, Registry};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::Zipf;

use super::baselines::{TunedMap, VERSION, lease_numbers};
use super::hot::SHARDS;
use crate::figure::Report;
use crate::race::{BATCH, Candidate, Worker, race};

const PAIRS: usize = 10_000;
const _: () = assert!(PAIRS <= u16::MAX as usize);

/// Draws of one thread, run through again and again. Enough to leave the first caches.
const DRAWS: usize = 1 << 16;

/// A counter that is packed as tightly as a line allows: the baseline has the smallest footprint.
#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// Two threads, with handles resolved and with a look-up each time.
pub(super) fn zipf_oneshot(report: &mut Report) {
    if !report.wants("zipf_oneshot/2t") {
        return;
    }
    let registry = Arc::new(Registry::<u64, u64>::new());
    let pairs: Vec<_> = (0..PAIRS as u64).map(|key| registry.pair(&key)).collect();
    for pair in &pairs {
        pair.publish(VERSION).expect("a new pair has room");
    }
    let maps: Arc<[TunedMap]> = (0..PAIRS).map(|_| TunedMap::new(SHARDS)).collect();
    let candidates = [by_handle(&pairs), by_key(&pairs), own_lines(), tuned(&maps)]
        .map(|(name, worker)| Candidate { name, worker });
    let results = race(2, &candidates);
    let to_own = |name| results.ratio(name, "own_line");
    report.at_most("zipf_oneshot/handle/2t/own_line", to_own("handle"), 2.5);
    let faster = |name| results.ratio("dashmap_tuned", name);
    report.at_least("zipf_oneshot/handle/2t/dashmap_tuned", faster("handle"), 6.0);
    report.report("zipf_oneshot/keyed/2t/own_line", to_own("keyed"));
    report.report("zipf_oneshot/keyed/2t/dashmap_tuned", faster("keyed"));
    for candidate in results.names() {
        let name = format!("zipf_oneshot/2t/{candidate}_core_ns");
        report.report(name, results.core_ns(candidate));
    }
}

type Named = (&'static str, Box<dyn Fn(usize) -> Worker<'static>>);

fn by_handle(pairs: &[Arc<Pair<u64>>]) -> Named {
    // Joined once for each thread, as a task does when it is spawned.
    let handles: Vec<Arc<[Member<u64>]>> =
        (0..2).map(|task| pairs.iter().map(|pair| pair.join(task)).collect()).collect();
    (
        "handle",
        Box::new(move |thread| {
            let (members, mut draws) = (Arc::clone(&handles[thread]), draws(thread));
            Box::new(move || {
                for pair in draws.by_ref().take(BATCH) {
                    drop(black_box(members[pair].acquire().expect("the slot is open")));
                }
            })
        }),
    )
}

fn by_key(pairs: &[Arc<Pair<u64>>]) -> Named {
    let members = pairs.iter().map(|pair| [pair.join(0), pair.join(1)]);
    let members: dashmap::DashMap<u64, [Member<u64>; 2]> = (0..).zip(members).collect();
    let members = Arc::new(members);
    (
        "keyed",
        Box::new(move |thread| {
            let (members, mut draws) = (Arc::clone(&members), draws(thread));
            Box::new(move || {
                for pair in draws.by_ref().take(BATCH) {
                    let found = members.get(&(pair as u64)).expect("every pair is there");
                    drop(black_box(found[thread].acquire().expect("the slot is open")));
                }
            })
        }),
    )
}

fn own_lines() -> Named {
    (
        "own_line",
        Box::new(|thread| {
            let lines: Box<[Line]> = (0..PAIRS).map(|_| Line::default()).collect();
            let mut draws = draws(thread);
            Box::new(move || {
                for pair in draws.by_ref().take(BATCH) {
                    black_box(lines[pair].0.fetch_add(1, Ordering::Acquire));
                    black_box(lines[pair].0.fetch_sub(1, Ordering::Release));
                }
            })
        }),
    )
}

fn tuned(maps: &Arc<[TunedMap]>) -> Named {
    let maps = Arc::clone(maps);
    (
        "dashmap_tuned",
        Box::new(move |thread| {
            let (maps, mut draws) = (Arc::clone(&maps), draws(thread));
            let mut leases = lease_numbers(thread);
            Box::new(move || {
                for (pair, lease) in draws.by_ref().zip(leases.by_ref()).take(BATCH) {
                    black_box(maps[pair].acquire(lease, thread as u64));
                    black_box(maps[pair].release(lease));
                }
            })
        }),
    )
}

/// The pairs that a thread calls on, for ever. The same for each candidate.
fn draws(thread: usize) -> impl Iterator<Item = usize> + Send {
    let zipf = Zipf::new(PAIRS as f64, 1.0).expect("both arguments are positive");
    let mut random = StdRng::seed_from_u64(thread as u64);
    #[expect(clippy::cast_possible_truncation, reason = "a rank is at most the number of pairs")]
    let mut draw = || random.sample(zipf) as u16 - 1;
    // Narrow, so that the draws take less of the caches than what is measured.
    let draws: Vec<u16> = (0..DRAWS).map(|_| draw()).collect();
    let mut next = 0;
    std::iter::from_fn(move || {
        next = (next + 1) % DRAWS;
        draws.get(next).map(|pair| usize::from(*pair))
    })
}
