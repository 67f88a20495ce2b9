//! Writing what one transaction changed, in one statement, which the server carries out whole or not
//! at all (`keybaton.write`, in the migrations).
//!
//! Rows of one table are one argument, an array of rows. Each pair's row is compared and set in its
//! WHERE clause; a row that is not as it was read, or as it is remembered, ends the transaction.
//!
//! **Invariant:** pairs go in the order of their names, so that two transactions that write the same
//! ones never wait for each other in a circle.

use deadpool_postgres::Client;
use futures::join;
use keybaton_messages::{PairId, Rev};
use postgres_types::ToSql;
use tokio_postgres::Error;

use crate::journals::book::{Book, Page};
use crate::journals::postgres::rows::{seal_body, seal_event, seal_head, signed, word};
use crate::journals::redb::rows::{HeldGrant, has_work};
use crate::postgres::{Value, is_answer, is_refused_write};
use crate::store::Sealer;

const WRITE: &str = "select keybaton.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// How a transaction ended.
pub(super) enum End {
    Committed,
    /// Nothing was written. `is_over`: the server has said so, and its session can be used on.
    Not {
        error: Error,
        is_over: bool,
    },
    /// The connection failed while the commit was on its way.
    Unknown(Error),
}

/// Under what the pages are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    /// A transaction that holds the locks of all pairs and writers.
    Locks,
    /// Nothing: pages and lives are remembered, and lives are compared as the pages are.
    Nothing,
}

/// Writes the pages that changed, and commits. `now_ms` is written as the clock's mark, if given.
pub(super) async fn write(
    client: &Client,
    sealer: &Sealer,
    book: &mut Book,
    under: Under,
    now_ms: Option<i64>,
) -> End {
    book.pages.sort_unstable_keys();
    for (pair, page) in &mut book.pages {
        if let Ok(page) = page
            && !page.audit.is_empty()
        {
            page.next_mark = Some(seal_head(sealer, pair, page.state.head));
        }
    }
    let mut rows = Rows::default();
    for (pair, page) in &book.pages {
        if let Ok(page) = page
            && page.is_touched
        {
            rows.add(sealer, pair, page);
        }
    }
    if under == Under::Nothing {
        rows.add_lives(book);
    }
    rows.send(client, under, now_ms).await
}

/// A pair as it was seen, and what becomes of it.
#[derive(Debug, ToSql)]
#[postgres(name = "pair_change")]
struct PairChange<'a> {
    tenant: &'a str,
    provider: &'a str,
    seen: i64,
    seen_epoch: i64,
    seen_rev: i64,
    seen_txn: Option<&'a [u8]>,
    seen_head: Option<&'a [u8]>,
    epoch: i64,
    rev: i64,
    owner_node: Option<&'a str>,
    owner_incarnation: Option<i64>,
    last_txn: Option<&'a [u8]>,
    next_rotate_at_ms: Option<i64>,
    has_work: bool,
    record: Option<&'a [u8]>,
    audit_head: Option<&'a [u8]>,
}

/// A row of the table of this name, as the others below.
#[derive(Debug, ToSql)]
#[postgres(name = "version")]
struct VersionOf<'a> {
    tenant: &'a str,
    provider: &'a str,
    v: i64,
    status: &'static str,
    label: Option<&'a str>,
    provider_key_id: Option<&'a str>,
    fp: Option<&'a [u8]>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "grant_row")]
struct GrantOf<'a> {
    tenant: &'a str,
    provider: &'a str,
    v: i64,
    node_id: &'a str,
    incarnation: i64,
    grant_id: &'a [u8],
}

#[derive(Debug, ToSql)]
#[postgres(name = "audit")]
struct AuditOf<'a> {
    tenant: &'a str,
    provider: &'a str,
    seq: i64,
    prev: &'a [u8],
    hash: &'a [u8],
    kind: &'a str,
    dedupe: &'a str,
    body: Vec<u8>,
}

#[derive(Debug, ToSql)]
#[postgres(name = "outbox")]
struct EventOf<'a> {
    tenant: &'a str,
    provider: &'a str,
    rev: i64,
    place: i64,
    body: Vec<u8>,
}

/// Pairs, and the last revision of each whose events were published.
#[derive(Default)]
struct Published<'a> {
    tenants: Vec<&'a str>,
    providers: Vec<&'a str>,
    revs: Vec<i64>,
}

#[derive(Default)]
struct Rows<'a> {
    nodes: Vec<&'a str>,
    lives: Vec<i64>,
    pairs: Vec<PairChange<'a>>,
    versions: Vec<VersionOf<'a>>,
    grants_gone: Vec<GrantOf<'a>>,
    grants: Vec<GrantOf<'a>>,
    audit: Vec<AuditOf<'a>>,
    published: Published<'a>,
    events: Vec<EventOf<'a>>,
}

impl<'a> Rows<'a> {
    /// The lives that are believed.
    fn add_lives(&mut self, book: &'a Book) {
        for (node, life) in &book.lives {
            self.nodes.push(node.as_str());
            self.lives.push(signed(life.0));
        }
    }

