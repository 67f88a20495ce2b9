//! Writing what one transaction changed, with the commit, in one round trip.
//!
//! Each kind of row is one statement with one array for each column. The pair's row is compared
//! and set in its WHERE clause; a row that was not as it was read ends the transaction.

use deadpool_postgres::Client;
use futures::join;
use keybaton_messages::{PairId, Rev};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use crate::journals::book::{Book, Page};
use crate::journals::postgres::rows::{
    seal_body, seal_event, seal_head, seal_record, signed, word,
};
use crate::journals::redb::pairs::Corrupt;
use crate::journals::redb::rows::{AuditHead, HeldGrant, has_work};
use crate::postgres::{is_answer, is_refused_write};
use crate::store::Sealer;

const PAIRS: &str = "with asked as (
        select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
            $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::bytea[], $11::bigint[],
            $12::boolean[], $13::bytea[], $14::bytea[])
        as a(tenant, provider, seen, seen_epoch, seen_rev, epoch, rev, owner_node,
            owner_incarnation, last_txn, next_rotate_at_ms, has_work, record, audit_head)
    ), moved as (
        update keybaton.pair p set touched = a.seen + 1, epoch = a.epoch, rev = a.rev,
            owner_node = a.owner_node, owner_incarnation = a.owner_incarnation,
            last_txn = a.last_txn, next_rotate_at_ms = a.next_rotate_at_ms,
            has_work = a.has_work, record = coalesce(a.record, p.record),
            audit_head = a.audit_head
        from asked a where p.tenant = a.tenant and p.provider = a.provider
            and p.touched = a.seen and p.epoch = a.seen_epoch and p.rev = a.seen_rev
        returning 1
    ), made as (
        insert into keybaton.pair (tenant, provider, touched, epoch, rev, owner_node,
            owner_incarnation, last_txn, next_rotate_at_ms, has_work, record, audit_head)
        select tenant, provider, 1, epoch, rev, owner_node, owner_incarnation, last_txn,
            next_rotate_at_ms, has_work, record, audit_head
        from asked where seen = 0 on conflict do nothing returning 1
    )
    select keybaton.demand((select count(*) from moved) + (select count(*) from made),
        cardinality($1))";

// The new active version comes behind the one that it replaces: there is one at every moment.
const VERSIONS: &str = "insert into keybaton.version as w
        (tenant, provider, v, status, label, provider_key_id, fp)
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
        $7::bytea[]) as a(tenant, provider, v, status, label, provider_key_id, fp)
    order by status = 'ACTIVE'
    on conflict (tenant, provider, v) do update set status = excluded.status,
        label = excluded.label, provider_key_id = excluded.provider_key_id, fp = excluded.fp";

const GRANTS_GONE: &str = "delete from keybaton.grant_row g
    using unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[])
        as a(tenant, provider, v, node_id, grant_id)
    where g.tenant = a.tenant and g.provider = a.provider and g.v = a.v
        and g.node_id = a.node_id and g.grant_id = a.grant_id";

const GRANTS: &str = "insert into keybaton.grant_row
        (tenant, provider, v, node_id, grant_id, incarnation)
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bytea[], $6::bigint[])
    on conflict (tenant, provider, v, node_id) do update
        set incarnation = excluded.incarnation, grant_id = excluded.grant_id";

const AUDIT: &str = "insert into keybaton.audit
        (tenant, provider, seq, prev, hash, kind, dedupe, body)
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[],
        $7::text[], $8::bytea[])";

const EVENTS_GONE: &str = "delete from keybaton.outbox o
    using unnest($1::text[], $2::text[], $3::bigint[]) as a(tenant, provider, published)
    where o.tenant = a.tenant and o.provider = a.provider and o.rev <= a.published";

const EVENTS: &str = "insert into keybaton.outbox (tenant, provider, rev, place, body)
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])";

const TIME: &str = "update keybaton.meta set time_ms = greatest(time_ms, $1)";

/// How a transaction ended.
pub(super) enum End {
    Committed,
    /// Nothing was written.
    Not(Error),
    /// The connection failed while the commit was on its way.
    Unknown(Error),
}

/// Writes the pages that changed, and commits. `now_ms` is written as the clock's mark, if given.
///
/// # Errors
/// A record that cannot be sealed; nothing was sent then.
pub(super) async fn write(
    client: &Client,
    sealer: &Sealer,
    book: &Book,
    now_ms: Option<i64>,
) -> Result<End, Corrupt> {
    let mut rows = Rows::default();
    for (pair, page) in &book.pages {
        if let Ok(page) = page
            && page.is_touched
        {
            rows.add(sealer, pair, page)?;
        }
    }
    Ok(rows.send(client, now_ms).await)
}

