//! Durable results of steps that take no time.

use std::time::{Duration, Instant};

use crate::figure::Report;
use crate::race::median;
use crate::stage::{Bare, Crew, Play, Scratch, runtime, step_bytes};

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 5;

/// How long each side works in a round.
const SLICE: Duration = Duration::from_secs(2);

/// Results of all tasks in a second, beside rows of bare redb.
pub(super) fn steps(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("throughput/steps") {
        return Ok(());
    }
    let tasks = report.scale.tasks as usize;
    let scratch = Scratch::new()?;
    let (mut ours, mut rows) = (Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let crew = Crew::on(&scratch, tasks, Play::OnCue).await?;
        let mut bare = Bare::create(scratch.path())?;
        let value = vec![0x5a; step_bytes()?];
        for _ in 0..ROUNDS {
            ours.push(steps_per_second(&crew).await?);
            rows.push(rows_per_second(&mut bare, tasks, &value)?);
        }
        crew.end().await
    })?;
    let ratios = ours.iter().zip(&rows).map(|(ours, rows)| ours / rows);
    report.at_least("throughput/steps/bare_batched", median(ratios), 0.4);
    report.report("throughput/steps_per_second", median(ours.into_iter()));
    report.report("throughput/bare_rows_per_second", median(rows.into_iter()));
    Ok(())
}

/// Every step that begins stands for one whose result is durable.
async fn steps_per_second(crew: &Crew) -> anyhow::Result<f64> {
    crew.cues.set_play(Play::AtOnce);
    crew.cues.cue_all();
    let (begun, before) = (Instant::now(), crew.cues.entered());
    tokio::time::sleep(SLICE).await;
    let (took, done) = (begun.elapsed(), crew.cues.entered() - before);
    crew.cues.set_play(Play::OnCue);
    crew.settle().await?;
    Ok(done as f64 / took.as_secs_f64())
}

fn rows_per_second(bare: &mut Bare, batch: usize, value: &[u8]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut rows = 0;
    while begun.elapsed() < SLICE {
        bare.commit(batch, value)?;
        rows += batch;
    }
    Ok(rows as f64 / begun.elapsed().as_secs_f64())
}