    fn add(&mut self, sealer: &Sealer, pair: &'a PairId, page: &'a Page) {
        let (tenant, provider) = (pair.tenant.as_str(), pair.provider.as_str());
        self.add_pair(pair, page);
        self.versions.extend(page.versions.iter().map(|(version, row)| VersionOf {
            tenant,
            provider,
            v: i64::from(version.0),
            status: word(row.status),
            label: row.label.as_ref().map(|label| label.as_str()),
            provider_key_id: row.key_id.as_ref().map(|key| key.as_str()),
            fp: row.fp.as_ref().map(|fp| &fp.0[..]),
        }));
        self.add_grants(pair, page);
        self.audit.extend(page.audit.iter().map(|record| AuditOf {
            tenant,
            provider,
            seq: signed(record.seq),
            prev: &record.prev,
            hash: &record.hash,
            kind: &record.kind,
            dedupe: &record.dedupe,
            body: seal_body(sealer, pair, record.seq, &record.body),
        }));
        if let Some(Rev(published)) = page.published {
            self.published.tenants.push(tenant);
            self.published.providers.push(provider);
            self.published.revs.push(signed(published));
        }
        self.events.extend(page.events.iter().map(|(place, event)| EventOf {
            tenant,
            provider,
            rev: signed(event.rev.0),
            place: signed(*place),
            body: seal_event(sealer, *place, event),
        }));
    }

    fn add_pair(&mut self, pair: &'a PairId, page: &'a Page) {
        let seen = page.seen_stored.as_ref();
        let stored = page.state.stored.as_ref();
        let record = stored.map(|stored| &stored.record);
        self.pairs.push(PairChange {
            tenant: pair.tenant.as_str(),
            provider: pair.provider.as_str(),
            seen: page.seen,
            seen_epoch: seen.map_or(0, |stored| signed(stored.record.epoch.0)),
            seen_rev: seen.map_or(0, |stored| signed(stored.record.rev.0)),
            seen_txn: seen.map(|stored| &stored.last_txn.0[..]),
            seen_head: page.seen_mark.as_deref(),
            epoch: record.map_or(0, |record| signed(record.epoch.0)),
            rev: record.map_or(0, |record| signed(record.rev.0)),
            owner_node: record.map(|record| record.owner.node.as_str()),
            owner_incarnation: record.map(|record| signed(record.owner.incarnation.0)),
            last_txn: stored.map(|stored| &stored.last_txn.0[..]),
            next_rotate_at_ms: record
                .and_then(|record| record.next_rotate_at)
                .map(|due| signed(due.at.0)),
            has_work: record.is_some_and(|record| has_work(record)),
            record: page.sealed.as_deref(),
            audit_head: page.next_mark.as_deref(),
        });
    }

    /// The difference between the grants that were seen and the ones that are left.
    fn add_grants(&mut self, pair: &'a PairId, page: &'a Page) {
        let row = |grant: &'a HeldGrant| GrantOf {
            tenant: pair.tenant.as_str(),
            provider: pair.provider.as_str(),
            v: i64::from(grant.version.0),
            node_id: grant.node.as_str(),
            incarnation: signed(grant.incarnation.0),
            grant_id: &grant.id.0,
        };
        let is_left = |old: &HeldGrant| {
            let place = (old.version, &old.node);
            page.state.grants.iter().any(|grant| (grant.version, &grant.node) == place)
        };
        let is_new = |grant: &HeldGrant| !page.seen_grants.contains(grant);
        self.grants_gone.extend(page.seen_grants.iter().filter(|old| !is_left(old)).map(row));
        self.grants.extend(page.state.grants.iter().filter(|grant| is_new(grant)).map(row));
    }

    async fn send(&self, client: &Client, under: Under, now_ms: Option<i64>) -> End {
        let statement = match client.prepare_cached(WRITE).await {
            Ok(statement) => statement,
            Err(error) => return End::Not { error, is_over: false },
        };
        let Published { tenants, providers, revs } = &self.published;
        let values: [Value<'_>; 12] = [
            &self.nodes,
            &self.lives,
            &self.pairs,
            &self.versions,
            &self.grants_gone,
            &self.grants,
            &self.audit,
            tenants,
            providers,
            revs,
            &self.events,
            &now_ms,
        ];
        let writing = client.execute(&statement, &values);
        if under == Under::Nothing {
            return ended(writing.await, Ok(()));
        }
        // Sent one behind the other without waiting. After a refused statement the commit ends the
        // transaction without writing.
        let (written, committed) = join!(writing, client.batch_execute("commit"));
        ended(written, committed)
    }
}

fn ended(written: Result<u64, Error>, committed: Result<(), Error>) -> End {
    match (written, committed) {
        (Ok(_), Ok(())) => End::Committed,
        (Ok(_), Err(error)) if is_refused_write(&error) => End::Not { error, is_over: false },
        (Ok(_), Err(error)) => End::Unknown(error),
        (Err(error), committed) if is_answer(&error) => {
            End::Not { error, is_over: committed.is_ok() }
        }
        (Err(error), _) => End::Unknown(error),
    }
}