macro_rules! columns {
    ($(#[$about:meta])* $name:ident($sql:expr) { $($column:ident: $kind:ty),* }) => {
        /// One array for each column.
        #[derive(Default)]
        struct $name {
            $($column: Vec<$kind>,)*
        }

        impl $name {
            $(#[$about])*
            fn add(&mut self, $($column: $kind),*) {
                $(self.$column.push($column);)*
            }

            async fn prepare(&self, client: &Client) -> Result<Option<Statement>, Error> {
                if self.tenant.is_empty() {
                    return Ok(None);
                }
                client.prepare_cached($sql).await.map(Some)
            }

            async fn send(
                &self,
                client: &Client,
                statement: Option<&Statement>,
            ) -> Result<(), Error> {
                let Some(statement) = statement else {
                    return Ok(());
                };
                let arrays: Vec<&(dyn ToSql + Sync)> = vec![$(&self.$column),*];
                client.execute(statement, &arrays).await.map(drop)
            }
        }
    };
}

columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Pairs(PAIRS) {
    tenant: String, provider: String, seen: i64, seen_epoch: i64, seen_rev: i64, epoch: i64,
    rev: i64, owner_node: Option<String>, owner_incarnation: Option<i64>,
    last_txn: Option<Vec<u8>>, next_rotate_at_ms: Option<i64>, has_work: bool,
    record: Option<Vec<u8>>, audit_head: Option<Vec<u8>>
});
columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Versions(VERSIONS) {
    tenant: String, provider: String, v: i64, status: &'static str, label: Option<String>,
    key_id: Option<String>, fp: Option<Vec<u8>>
});
columns!(GrantsGone(GRANTS_GONE) {
    tenant: String, provider: String, v: i64, node: String, id: Vec<u8>
});
columns!(Grants(GRANTS) {
    tenant: String, provider: String, v: i64, node: String, id: Vec<u8>, incarnation: i64
});
columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Audit(AUDIT) {
    tenant: String, provider: String, seq: i64, prev: Vec<u8>, hash: Vec<u8>, kind: String,
    dedupe: String, body: Vec<u8>
});
columns!(EventsGone(EVENTS_GONE) { tenant: String, provider: String, published: i64 });
columns!(Events(EVENTS) {
    tenant: String, provider: String, rev: i64, place: i64, body: Vec<u8>
});

#[derive(Default)]
struct Rows {
    pairs: Pairs,
    versions: Versions,
    grants_gone: GrantsGone,
    grants: Grants,
    audit: Audit,
    events_gone: EventsGone,
    events: Events,
}

struct Prepared {
    pairs: Option<Statement>,
    versions: Option<Statement>,
    grants_gone: Option<Statement>,
    grants: Option<Statement>,
    audit: Option<Statement>,
    events_gone: Option<Statement>,
    events: Option<Statement>,
    time: Statement,
}

impl Rows {
    fn add(&mut self, sealer: &Sealer, pair: &PairId, page: &Page) -> Result<(), Corrupt> {
        let names = || (pair.tenant.to_string(), pair.provider.to_string());
        self.add_pair(sealer, pair, page)?;
        for (version, row) in &page.versions {
            let (tenant, provider) = names();
            let label = row.label.as_ref().map(ToString::to_string);
            let key_id = row.key_id.as_ref().map(ToString::to_string);
            let fp = row.fp.map(|fp| fp.0.to_vec());
            let v = i64::from(version.0);
            self.versions.add(tenant, provider, v, word(row.status), label, key_id, fp);
        }
        self.add_grants(pair, page);
        for record in &page.audit {
            let (tenant, provider) = names();
            self.audit.add(
                tenant,
                provider,
                signed(record.seq),
                record.prev.to_vec(),
                record.hash.to_vec(),
                record.kind.clone(),
                record.dedupe.clone(),
                seal_body(sealer, pair, record.seq, &record.body),
            );
        }
        if let Some(Rev(published)) = page.published {
            let (tenant, provider) = names();
            self.events_gone.add(tenant, provider, signed(published));
        }
        for (place, event) in &page.events {
            let (tenant, provider) = names();
            let body = seal_event(sealer, *place, event);
            self.events.add(tenant, provider, signed(event.rev.0), signed(*place), body);
        }
        Ok(())
    }

