//! Durable results of steps that take no time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

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
    let (mut ours, mut rows): (Vec<Rate>, Vec<Rate>) = (Vec::new(), Vec::new());
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
    let ratios = ours.iter().zip(&rows).map(|(ours, rows)| ours.per_second / rows.per_second);
    report.at_least("throughput/steps/bare_batched", median(ratios), 0.4);
    for (name, rates) in [("step", ours), ("bare_row", rows)] {
        let rate = |of: fn(&Rate) -> f64| median(rates.iter().map(of));
        report.report(format!("throughput/{name}s_per_second"), rate(|r| r.per_second));
        report.report(format!("throughput/{name}_core_us"), rate(|r| r.core_us));
    }
    Ok(())
}

/// How fast one side was in one slice, and how much of a core each piece of work took.
struct Rate {
    per_second: f64,
    core_us: f64,
}

/// When a slice began, on the wall and on the cores.
struct Begun(Instant, f64);

impl Begun {
    fn now() -> Self {
        Self(Instant::now(), core_us())
    }

    fn rate(&self, done: f64) -> Rate {
        let core_us = (core_us() - self.1) / done;
        Rate { per_second: done / self.0.elapsed().as_secs_f64(), core_us }
    }
}

fn core_us() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Every step that begins stands for one whose result is durable.
async fn steps_per_second(crew: &Crew) -> anyhow::Result<Rate> {
    crew.cues.set_play(Play::AtOnce);
    crew.cues.cue_all();
    let (begun, before) = (Begun::now(), crew.cues.entered());
    tokio::time::sleep(SLICE).await;
    let rate = begun.rate((crew.cues.entered() - before) as f64);
    crew.cues.set_play(Play::OnCue);
    crew.settle().await?;
    Ok(rate)
}

fn rows_per_second(bare: &mut Bare, batch: usize, value: &[u8]) -> anyhow::Result<Rate> {
    let begun = Begun::now();
    let mut rows = 0;
    while begun.0.elapsed() < SLICE {
        bare.commit(batch, value)?;
        rows += batch;
    }
    Ok(begun.rate(rows as f64))
}
