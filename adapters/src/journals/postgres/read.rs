//! Reading what one transaction needs, behind the locks of its pairs, in one round trip.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deadpool_postgres::Client;
use futures::try_join;
use keybaton_messages::{Fingerprint, GrantId, Incarnation, NodeId, PairId, Version};
use tokio_postgres::{Error, Row};

use crate::journals::book::{Book, ClaimKey, Fact, Page, Pages};
use crate::journals::operations::Op;
use crate::journals::postgres::Shared;
use crate::journals::postgres::rows::{
    Beside, lock_of, open_head, open_stored, read_bytes, read_node, read_pair, unsigned,
};
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::HeldGrant;
use crate::journals::wanted::Wanted;
use crate::postgres::Value;
use crate::store::Sealer;

// For pairs that are not there yet, and have no row to be locked. Sorted by the caller, so that two
// transactions never wait for each other in a circle.
const LOCK_PAIRS: &str = "select pg_advisory_xact_lock(k) from unnest($1::bigint[]) as a(k)";

// Shared: a new life of a node begins only when its writes have ended.
const LOCK_LIVES: &str = "select node_id from keybaton.node_lease where node_id = any($1)
    order by node_id for share";

const LIVES: &str = "select node_id, incarnation from keybaton.node_lease";

// Locked, and in the order in which they are written: who writes what it remembers locks nothing
// before.
const PAIRS: &str = "select p.tenant, p.provider, p.touched, p.rev, p.epoch, p.record, p.audit_head
    from unnest($1::text[], $2::text[]) as a(tenant, provider)
    join keybaton.pair p using (tenant, provider)
    order by p.tenant, p.provider for no key update of p";

const GRANTS: &str = "select g.tenant, g.provider, g.v, g.node_id, g.incarnation, g.grant_id
    from unnest($1::text[], $2::text[]) as a(tenant, provider)
    join keybaton.grant_row g using (tenant, provider)";

const CLAIMS: &str = "select w.tenant, w.provider, w.v, w.provider_key_id, null::bytea
        from unnest($1::text[], $2::text[]) as a(provider, provider_key_id)
        join keybaton.version w using (provider, provider_key_id)
    union all
    select w.tenant, w.provider, w.v, null, w.fp
        from keybaton.version w where w.fp = any($3)";

const FACTS: &str = "select f.tenant, f.provider, f.kind, f.dedupe
    from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as a(tenant, provider, kind, dedupe)
    join keybaton.audit f using (tenant, provider, kind, dedupe)";

struct Found {
    lives: Vec<Row>,
    pairs: Vec<Row>,
    grants: Vec<Row>,
    claims: Vec<Row>,
    facts: Vec<Row>,
}

/// Begins a transaction, locks the pairs and the lives that the operations name, and reads.
pub(super) async fn read<'a>(
    client: &Client,
    shared: &Shared,
    ops: impl Iterator<Item = &'a Op>,
    is_thorough: bool,
) -> Result<Book, Error> {
    let mut wanted = Wanted::default();
    ops.for_each(|op| wanted.add(op, is_thorough));
    shared.memory.forget(&wanted);
    let found = ask(client, &wanted).await?;
    let sealer = &shared.sealer;
    Ok(Book {
        clock: Arc::clone(&shared.clock),
        audit_key: Arc::clone(&shared.audit_key),
        lives: lives(&found.lives),
        pages: pages(sealer, &found.pairs, &found.grants),
        claims: found.claims.iter().filter_map(claim).collect(),
        facts: found.facts.iter().filter_map(fact).collect::<HashSet<_>>(),
    })
}

