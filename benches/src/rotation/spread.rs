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
use crate::stage::{Bare, Crew, Cues, Play, Scratch, runtime};

/// Boundaries in a second.
const PER_SECOND: u32 = 1000;

/// Ordinary boundaries before each rotation: three in a thousand lie above the 99.9th percentile.
const ORDINARY: usize = 3000;

/// Lone commits of bare redb beside each rotation.
const COMMITS: usize = 200;

/// One rotation, microseconds.
struct Round {
    ordinary: Histogram<u64>,
    hand_over: Histogram<u64>,
    commit_us: f64,
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
        let value = vec![0x5a; crew.hand_over_bytes().await?];
        let mut rounds = Vec::new();
        for number in 0..rotations {
            rounds.push(round(&crew, &mut bare, &value, u64::from(number)).await?);
        }
        crew.end().await?;
        anyhow::Ok(rounds)
    })?;
    let over = |measure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(measure));
    let boundary =
        |quantile: f64| over(&|r| at(&r.hand_over, quantile) / at(&r.ordinary, quantile));
    let pause = |quantile: f64| over(&|r| at(&r.hand_over, quantile) / r.commit_us);
    report.at_most("rotation/spread/boundary_p50", boundary(0.5), 1.2);
    report.at_most("rotation/spread/boundary_p99", boundary(0.99), 1.5);
    report.at_most("rotation/spread/pause_p50_commits", pause(0.5), 1.5);
    report.at_most("rotation/spread/pause_p99_commits", pause(0.99), 3.5);
    report.report("rotation/spread/bare_commit_us", over(&|r| r.commit_us));
    report.report("rotation/spread/pause_p50_us", over(&|r| at(&r.hand_over, 0.5)));
    report.report("rotation/spread/pause_p99_us", over(&|r| at(&r.hand_over, 0.99)));
    Ok(())
}

async fn round(crew: &Crew, bare: &mut Bare, value: &[u8], seed: u64) -> anyhow::Result<Round> {
    let mut order: Vec<usize> = (0..crew.agents).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    let stats = &crew.node.shared().stats;
    let commit_us = bare.lone_us(COMMITS, value)?;
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
    Ok(Round { ordinary, hand_over, commit_us })
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
