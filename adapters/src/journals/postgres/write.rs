//! Writing what one transaction changed, in one statement, which the server carries out whole or not
//! at all (`keybaton.write`, in the migrations).
//!
//! Each kind of row is one array for each column. Each pair's row is compared and set in its WHERE
//! clause; a row that is not as it was read, or as it is remembered, ends the transaction.

use deadpool_postgres::Client;
use futures::join;
use keybaton_messages::{PairId, Rev};
use tokio_postgres::Error;

use crate::journals::book::{Book, Page};
use crate::journals::postgres::rows::{
    lock_of, seal_body, seal_event, seal_head, seal_record, signed, word,
};
use crate::journals::redb::pairs::Corrupt;
use crate::journals::redb::rows::{HeldGrant, has_work};
use crate::postgres::{Value, is_answer, is_refused_write};
use crate::store::Sealer;

const WRITE: &str = "select keybaton.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
    $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32,
    $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51,
    $52, $53, $54)";

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
    /// Nothing: pages and lives are remembered, so that locks come first, and lives are compared as
    /// the pages are.
    Nothing,
}

/// Writes the pages that changed, and commits. `now_ms` is written as the clock's mark, if given.
///
/// # Errors
/// A record that cannot be sealed; nothing was sent then.
pub(super) async fn write(
    client: &Client,
    sealer: &Sealer,
    book: &mut Book,
    under: Under,
    now_ms: Option<i64>,
) -> Result<End, Corrupt> {
    for (pair, page) in &mut book.pages {
        if let Ok(page) = page
            && !page.audit.is_empty()
        {
            page.next_head = Some(seal_head(sealer, pair, page.state.head));
        }
    }
    let mut rows = Rows::default();
    for (pair, page) in &book.pages {
        if let Ok(page) = page
            && page.is_touched
        {
            rows.add(sealer, pair, page)?;
        }
    }
    if under == Under::Nothing {
        rows.add_locks(book);
    }
    Ok(rows.send(client, under, now_ms).await)
}

macro_rules! columns {
    ($(#[$about:meta])* $name:ident { $($column:ident: $kind:ty),* $(,)? }) => {
        /// One array for each column.
        #[derive(Default)]
        struct $name<'a> {
            $($column: Vec<$kind>,)*
        }

        impl<'a> $name<'a> {
            $(#[$about])*
            fn add(&mut self, $($column: $kind),*) {
                $(self.$column.push($column);)*
            }

            fn arrays(&self) -> Vec<Value<'_>> {
                vec![$(&self.$column),*]
            }
        }
    };
}

columns!(Lives { node: &'a str, incarnation: i64 });
columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Pairs {
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
        record: Option<Vec<u8>>,
        audit_head: Option<&'a [u8]>,
    }
);
columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Versions {
        tenant: &'a str,
        provider: &'a str,
        v: i64,
        status: &'static str,
        label: Option<String>,
        key_id: Option<&'a str>,
        fp: Option<&'a [u8]>,
    }
);
columns!(GrantsGone {
    tenant: &'a str,
    provider: &'a str,
    v: i64,
    node: &'a str,
    id: &'a [u8],
});
columns!(Grants {
    tenant: &'a str,
    provider: &'a str,
    v: i64,
    node: &'a str,
    id: &'a [u8],
    incarnation: i64,
});
columns!(
    #[expect(clippy::too_many_arguments, reason = "one for each column of the table")]
    Audit {
        tenant: &'a str,
        provider: &'a str,
        seq: i64,
        prev: &'a [u8],
        hash: &'a [u8],
        kind: &'a str,
        dedupe: &'a str,
        body: Vec<u8>,
    }
);
columns!(EventsGone { tenant: &'a str, provider: &'a str, published: i64 });
columns!(Events { tenant: &'a str, provider: &'a str, rev: i64, place: i64, body: Vec<u8> });

#[derive(Default)]
struct Rows<'a> {
    locks: Vec<i64>,
    lives: Lives<'a>,
    pairs: Pairs<'a>,
    versions: Versions<'a>,
    grants_gone: GrantsGone<'a>,
    grants: Grants<'a>,
    audit: Audit<'a>,
    events_gone: EventsGone<'a>,
    events: Events<'a>,
}

