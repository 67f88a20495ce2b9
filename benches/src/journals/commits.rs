//! Writing pairs again and again, each commit one revision more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keybaton_messages::{
    DeploymentId, Epoch, Fingerprint, Label, NodeId, PairId, PairTag, Rev, SecretVersion, TxnId,
    Version, VersionStatus, wire,
};
use keybaton_ports::{Journal, NodeLife, Transaction};
use keybaton_rotation::{Class, Gate, Owner, PairRecord, VersionEntry};
use tokio::task::JoinSet;

/// How long each side works in a round.
pub(super) const SLICE: Duration = Duration::from_secs(2);

/// Commits in a second from so many writers, each with a pair of its own.
pub(super) async fn per_second(
    journal: &Arc<dyn Journal>,
    round: usize,
    writers: usize,
) -> anyhow::Result<f64> {
    let life = journal.begin_life(&NodeId::new("bench")?).await?;
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for writer in 0..writers {
        let number = u64::try_from((round * 2 + usize::from(writers > 1)) * 1000 + writer)?;
        let record = record(number, &life)?;
        let (journal, life) = (Arc::clone(journal), life.clone());
        all.spawn(async move { write_again(&*journal, &life, record, number, begun).await });
    }
    let mut commits = 0;
    while let Some(ended) = all.join_next().await {
        commits += ended??;
    }
    Ok(f64::from(commits) / begun.elapsed().as_secs_f64())
}

/// Bytes of what one of these commits writes, without any store around it.
pub(super) fn record_bytes() -> anyhow::Result<usize> {
    let life = NodeLife { node: NodeId::new("bench")?, incarnation: Default::default() };
    Ok(wire::encoded_bytes(&record(0, &life)?)?)
}

/// A pair with one key, as it stands between two rotations.
fn record(number: u64, life: &NodeLife) -> anyhow::Result<PairRecord> {
    let pair = PairId::new(format!("tenant-{number}").parse()?, "openai".parse()?);
    let (deployment, tag) = (DeploymentId::from_digest(&[7; 16]), PairTag::from_digest(&[9; 16]));
    let owner = Owner { node: life.node.clone(), incarnation: life.incarnation };
    let mut record = PairRecord::new(pair, deployment, tag, Class::A, owner);
    let mut fp = [0; 32];
    fp[..8].copy_from_slice(&number.to_be_bytes());
    let entry = VersionEntry {
        status: VersionStatus::Active,
        label: None::<Label>,
        key_id: Some(format!("key_{number}").parse()?),
        secret: Some(SecretVersion(1)),
        fp: Some(Fingerprint(fp)),
        issued_at: None,
        expires_at: None,
        promoted_at: None,
        imported: false,
    };
    record.versions.insert(Version(1), entry);
    record.active = Some(Version(1));
    record.gate = Gate::Open;
    record.next_version = Version(2);
    record.epoch = Epoch(1);
    Ok(record)
}

async fn write_again(
    journal: &dyn Journal,
    life: &NodeLife,
    mut record: PairRecord,
    number: u64,
    begun: Instant,
) -> anyhow::Result<u32> {
    let mut expect = Default::default();
    let mut commits = 0;
    while begun.elapsed() < SLICE {
        record.rev = record.rev.next();
        let transaction = Transaction {
            id: transaction_id(number, record.rev),
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

fn transaction_id(number: u64, Rev(rev): Rev) -> TxnId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..].copy_from_slice(&rev.to_be_bytes());
    TxnId(id)
}
