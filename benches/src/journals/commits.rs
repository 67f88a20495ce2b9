//! The pairs that are written again and again.

use std::sync::Arc;
use std::time::Duration;

use keybaton_messages::{
    DeploymentId, Epoch, Fingerprint, Label, NodeId, PairId, PairTag, SecretVersion, Version,
    VersionStatus, wire,
};
use keybaton_ports::Journal;
use keybaton_rotation::{Class, Gate, Owner, PairRecord, VersionEntry};

use crate::stage::commits_per_second;

/// How long each side works in a round.
pub(super) const SLICE: Duration = Duration::from_secs(2);

/// Commits in a second from so many writers, each with a pair of its own.
pub(super) async fn per_second(
    journal: &Arc<dyn Journal>,
    round: usize,
    writers: usize,
) -> anyhow::Result<f64> {
    let first = (round * 2 + usize::from(writers > 1)) * 1000;
    let records = (first..first + writers).map(|number| record(u64::try_from(number)?));
    commits_per_second(journal, records.collect::<anyhow::Result<_>>()?, SLICE).await
}

/// Writes so many other pairs, each once.
pub(super) async fn fill(journal: &Arc<dyn Journal>, pairs: usize) -> anyhow::Result<()> {
    const FIRST: usize = 1_000_000;
    const AT_ONCE: usize = 1000;
    for first in (FIRST..FIRST + pairs).step_by(AT_ONCE) {
        let records = (first..first + AT_ONCE).map(|number| record(u64::try_from(number)?));
        let records = records.collect::<anyhow::Result<_>>()?;
        commits_per_second(journal, records, Duration::ZERO).await?;
    }
    Ok(())
}

/// Bytes of what one of these commits writes, without any store around it.
pub(super) fn record_bytes() -> anyhow::Result<usize> {
    Ok(wire::encoded_bytes(&record(0)?)?)
}

/// A pair with one key, as it stands between two rotations.
fn record(number: u64) -> anyhow::Result<PairRecord> {
    let pair = PairId::new(format!("tenant-{number}").parse()?, "openai".parse()?);
    let (deployment, tag) = (DeploymentId::from_digest(&[7; 16]), PairTag::from_digest(&[9; 16]));
    let owner = Owner { node: NodeId::new("bench")?, incarnation: Default::default() };
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
