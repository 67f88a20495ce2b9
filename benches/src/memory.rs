//! What an idle task weighs, beside an actor that does nothing: resident memory of fresh processes.
//!
//! The store's page cache belongs to the store, so it is filled before the tasks are counted.

use std::hint::black_box;
use std::io::Write;

use anyhow::Context;
use keybaton::messages::{TaskId, TaskKey, TenantId, Timestamp};
use keybaton_adapters::limits::PAGE_CACHE_BYTES_MAX;
use keybaton_ports::TaskSpec;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::figure::Report;
use crate::race::median;
use crate::registry;
use crate::registry::memory::{PAGES_GO_BACK, ask, resident};
use crate::stage::{Crew, PROVIDER, Play, Scratch, TENANT, runtime};

/// Counted, of each.
const MANY: usize = 20_000;

/// Spawned before those before them rest: what a first step takes for a moment is used again by the
/// next ones, and is not counted as if every idle task kept it. As many are there when counting
/// begins.
const AT_ONCE: usize = 1000;

/// Processes of which the median counts.
const PROCESSES: usize = 5;

/// What an agent of this bench knows; its own data is not what is weighed.
const STATE_BYTES: usize = 0;

/// An idle task beside a bare actor.
///
/// # Errors
/// When the program cannot start itself, or a process that it started fails.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("memory/idle_task") {
        return Ok(());
    }
    let (task, actor) = (weighed("idle_task")?, weighed("bare_actor")?);
    report.at_most("memory/idle_task/bare_actor", task / actor, 1.2);
    report.report("memory/idle_task_bytes", task);
    report.report("memory/bare_actor_bytes", actor);
    Ok(())
}

/// The median of some processes: how an allocator's holes lie differs by some percent.
fn weighed(what: &str) -> anyhow::Result<f64> {
    let weights: Vec<_> = std::iter::repeat_with(|| ask(what, PAGES_GO_BACK))
        .take(PROCESSES)
        .collect::<Result<_, _>>()?;
    Ok(median(weights.into_iter()))
}

/// Builds what is asked for and writes how many bytes one of it takes.
///
/// # Errors
/// When there is no such thing, or it cannot be built.
pub fn weigh(what: &str, mut out: impl Write) -> anyhow::Result<()> {
    let bytes = match what {
        "idle_task" => runtime()?.block_on(idle_task())?,
        "bare_actor" => runtime()?.block_on(bare_actor())?,
        _ => return registry::memory::weigh(what, out),
    };
    writeln!(out, "{bytes}")?;
    Ok(())
}

async fn idle_task() -> anyhow::Result<f64> {
    let scratch = Scratch::new()?;
    let mut crew =
        Crew::start(scratch.path(), 1, MANY + AT_ONCE + 1, STATE_BYTES, Play::Rest).await?;
    fill_page_cache(&crew).await?;
    crew.add(AT_ONCE, STATE_BYTES).await?;
    crew.all_rest().await?;
    let before = resident()?;
    for _ in 0..MANY / AT_ONCE {
        crew.add(AT_ONCE, STATE_BYTES).await?;
        crew.all_rest().await?;
    }
    let bytes = (resident()? - before) / MANY as f64;
    crew.end().await?;
    Ok(bytes)
}

/// Writes tasks that nobody works on, twice as much as the cache holds.
async fn fill_page_cache(crew: &Crew) -> anyhow::Result<()> {
    const INPUT_BYTES: usize = 256 * 1024;
    for number in 0..2 * PAGE_CACHE_BYTES_MAX / INPUT_BYTES {
        let key = TaskKey {
            tenant: TenantId::new(TENANT)?,
            task: TaskId::new(&format!("ballast-{number}"))?,
        };
        let spec = TaskSpec {
            kind: "ballast".to_owned(),
            provider: PROVIDER.parse()?,
            input: vec![0x5a; INPUT_BYTES],
            spawned_at: Timestamp(0),
        };
        crew.node.shared().ports.tasks.create(&key, &spec).await?;
    }
    Ok(())
}

struct Idler;

enum Nothing {}

impl ractor::Message for Nothing {}

impl Actor for Idler {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn bare_actor() -> anyhow::Result<f64> {
    let (first, _) = Actor::spawn(None, Idler, ()).await?;
    let mut actors = Vec::with_capacity(MANY);
    actors.resize_with(MANY, || None);
    let before = resident()?;
    for slot in &mut actors {
        let (actor, _) = Actor::spawn(None, Idler, ()).await.context("spawning a bare actor")?;
        *slot = Some(actor);
    }
    let bytes = (resident()? - before) / MANY as f64;
    drop(black_box((first, actors)));
    Ok(bytes)
}