impl<'a> Rows<'a> {
    /// The locks of all pairs, sorted, so that two transactions never wait for each other in a
    /// circle; and the lives that are believed.
    fn add_locks(&mut self, book: &'a Book) {
        self.locks.extend(book.pages.keys().map(lock_of));
        self.locks.sort_unstable();
        self.locks.dedup();
        for (node, life) in &book.lives {
            self.lives.add(node.as_str(), signed(life.0));
        }
    }

    fn add(&mut self, sealer: &Sealer, pair: &'a PairId, page: &'a Page) -> Result<(), Corrupt> {
        let (tenant, provider) = (pair.tenant.as_str(), pair.provider.as_str());
        self.add_pair(sealer, pair, page)?;
        for (version, row) in &page.versions {
            self.versions.add(
                tenant,
                provider,
                i64::from(version.0),
                word(row.status),
                row.label.as_ref().map(ToString::to_string),
                row.key_id.as_ref().map(|key| key.as_str()),
                row.fp.as_ref().map(|fp| &fp.0[..]),
            );
        }
        self.add_grants(pair, page);
        for record in &page.audit {
            self.audit.add(
                tenant,
                provider,
                signed(record.seq),
                &record.prev,
                &record.hash,
                &record.kind,
                &record.dedupe,
                seal_body(sealer, pair, record.seq, &record.body),
            );
        }
        if let Some(Rev(published)) = page.published {
            self.events_gone.add(tenant, provider, signed(published));
        }
        for (place, event) in &page.events {
            let body = seal_event(sealer, *place, event);
            self.events.add(tenant, provider, signed(event.rev.0), signed(*place), body);
        }
        Ok(())
    }

    fn add_pair(
        &mut self,
        sealer: &Sealer,
        pair: &'a PairId,
        page: &'a Page,
    ) -> Result<(), Corrupt> {
        let seen = page.seen_stored.as_ref();
        let stored = page.state.stored.as_ref();
        let record = stored.map(|stored| &stored.record);
        let sealed =
            stored.filter(|_| page.is_record_new).map(|stored| seal_record(sealer, stored));
        self.pairs.add(
            pair.tenant.as_str(),
            pair.provider.as_str(),
            page.seen,
            seen.map_or(0, |stored| signed(stored.record.epoch.0)),
            seen.map_or(0, |stored| signed(stored.record.rev.0)),
            seen.map(|stored| &stored.last_txn.0[..]),
            page.seen_head.as_deref(),
            record.map_or(0, |record| signed(record.epoch.0)),
            record.map_or(0, |record| signed(record.rev.0)),
            record.map(|record| record.owner.node.as_str()),
            record.map(|record| signed(record.owner.incarnation.0)),
            stored.map(|stored| &stored.last_txn.0[..]),
            record.and_then(|record| record.next_rotate_at).map(|due| signed(due.at.0)),
            record.is_some_and(|record| has_work(record)),
            sealed.transpose()?,
            page.next_head.as_deref(),
        );
        Ok(())
    }

    /// The difference between the grants that were seen and the ones that are left.
    fn add_grants(&mut self, pair: &'a PairId, page: &'a Page) {
        let (tenant, provider) = (pair.tenant.as_str(), pair.provider.as_str());
        let is_in = |grants: &[HeldGrant], one: &HeldGrant| {
            grants.iter().any(|grant| (grant.version, &grant.node) == (one.version, &one.node))
        };
        for old in page.seen_grants.iter().filter(|old| !is_in(&page.state.grants, old)) {
            let v = i64::from(old.version.0);
            self.grants_gone.add(tenant, provider, v, old.node.as_str(), &old.id.0);
        }
        for grant in page.state.grants.iter().filter(|grant| !page.seen_grants.contains(grant)) {
            self.grants.add(
                tenant,
                provider,
                i64::from(grant.version.0),
                grant.node.as_str(),
                &grant.id.0,
                signed(grant.incarnation.0),
            );
        }
    }

    async fn send(&self, client: &Client, under: Under, now_ms: Option<i64>) -> End {
        let statement = match client.prepare_cached(WRITE).await {
            Ok(statement) => statement,
            Err(error) => return End::Not { error, is_over: false },
        };
        let mut values: Vec<Value<'_>> = vec![&self.locks];
        values.extend(self.lives.arrays());
        values.extend(self.pairs.arrays());
        values.extend(self.versions.arrays());
        values.extend(self.grants_gone.arrays());
        values.extend(self.grants.arrays());
        values.extend(self.audit.arrays());
        values.extend(self.events_gone.arrays());
        values.extend(self.events.arrays());
        values.push(&now_ms);
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
