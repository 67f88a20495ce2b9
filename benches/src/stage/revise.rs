//! A journal alone: pairs that are written again and again, each commit one revision more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keybaton_messages::{NodeId, Rev, TxnId};
use keybaton_ports::{Journal, NodeLife, Transaction};
use keybaton_rotation::PairRecord;
use tokio::task::JoinSet;

/// Commits in a second, by one writer for each record, and of each at least one. The journal must not
/// have their pairs yet.
///
/// # Errors
/// When the journal refuses.
pub async fn commits_per_second(
    journal: &Arc<dyn Journal>,
    records: Vec<PairRecord>,
    slice: Duration,
) -> anyhow::Result<f64> {
    let life = journal.begin_life(&NodeId::new("bench")?).await?;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for record in records {
        let (journal, life) = (Arc::clone(journal), life.clone());
        writers.spawn(async move { revise(&*journal, &life, record, begun + slice).await });
    }
    let mut commits = 0;
    while let Some(ended) = writers.join_next().await {
        commits += ended??;
    }
    Ok(f64::from(commits) / begun.elapsed().as_secs_f64())
}

async fn revise(
    journal: &dyn Journal,
    life: &NodeLife,
    mut record: PairRecord,
    until: Instant,
) -> anyhow::Result<u32> {
    let mut expect = Default::default();
    record.rev = Rev(0);
    let mut commits = 0;
    while commits == 0 || Instant::now() < until {
        record.rev = record.rev.next();
        let mut id = [0; 16];
        id[8..].copy_from_slice(&record.rev.0.to_be_bytes());
        let transaction = Transaction {
            id: TxnId(id),
            by: life.clone(),
            expect,
            record: Arc::new(record.clone()),
            guards: Vec::new(),
            grants: None,
            audit: Vec::new(),
            outbox: Vec::new(),
            published: None,
        };
        journal.commit(transaction).await?;
        expect = (record.epoch, record.rev);
        commits += 1;
    }
    Ok(commits)
}
