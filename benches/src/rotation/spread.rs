//! Boundaries that are reached one by one: what a hand-over adds to a boundary.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};

use crate::figure::Report;
use crate::race::median;
use crate::stage::{Bare, Crew, Cues, Play, Scratch, runtime, step_bytes};

/// Boundaries in a second.
const PER_SECOND: u32 = 1000;

/// Ordinary boundaries before each rotation: three in a thousand lie above the 99.9th percentile.
const ORDINARY: usize = 3000;

/// Lone commits of bare redb beside each rotation, of either value: two are above the 99th
/// percentile.
const COMMITS: usize = 200;

/// One rotation, microseconds.
struct Round {
    ordinary: Histogram<u64>,
    hand_over: Histogram<u64>,
    /// Lone commits of bare redb, of what an ordinary boundary writes.
    bare_ordinary: Histogram<u64>,
    /// The same of what a hand-over writes.
    bare_hand_over: Histogram<u64>,
}

/// A boundary with a hand-over beside an ordinary one, and the pause in bare commits.
pub(super) fn spread(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("rotation/spread") {
        return Ok(());
    }
    let (tasks, rotations) = (report.scale.tasks as usize, report.scale.rotations);
    let scratch = Scratch::new()?;
    let rounds: Vec<Round> = runtime()?.block_on(async {
        let crew = Crew::on(&scratch, tasks, Play::OnCue).await?;
        let mut bare = Bare::create(scratch.path())?;
        let values = Values {
            hand_over: vec![0x5a; crew.hand_over_bytes().await?],
            ordinary: vec![0x5a; step_bytes()?],
        };
        let mut rounds = Vec::new();
        for number in 0..rotations {
            rounds.push(round(&crew, &mut bare, &values, u64::from(number)).await?);
        }
        crew.end().await?;
        anyhow::Ok(rounds)
    })?;
    let over = |measure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(measure));
    let boundary =
        |quantile: f64| over(&|r| at(&r.hand_over, quantile) / at(&r.ordinary, quantile));
    let commit_us = |round: &Round| at(&round.bare_hand_over, 0.5);
    let pause = |quantile: f64| over(&|r| at(&r.hand_over, quantile) / commit_us(r));
    report.at_most("rotation/spread/boundary_p50", boundary(0.5), 1.2);
    report.at_most("rotation/spread/boundary_p99", boundary(0.99), 1.5);
    report.at_most("rotation/spread/pause_p50_commits", pause(0.5), 1.5);
    report.at_most("rotation/spread/pause_p99_commits", pause(0.99), 3.5);
    // What of the figures above is the disk's: the length of the value, and its own worst.
    let longer =
        |quantile: f64| over(&|r| at(&r.bare_hand_over, quantile) / at(&r.bare_ordinary, quantile));
    report.report("rotation/spread/bare_boundary_p50", longer(0.5));
    report.report("rotation/spread/bare_boundary_p99", longer(0.99));
    let worst = over(&|r| at(&r.bare_hand_over, 0.99) / commit_us(r));
    report.report("rotation/spread/bare_p99_commits", worst);
    report.report("rotation/spread/bare_commit_us", over(&commit_us));
    report.report("rotation/spread/pause_p50_us", over(&|r| at(&r.hand_over, 0.5)));
    report.report("rotation/spread/pause_p99_us", over(&|r| at(&r.hand_over, 0.99)));
    Ok(())
}

/// As long as what the two kinds of boundaries write.
struct Values {
    hand_over: Vec<u8>,
    ordinary: Vec<u8>,
}

async fn round(crew: &Crew, bare: &mut Bare, values: &Values, seed: u64) -> anyhow::Result<Round> {
    let mut order: Vec<usize> = (0..crew.agents).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let stats = &crew.node.shared().stats;
    let bare_ordinary = bare.lone(COMMITS, &values.ordinary)?;
    let bare_hand_over = bare.lone(COMMITS, &values.hand_over)?;
    drop(stats.take());
    let some = order.iter().copied().cycle().take(ORDINARY).collect();
    end_steps(crew, some).await?;
    let (ordinary, none) = stats.take();
    ensure!(
        (ordinary.len(), none.len()) == (ORDINARY as u64, 0),
        "{} of {ORDINARY} boundaries were ordinary",
        ordinary.len()
    );
    let (id, _) = crew.promote().await?;
    end_steps(crew, order).await?;
    crew.finish(&id).await?;
    let (_, hand_over) = stats.take();
    ensure!(
        hand_over.len() == crew.agents as u64,
        "{} of {} agents handed over",
        hand_over.len(),
        crew.agents
    );
    Ok(Round { ordinary, hand_over, bare_ordinary, bare_hand_over })
}

/// Lets these agents end their steps, one after the other, and waits until all began the next.
async fn end_steps(crew: &Crew, agents: Vec<usize>) -> anyhow::Result<()> {
    crew.cues.expect(agents.len());
    let cues = Arc::clone(&crew.cues);
    let pacer = tokio::task::spawn_blocking(move || pace(&cues, &agents));
    pacer.await?;
    crew.all_began().await?;
    Ok(())
}

fn pace(cues: &Cues, agents: &[usize]) {
    let gap = Duration::from_secs(1) / PER_SECOND;
    let mut due = Instant::now();
    for agent in agents {
        due += gap;
        let now = Instant::now();
        // What a busy machine delayed is not caught up with: that would be a burst.
        due = due.max(now.checked_sub(gap).unwrap_or(now));
        thread::sleep(due.saturating_duration_since(now));
        cues.cue(*agent);
    }
}

fn at(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64
}
