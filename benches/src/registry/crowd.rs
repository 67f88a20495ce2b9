//! 100 000 holders on one pair: churn beside them, a scan over them, a drain of them.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use keybaton_registry::{LeaseRef, Member, Pair};

use super::baselines::{TunedMap, VERSION, dashmap_tuned, open_pair, own_line, registry};
use super::hot::SHARDS;
use crate::figure::Report;
use crate::race::{Candidate, ROUNDS, median, race, slice};

const HOLDERS: usize = 100_000;

/// Eight threads acquire and release beside leases that stay.
pub(super) fn resident_churn(report: &mut Report) {
    if !report.wants("resident_churn/8t") {
        return;
    }
    let pair = open_pair();
    let members = members(&pair);
    let leases = leases(&members);
    let map = Arc::new(TunedMap::new(SHARDS));
    (0..HOLDERS as u64).for_each(|lease| assert!(map.acquire(lease, lease), "the map is open"));
    let results = race(8, &[registry(&pair), own_line(), dashmap_tuned(&map)]);
    let faster = results.ratio("dashmap_tuned", "registry");
    report.at_least("resident_churn/8t/dashmap_tuned", faster, 10.0);
    report.report("resident_churn/8t/own_line", results.ratio("registry", "own_line"));
    for candidate in results.names() {
        let name = format!("resident_churn/8t/{candidate}_core_ns");
        report.report(name, results.core_ns(candidate));
    }
    assert_eq!(pair.count(VERSION), HOLDERS as u64);
    drop(leases);
}

/// Two threads churn while a third one lists the holders again and again. By the clock: the
/// third one also takes its share of two cores.
pub(super) fn holders_scan(report: &mut Report) {
    if !report.wants("holders_scan/100k") {
        return;
    }
    let pair = open_pair();
    let members = members(&pair);
    let leases = leases(&members);
    let candidate = registry(&pair);
    let mut scans = 0_u32;
    let slowdowns: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let before = slice(2, &candidate).wall_ns;
            let during = while_scanning(&pair, &candidate, &mut scans);
            during / before
        })
        .collect();
    report.at_most("holders_scan/100k/slowdown", median(slowdowns.into_iter()), 2.0);
    report.report("holders_scan/100k/scans_per_slice", f64::from(scans) / ROUNDS as f64);
    drop(leases);
}

/// 100 000 holders leave on two threads: from the begin of the closing to the notice, beside the
/// same releases without a closing.
pub(super) fn drain(report: &mut Report) {
    if !report.wants("drain/100k") {
        return;
    }
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        bare.push(release_all(false));
        ours.push(release_all(true));
    }
    let ratios = |times: &[Duration], base: &[Duration]| {
        let pairs = times.iter().zip(base);
        median(pairs.map(|(time, base)| time.as_secs_f64() / base.as_secs_f64()))
    };
    report.at_most("drain/100k/bare_release", ratios(&ours, &bare), 2.0);
    let milliseconds = |times: &[Duration]| median(times.iter().map(|t| t.as_secs_f64() * 1e3));
    report.report("drain/100k/registry_ms", milliseconds(&ours));
    report.report("drain/100k/bare_release_ms", milliseconds(&bare));
}

fn members(pair: &Arc<Pair<u64>>) -> Vec<Member<u64>> {
    (0..HOLDERS as u64).map(|task| pair.join(task)).collect()
}

fn leases<'a>(members: &'a [Member<u64>]) -> Vec<LeaseRef<'a, u64>> {
    members.iter().map(|member| member.acquire().expect("the slot is open")).collect()
}

fn while_scanning(pair: &Pair<u64>, candidate: &Candidate<'_>, scans: &mut u32) -> f64 {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scanner = scope.spawn(|| {
            let mut scans = 0;
            while !is_over.load(Ordering::Relaxed) {
                let holders = black_box(pair.holders(VERSION));
                assert!(holders.len() >= HOLDERS, "nobody was missed");
                scans += 1;
            }
            scans
        });
        let during = slice(2, candidate).wall_ns;
        is_over.store(true, Ordering::Relaxed);
        *scans += scanner.join().expect("the scanner ends well");
        during
    })
}

/// Time until all leases are released and, if `closing`, the notice has run.
fn release_all(closing: bool) -> Duration {
    let pair = open_pair();
    let members = members(&pair);
    let (left, right) = members.split_at(HOLDERS / 2);
    let (left, right) = (leases(left), leases(right));
    let told = Arc::new(AtomicU32::new(0));
    let tell = Arc::clone(&told);
    let time = on_two_threads(
        || {
            if closing {
                pair.close(VERSION, move || {
                    tell.fetch_add(1, Ordering::Release);
                });
            }
            drop(left);
        },
        || drop(right),
    );
    assert_eq!(told.load(Ordering::Acquire), u32::from(closing), "exactly one notice");
    time
}

/// The last release is also the notice, so the time ends when both have ended.
fn on_two_threads(first: impl FnOnce() + Send, second: impl FnOnce() + Send) -> Duration {
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            first();
            end.wait();
        });
        scope.spawn(|| {
            start.wait();
            second();
            end.wait();
        });
        start.wait();
        let begin = Instant::now();
        end.wait();
        begin.elapsed()
    })
}