    fn add_pair(&mut self, sealer: &Sealer, pair: &PairId, page: &Page) -> Result<(), Corrupt> {
        let seen = page.seen_stored.as_ref().map(|stored| &stored.record);
        let (seen_epoch, seen_rev) = seen.map_or((0, 0), |record| (record.epoch.0, record.rev.0));
        let stored = page.state.stored.as_ref();
        let record = stored.map(|stored| &stored.record);
        let sealed =
            stored.filter(|_| page.is_record_new).map(|stored| seal_record(sealer, stored));
        let head = page.state.head;
        self.pairs.add(
            pair.tenant.to_string(),
            pair.provider.to_string(),
            page.seen,
            signed(seen_epoch),
            signed(seen_rev),
            record.map_or(0, |record| signed(record.epoch.0)),
            record.map_or(0, |record| signed(record.rev.0)),
            record.map(|record| record.owner.node.to_string()),
            record.map(|record| signed(record.owner.incarnation.0)),
            stored.map(|stored| stored.last_txn.0.to_vec()),
            record.and_then(|record| record.next_rotate_at).map(|due| signed(due.at.0)),
            record.is_some_and(|record| has_work(record)),
            sealed.transpose()?,
            (head != AuditHead::START).then(|| seal_head(sealer, pair, head)),
        );
        Ok(())
    }

    /// The difference between the grants that were read and the ones that are left.
    fn add_grants(&mut self, pair: &PairId, page: &Page) {
        let names = || (pair.tenant.to_string(), pair.provider.to_string());
        let is_in = |grants: &[HeldGrant], one: &HeldGrant| {
            grants.iter().any(|grant| (grant.version, &grant.node) == (one.version, &one.node))
        };
        for old in page.seen_grants.iter().filter(|old| !is_in(&page.state.grants, old)) {
            let (tenant, provider) = names();
            let v = i64::from(old.version.0);
            self.grants_gone.add(tenant, provider, v, old.node.to_string(), old.id.0.to_vec());
        }
        for grant in page.state.grants.iter().filter(|grant| !page.seen_grants.contains(grant)) {
            let (tenant, provider) = names();
            self.grants.add(
                tenant,
                provider,
                i64::from(grant.version.0),
                grant.node.to_string(),
                grant.id.0.to_vec(),
                signed(grant.incarnation.0),
            );
        }
    }

    async fn prepare(&self, client: &Client) -> Result<Prepared, Error> {
        Ok(Prepared {
            pairs: self.pairs.prepare(client).await?,
            versions: self.versions.prepare(client).await?,
            grants_gone: self.grants_gone.prepare(client).await?,
            grants: self.grants.prepare(client).await?,
            audit: self.audit.prepare(client).await?,
            events_gone: self.events_gone.prepare(client).await?,
            events: self.events.prepare(client).await?,
            time: client.prepare_cached(TIME).await?,
        })
    }

    async fn send(&self, client: &Client, now_ms: Option<i64>) -> End {
        let statements = match self.prepare(client).await {
            Ok(statements) => statements,
            Err(error) => return End::Not(error),
        };
        let mark_time = async {
            match now_ms {
                Some(now) => client.execute(&statements.time, &[&now]).await.map(drop),
                None => Ok(()),
            }
        };
        // Sent one behind the other without waiting. After a refused statement the server refuses
        // the rest, and the commit ends the transaction without writing.
        let (pairs, versions, gone, grants, audit, past, events, time, commit) = join!(
            self.pairs.send(client, statements.pairs.as_ref()),
            self.versions.send(client, statements.versions.as_ref()),
            self.grants_gone.send(client, statements.grants_gone.as_ref()),
            self.grants.send(client, statements.grants.as_ref()),
            self.audit.send(client, statements.audit.as_ref()),
            self.events_gone.send(client, statements.events_gone.as_ref()),
            self.events.send(client, statements.events.as_ref()),
            mark_time,
            client.batch_execute("commit"),
        );
        let written = [pairs, versions, gone, grants, audit, past, events, time];
        match written.into_iter().find_map(Result::err) {
            Some(error) if is_answer(&error) => End::Not(error),
            Some(error) => End::Unknown(error),
            None => match commit {
                Ok(()) => End::Committed,
                Err(error) if is_refused_write(&error) => End::Not(error),
                Err(error) => End::Unknown(error),
            },
        }
    }
}
