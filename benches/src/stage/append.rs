//! A task journal alone: tasks whose steps end at once, each result durable before the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keybaton_messages::{TaskKey, Timestamp, Version};
use keybaton_ports::{Entry, TaskJournal, TaskSpec, TaskWrite};
use tokio::task::JoinSet;

use super::crew::outcome;
use super::{PROVIDER, TENANT};

/// Results in a second, by one writer for each of the tasks `first` and up. The journal must not have
/// them yet.
///
/// # Errors
/// When the journal refuses.
pub async fn appends_per_second(
    journal: &Arc<dyn TaskJournal>,
    first: usize,
    tasks: usize,
    slice: Duration,
) -> anyhow::Result<f64> {
    let made = (first..first + tasks).map(|number| make(&**journal, number));
    let writes = futures::future::try_join_all(made).await?;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for write in writes {
        writers.spawn(go_on(Arc::clone(journal), write, begun + slice));
    }
    let mut results = 0;
    while let Some(ended) = writers.join_next().await {
        results += ended??;
    }
    Ok(f64::from(results) / begun.elapsed().as_secs_f64())
}

/// The first write of a new task.
async fn make(journal: &dyn TaskJournal, number: usize) -> anyhow::Result<TaskWrite> {
    let key = TaskKey { tenant: TENANT.parse()?, task: format!("task-{number}").parse()? };
    let spec = TaskSpec {
        kind: "bench".into(),
        provider: PROVIDER.parse()?,
        input: Vec::new(),
        spawned_at: Timestamp(0),
    };
    journal.create(&key, &spec).await?;
    let row = journal.claim(&key).await?.row;
    let entry = Entry::Result {
        n: 0,
        idem: [0xff; 16],
        version: Some(Version(1)),
        outcome: outcome()?,
        checkpoint: None,
        at: Timestamp(u64::MAX >> 20),
    };
    Ok(TaskWrite { key, epoch: row.epoch, expect: row.rev, entry })
}

async fn go_on(
    journal: Arc<dyn TaskJournal>,
    mut write: TaskWrite,
    until: Instant,
) -> anyhow::Result<u32> {
    let mut results = 0;
    while Instant::now() < until {
        journal.append(&write).await?;
        write.expect += 1;
        if let Entry::Result { n, .. } = &mut write.entry {
            *n += 1;
        }
        results += 1;
    }
    Ok(results)
}