async fn ask(client: &Client, wanted: &Wanted) -> Result<Found, Error> {
    let mut locks: Vec<_> = wanted.pairs.iter().map(lock_of).collect();
    locks.sort_unstable();
    locks.dedup();
    let writers: Vec<_> = wanted.writers.iter().map(NodeId::as_str).collect();
    let tenants: Vec<_> = wanted.pairs.iter().map(|pair| pair.tenant.as_str()).collect();
    let providers: Vec<_> = wanted.pairs.iter().map(|pair| pair.provider.as_str()).collect();
    let (mut at, mut keys, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
    for claim in &wanted.claims {
        match claim {
            ClaimKey::Key(provider, key) => {
                at.push(provider.as_str());
                keys.push(key.as_str());
            }
            ClaimKey::Secret(Fingerprint(bytes)) => secrets.push(&bytes[..]),
        }
    }
    let of: Vec<_> = wanted.facts.iter().map(|fact| fact.0.tenant.as_str()).collect();
    let with: Vec<_> = wanted.facts.iter().map(|fact| fact.0.provider.as_str()).collect();
    let kinds: Vec<_> = wanted.facts.iter().map(|fact| fact.1.as_str()).collect();
    let dedupes: Vec<_> = wanted.facts.iter().map(|fact| fact.2.as_str()).collect();
    let lock_pairs = client.prepare_cached(LOCK_PAIRS).await?;
    let lock_lives = client.prepare_cached(LOCK_LIVES).await?;
    let lives = client.prepare_cached(LIVES).await?;
    let pairs = client.prepare_cached(PAIRS).await?;
    let grants = client.prepare_cached(GRANTS).await?;
    let claims = client.prepare_cached(CLAIMS).await?;
    let facts = client.prepare_cached(FACTS).await?;
    let of_pairs: [Value; 2] = [&tenants, &providers];
    let of_facts: [Value; 4] = [&of, &with, &kinds, &dedupes];
    let of_claims: [Value; 3] = [&at, &keys, &secrets];
    let (locks, writers): ([Value; 1], [Value; 1]) = ([&locks], [&writers]);
    // Sent one behind the other, answered in this order: each statement sees what was committed
    // before it began. So the pairs are locked before anything of them is read, and lives are read
    // behind the grants: there is one for each grant that is seen.
    let (_, _, _, pairs, grants, lives, claims, facts) = try_join!(
        client.batch_execute("begin"),
        client.execute(&lock_pairs, &locks),
        client.execute(&lock_lives, &writers),
        client.query(&pairs, &of_pairs),
        client.query(&grants, &of_pairs),
        client.query(&lives, &[]),
        client.query(&claims, &of_claims),
        client.query(&facts, &of_facts),
    )?;
    Ok(Found { lives, pairs, grants, claims, facts })
}

pub(super) fn lives(rows: &[Row]) -> HashMap<NodeId, Incarnation> {
    let life = |row: &Row| {
        let node = read_node(row, 0).ok()?;
        Some((node, Incarnation(unsigned(row.get(1)))))
    };
    rows.iter().filter_map(life).collect()
}

/// One page for each pair that is there; one that cannot be opened is told from one that is not.
pub(super) fn pages(sealer: &Sealer, pairs: &[Row], grants: &[Row]) -> Pages {
    let mut pages = Pages::default();
    for row in pairs {
        if let Ok(pair) = read_pair(row, 0) {
            let page = page(sealer, &pair, row);
            pages.insert(pair, page.map(Box::new));
        }
    }
    for row in grants {
        let Some(Ok(page)) = read_pair(row, 0).ok().and_then(|pair| pages.get_mut(&pair)) else {
            continue;
        };
        if let Ok(grant) = grant(row) {
            page.seen_grants.push(grant.clone());
            page.state.grants.push(grant);
        }
    }
    pages
}

fn page(sealer: &Sealer, pair: &PairId, row: &Row) -> Result<Page, Corrupt> {
    let beside = Beside { rev: row.get(3), epoch: row.get(4) };
    let stored = row
        .get::<_, Option<&[u8]>>(5)
        .map(|bytes| open_stored(sealer, pair, bytes, &beside))
        .transpose()?;
    let head = row.get::<_, Option<&[u8]>>(6);
    let state = PairState { stored, grants: Vec::new(), head: open_head(sealer, pair, head)? };
    Ok(Page { seen_mark: head.map(<[u8]>::to_vec), ..Page::new(row.get(2), state) })
}

fn grant(row: &Row) -> Result<HeldGrant, Corrupt> {
    Ok(HeldGrant {
        version: version(row.get(2))?,
        node: read_node(row, 3)?,
        incarnation: Incarnation(unsigned(row.get(4))),
        id: GrantId(read_bytes(row, 5)?),
    })
}

fn version(number: i64) -> Result<Version, Corrupt> {
    let number = u32::try_from(number);
    number.map(Version).map_err(|_| Corrupt("a row has the number of no version".into()))
}

fn claim(row: &Row) -> Option<(ClaimKey, (PairId, Version))> {
    let pair = read_pair(row, 0).ok()?;
    let by = (pair.clone(), version(row.get(2)).ok()?);
    let key = match row.get::<_, Option<&str>>(3) {
        Some(key) => ClaimKey::Key(pair.provider, key.parse().ok()?),
        None => ClaimKey::Secret(Fingerprint(read_bytes(row, 4).ok()?)),
    };
    Some((key, by))
}

fn fact(row: &Row) -> Option<Fact> {
    Some((read_pair(row, 0).ok()?, row.get(2), row.get(3)))
}
