//! The first credential of a pair on a node that keeps its records in Postgres and its keys in
//! Vault: one transaction, one read. Beside it, the two by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use keybaton::messages::TaskId;
use keybaton::vault::{CredentialSource, Login, VaultSettings};
use keybaton::{CredentialHandle, Node, Secret};
use keybaton_servers::{Postgres, Vault};

use crate::figure::Report;
use crate::journals::commits::record_bytes;
use crate::journals::places::{RawRows, postgres};
use crate::journals::unless_missing;
use crate::race::median;
use crate::stage::{InstantVendor, PROVIDER, Scratch, policy, runtime};

/// Pairs, each of which is granted once: two of them lie above the 99th percentile.
const PAIRS: usize = 200;

/// Longest credential; nobody takes any of it.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// The mount of the keys.
const MOUNT: &str = "kv";

/// What one pair took, in microseconds.
struct Took {
    grant: u64,
    transaction: f64,
    read: f64,
}

/// The first grant of each pair, one after the other.
pub(super) fn first(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("journals/first_grant") {
        return Ok(());
    }
    let Some((server, settings)) = unless_missing(postgres())? else { return Ok(()) };
    let Some(vault) = unless_missing(Vault::start())? else { return Ok(()) };
    vault.mount_kv(MOUNT)?;
    let scratch = Scratch::new()?;
    let builder = Node::builder(scratch.path().join("node"))
        .provider(PROVIDER, Arc::new(InstantVendor::default()), policy())
        .without_status_socket()
        .postgres(settings)
        .vault(keys_in(&vault)?);
    let took = runtime()?.block_on(async {
        let node = builder.start().await?;
        measure(&node, &server).await
    })?;
    let mut grants = Histogram::<u64>::new(3)?;
    took.iter().try_for_each(|took| grants.record(took.grant))?;
    let parts = median(took.iter().map(|took| took.transaction + took.read));
    let p99 = grants.value_at_quantile(0.99) as f64;
    let p50 = grants.value_at_quantile(0.5) as f64;
    report.report("journals/first_grant/p99_over_parts", p99 / parts);
    report.report("journals/first_grant/p50_over_parts", p50 / parts);
    report.report("journals/first_grant/p99_us", p99);
    let transaction = median(took.iter().map(|took| took.transaction));
    report.report("journals/first_grant/bare_transaction_us", transaction);
    report.report("journals/first_grant/vault_read_us", median(took.iter().map(|it| it.read)));
    Ok(())
}

fn keys_in(vault: &Vault) -> anyhow::Result<VaultSettings> {
    let token = Secret::new(vault.root_token().as_bytes().to_vec());
    let token = token.map_err(|_| anyhow!("the token is none"))?;
    let login = Login::Token(CredentialSource::Given(token));
    let mut settings = VaultSettings::new(&vault.address(), login);
    MOUNT.clone_into(&mut settings.mount);
    Ok(settings)
}

async fn measure(node: &Node, server: &Postgres) -> anyhow::Result<Vec<Took>> {
    let mut bare = RawRows::on(server).await?;
    let value = vec![0x5a; record_bytes()?];
    let shared = node.shared();
    let mut all = Vec::with_capacity(PAIRS);
    for number in 0..PAIRS {
        let tenant = format!("tenant-{number}");
        node.provision(&tenant, PROVIDER).await?;
        let pair = node.pair(&tenant, PROVIDER)?;
        let task = TaskId::new("first")?;
        let handle = CredentialHandle::new(shared.clone(), &pair, task, CALL_TIME_MAX);
        let begun = Instant::now();
        let lease = handle.call().await?;
        let grant = begun.elapsed();
        drop(lease);

        let begun = Instant::now();
        bare.write(1, &value).await?;
        let transaction = begun.elapsed();
        let standing = shared.ports.journal.standing(&pair, &shared.life).await?;
        let (_, secret, _) = standing.active.context("a version is active")?;
        let begun = Instant::now();
        shared.ports.secrets.read(&pair, secret).await?;
        let read = begun.elapsed();
        all.push(Took {
            grant: u64::try_from(grant.as_micros())?,
            transaction: transaction.as_secs_f64() * 1e6,
            read: read.as_secs_f64() * 1e6,
        });
    }
    Ok(all)
}
