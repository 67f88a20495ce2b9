//! Everybody at the same instant: how long the last one waits, and how that grows.
//!
//! The clock starts before the first step is let go, so that what the runtime needs to wake
//! thousands of tasks is in the figures.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::figure::Report;
use crate::race::median;
use crate::stage::{Bare, Crew, Play, Scratch, runtime};

/// Rounds of the cases that start a node for each, or that are large.
const FEW: u32 = 5;

/// How long a promotion's own commits take at most: the burst begins after them.
const SETTLE: Duration = Duration::from_millis(200);

/// One burst, in seconds.
struct Round {
    /// From the common end of the steps to the begin of the last next one.
    last: f64,
    /// From the common end of the steps to the notice that nobody holds the old version.
    overhead: f64,
    /// Bare redb, one commit of the same values.
    bare: f64,
}

/// All steps end at the same instant.
pub(super) fn burst(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("rotation/burst") {
        return Ok(());
    }
    let rounds = bursts(report.scale.tasks as usize, report.scale.rotations)?;
    let over = |measure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(measure));
    report.at_most("rotation/burst/last_pause", over(&|r| r.last / r.bare), 1.2);
    report.at_most("rotation/burst/overhead", over(&|r| r.overhead / r.bare), 1.2);
    report.report("rotation/burst/last_pause_ms", over(&|r| r.last * 1e3));
    report.report("rotation/burst/bare_ms", over(&|r| r.bare * 1e3));
    Ok(())
}

/// What the last pause costs each task, as the crowd grows.
pub(super) fn growth(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("rotation/growth") {
        return Ok(());
    }
    let rotations = report.scale.rotations.min(FEW);
    let mut per_task = Vec::new();
    for tasks in [1_000, 10_000, 100_000] {
        let rounds = bursts(tasks, rotations)?;
        per_task.push(median(rounds.iter().map(|r| r.last)) / tasks as f64);
    }
    report.report("rotation/growth/1k_per_task_us", per_task[0] * 1e6);
    report.report("rotation/growth/10k_per_task_over_1k", per_task[1] / per_task[0]);
    report.at_most("rotation/growth/100k_per_task_over_1k", per_task[2] / per_task[0], 1.5);
    Ok(())
}

/// All tasks rest when the version is promoted: nothing but the store keeps the old one alive.
pub(super) fn resting(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("rotation/resting") {
        return Ok(());
    }
    let tasks = report.scale.tasks as usize;
    let runtime = runtime()?;
    let mut overheads = Vec::new();
    for _ in 0..report.scale.rotations.min(FEW) {
        let scratch = Scratch::new()?;
        overheads.push(runtime.block_on(async {
            let crew = Crew::on(&scratch, tasks, Play::Rest).await?;
            crew.all_rest().await?;
            let mut bare = Bare::create(scratch.path())?;
            let value = vec![0x5a; crew.hand_over_bytes().await?];
            let (id, old) = crew.promote().await?;
            crew.finish(&id).await?;
            let drain = crew.drain(old).context("the old version was closed")?;
            ensure!(drain.holders_at_close == tasks as u64, "not every agent held the old version");
            let took = drain.latency.context("the old version has drained")?;
            crew.end().await?;
            Ok(took.as_secs_f64() / bare.commit(tasks, &value)?.as_secs_f64())
        })?);
    }
    let overhead = median(overheads.into_iter());
    report.at_most("rotation/resting/overhead", overhead, 1.2);
    Ok(())
}

fn bursts(tasks: usize, rotations: u32) -> anyhow::Result<Vec<Round>> {
    let scratch = Scratch::new()?;
    runtime()?.block_on(async {
        let crew = Crew::on(&scratch, tasks, Play::OnCue).await?;
        let mut bare = Bare::create(scratch.path())?;
        let value = vec![0x5a; crew.hand_over_bytes().await?];
        let mut rounds = Vec::new();
        for _ in 0..rotations {
            rounds.push(round(&crew, &mut bare, &value).await?);
        }
        crew.end().await?;
        Ok(rounds)
    })
}

async fn round(crew: &Crew, bare: &mut Bare, value: &[u8]) -> anyhow::Result<Round> {
    let (id, old) = crew.promote().await?;
    let closed = Instant::now();
    // The closing itself was at most one look ago, which makes the drain look that much longer.
    let bare = bare.commit(crew.agents, value)?;
    tokio::time::sleep(SETTLE).await;
    crew.cues.expect(crew.agents);
    let begun = Instant::now();
    crew.cues.cue_all();
    let last = crew.all_began().await?;
    crew.finish(&id).await?;
    let drain = crew.drain(old).context("the old version was closed")?;
    ensure!(
        drain.holders_at_close == crew.agents as u64,
        "{} of {} agents held the old version",
        drain.holders_at_close,
        crew.agents
    );
    let latency = drain.latency.context("the old version has drained")?;
    let drained = closed + latency;
    Ok(Round {
        last: (last - begun).as_secs_f64(),
        overhead: drained.saturating_duration_since(begun).as_secs_f64(),
        bare: bare.as_secs_f64(),
    })
}
