//! Rotations of many pairs at once, beside the commits that their store can do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use keybaton::messages::{NodeId, PairId, Rev, TxnId};
use keybaton::{Node, NodeBuilder, PairView};
use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_ports::{NodeLife, Transaction};
use keybaton_rotation::PairRecord;
use tokio::task::JoinSet;

use crate::figure::Report;
use crate::race::median;
use crate::stage::{InstantVendor, PROVIDER, Scratch, policy, runtime};

/// Pairs that rotate at the same time.
const PAIRS: usize = 100;

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 5;

/// How long each side works in a round.
const SLICE: Duration = Duration::from_secs(3);

/// Rotations in a second, beside what the journal's commits allow.
pub(super) fn rotations(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("throughput/rotations") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (mut ratios, mut rates, mut each) = (Vec::new(), Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let node = Arc::new(start_pairs(Node::builder(scratch.path().join("node"))).await?);
        for round in 0..ROUNDS {
            let before = records(&node)?;
            let rate = rotations_per_second(&node).await?;
            let after = records(&node)?;
            let commits = commits_per_rotation(&before, &after);
            let beside = scratch.path().join(format!("beside-{round}"));
            let journal = commits_per_second(&beside, after).await?;
            ratios.push(rate * commits / journal);
            rates.push(rate);
            each.push(commits);
        }
        anyhow::Ok(())
    })?;
    report.at_least("throughput/rotations/allowed", median(ratios.into_iter()), 0.5);
    report.report("throughput/rotations_per_second", median(rates.into_iter()));
    report.report("throughput/commits_per_rotation", median(each.into_iter()));
    Ok(())
}

fn tenant(number: usize) -> String {
    format!("tenant-{number}")
}

/// Starts the node, whose pairs all have their first key then.
///
/// # Errors
/// When it does not start, or a pair gets no key.
pub(crate) async fn start_pairs(node: NodeBuilder) -> anyhow::Result<Node> {
    let node = node
        .provider(PROVIDER, Arc::new(InstantVendor::default()), policy())
        .without_status_socket()
        .start()
        .await?;
    let first_keys = (0..PAIRS).map(|number| {
        let node = &node;
        async move { node.provision(&tenant(number), PROVIDER).await }
    });
    futures::future::try_join_all(first_keys).await?;
    Ok(node)
}

fn pair(node: &Node, number: usize) -> anyhow::Result<PairId> {
    Ok(node.pair(&tenant(number), PROVIDER)?)
}

fn records(node: &Node) -> anyhow::Result<Vec<PairRecord>> {
    let record = |number| {
        let pair = pair(node, number)?;
        let view: PairView = node.watch(&pair).borrow().clone();
        let record = view.record.context("the pair was loaded")?;
        Ok(PairRecord::clone(&record))
    };
    (0..PAIRS).map(record).collect()
}

fn commits_per_rotation(before: &[PairRecord], after: &[PairRecord]) -> f64 {
    let over = |records: &[PairRecord], count: fn(&PairRecord) -> u64| -> u64 {
        records.iter().map(count).sum()
    };
    let grown = |count| (over(after, count) - over(before, count)) as f64;
    grown(|record| record.rev.0) / grown(|record| record.next_rotation)
}

/// Rotates all pairs for [`SLICE`], each again as soon as it can.
///
/// # Errors
/// When a rotation fails.
pub(crate) async fn rotations_per_second(node: &Arc<Node>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut pairs = JoinSet::new();
    for number in 0..PAIRS {
        let node = Arc::clone(node);
        pairs.spawn(async move {
            let mut rotations = 0u32;
            while begun.elapsed() < SLICE {
                let id = node.rotate(&tenant(number), PROVIDER, "bench").await?;
                node.finished(&id).await?;
                rotations += 1;
            }
            anyhow::Ok(rotations)
        });
    }
    let mut rotations = 0;
    while let Some(ended) = pairs.join_next().await {
        rotations += ended??;
    }
    Ok(f64::from(rotations) / begun.elapsed().as_secs_f64())
}

/// The journal alone: each pair's record is written again and again, one more revision each time.
async fn commits_per_second(dir: &Path, records: Vec<PairRecord>) -> anyhow::Result<f64> {
    let embedded = Embedded::open(dir, MasterKey::from_bytes([7; 32]), &Options::default())?;
    let life = embedded.journal.begin_life(&NodeId::new("beside")?).await?;
    let embedded = Arc::new(embedded);
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for record in records {
        let (embedded, life) = (Arc::clone(&embedded), life.clone());
        writers.spawn(async move { write_again(&embedded, &life, record, begun).await });
    }
    let mut commits = 0;
    while let Some(ended) = writers.join_next().await {
        commits += ended??;
    }
    Ok(f64::from(commits) / begun.elapsed().as_secs_f64())
}

async fn write_again(
    embedded: &Embedded,
    life: &NodeLife,
    mut record: PairRecord,
    begun: Instant,
) -> anyhow::Result<u32> {
    let mut expect = Default::default();
    record.rev = Rev(0);
    let mut commits = 0;
    while begun.elapsed() < SLICE {
        record.rev = record.rev.next();
        let transaction = Transaction {
            id: TxnId(embedded.entropy.bytes16()),
            by: life.clone(),
            expect,
            record: Arc::new(record.clone()),
            guards: Vec::new(),
            grants: None,
            audit: Vec::new(),
            outbox: Vec::new(),
            published: None,
        };
        embedded.journal.commit(transaction).await?;
        expect = (record.epoch, record.rev);
        commits += 1;
    }
    Ok(commits)
}
