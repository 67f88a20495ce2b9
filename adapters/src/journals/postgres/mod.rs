//! The journal of pair records in Postgres.
//!
//! ```text
//!               remembered
//!   callers ──► Queue ──┴─► Book (rules in memory) ──► keybaton.write: compares, writes
//!                 │                                    one round trip
//!                 └─in doubt─► read (locks, rows) ──► Book ──► keybaton.write + commit
//!                              one round trip                  one round trip
//! ```
//!
//! Everybody who waits is written in one transaction. Each pair is changed in memory by the same
//! rules as in the embedded store, from what is read or from what is remembered of the last write,
//! and written back with a compare-and-set: several nodes may write. Unique indexes and triggers
//! refuse what no node may ever write. See [`Memory`]. There is no NOTIFY: nobody here would listen, and
//! the server lets only one transaction with a notification commit at a time.
//!
//! **Invariant:** when the commit was not sent, nothing was written; once it was sent, only an
//! answer of the server says how it ended.
//! **Invariant:** "already applied" is answered only after a commit of its own, so that it holds on
//! the standby too.

mod appends;
mod attempt;
mod read;
mod rows;
mod tasks;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use futures::try_join;
use keybaton_messages::{Event, GrantId, NodeId, PairId, Rev, Timestamp, Version};
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{
    AuditKey, CommitError, Denial, GrantError, Journal, NodeLife, PairSummary, Refusal,
    SealedAudit, Standing, StoredPair, Transaction,
};
use keybaton_rotation::AuditEntry;
use tokio_postgres::Row;

use crate::SystemClock;
use crate::journals::book::Named;
use crate::journals::memory::Memory;
use crate::journals::operations::{Done, Marks, Op};
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::postgres::{Pool, Value, discard, written};
use crate::queue::Queue;
use crate::store::{Down, Sealer};

use rows::{open_body, open_event, open_head, read_bytes, read_pair, signed, unsigned};
pub use tasks::PostgresTaskJournal;

/// What every operation of this journal needs.
struct Shared {
    pool: Arc<Pool>,
    sealer: Arc<Sealer>,
    clock: Arc<SystemClock>,
    audit_key: Arc<AuditKey>,
    marks: Marks,
    memory: Memory,
}

/// The journal of one Postgres database.
pub struct PostgresJournal {
    shared: Arc<Shared>,
    queue: Queue<Op, Done>,
}

const PAIR: &str = "select tenant, provider, touched, rev, epoch, record, audit_head
    from keybaton.pair where tenant = $1 and provider = $2";
const GRANTS: &str = "select tenant, provider, v, node_id, incarnation, grant_id
    from keybaton.grant_row where tenant = $1 and provider = $2";
const LIVES: &str = "select node_id, incarnation from keybaton.node_lease";
const SUMMARIES: &str = "select tenant, provider, has_work, next_rotate_at_ms from keybaton.pair
    where record is not null";
const OUTBOX: &str = "select rev, place, body from keybaton.outbox
    where tenant = $1 and provider = $2 order by rev, place";
const HEAD: &str = "select audit_head from keybaton.pair where tenant = $1 and provider = $2";
const AUDIT: &str = "select seq, prev, hash, kind, dedupe, body from keybaton.audit
    where tenant = $1 and provider = $2 and seq > $3 order by seq limit $4";
const BEGIN_LIFE: &str =
    "insert into keybaton.node_lease as l (node_id, incarnation) values ($1, 1)
    on conflict (node_id) do update set incarnation = l.incarnation + 1 returning incarnation";
const VOID_GRANTS: &str = "delete from keybaton.grant_row where node_id = $1";

impl PostgresJournal {
    pub(crate) fn new(
        pool: Arc<Pool>,
        sealer: Arc<Sealer>,
        clock: Arc<SystemClock>,
        audit_key: Arc<AuditKey>,
        stored_ms: u64,
    ) -> Self {
        let marks = Marks::new(stored_ms);
        let shared =
            Arc::new(Shared { pool, sealer, clock, audit_key, marks, memory: Memory::default() });
        Self { queue: Queue::start(Arc::clone(&shared)), shared }
    }

    async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Down> {
        let read = self.shared.pool.read(async |client| {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, values).await
        });
        read.await
    }

    /// The pair, and the present life of every node, as they stand at one moment.
    async fn look(&self, pair: &PairId) -> Result<(Option<Looked>, Lives), Down> {
        let (tenant, provider) = (pair.tenant.as_str(), pair.provider.as_str());
        let values: [Value; 2] = [&tenant, &provider];
        let found = self.shared.pool.read(async |client| {
            let one = client.prepare_cached(PAIR).await?;
            let grants = client.prepare_cached(GRANTS).await?;
            let lives = client.prepare_cached(LIVES).await?;
            let (_, one, grants, lives, _) = try_join!(
                client.batch_execute("begin isolation level repeatable read read only"),
                client.query(&one, &values),
                client.query(&grants, &values),
                client.query(&lives, &[]),
                client.batch_execute("commit"),
            )?;
            Ok((one, grants, lives))
        });
        let (one, grants, lives) = found.await?;
        let mut pages = read::pages(&self.shared.sealer, &one, &grants);
        let page = pages.swap_remove(pair).map(|page| page.map(|page| page.state));
        Ok((page, read::lives(&lives)))
    }
}

type Looked = Result<PairState, Corrupt>;
type Lives = std::collections::HashMap<NodeId, keybaton_messages::Incarnation>;

fn denied(Corrupt(why): Corrupt) -> Refusal {
    Refusal::denied(Denial::Corrupt, why)
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal> {
        let pool = &self.shared.pool;
        self.shared.memory.forget_all();
        let client = pool.take().await?;
        let begun = pool.in_time(begin_life(&client, node)).await;
        match begun {
            Some(Ok(incarnation)) => Ok(NodeLife {
                node: node.clone(),
                incarnation: keybaton_messages::Incarnation(unsigned(incarnation)),
            }),
            Some(Err(error)) => {
                discard(client);
                Err(written(&error).into())
            }
            None => {
                discard(client);
                Err(Refusal::unknown(pool.silence()))
            }
        }
    }

    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal> {
        let rows = self.rows(SUMMARIES, &[]).await?;
        let mut pairs = rows.iter().map(summary).collect::<Result<Vec<_>, _>>().map_err(denied)?;
        pairs.sort_by(|a, b| (!a.has_work, &a.pair).cmp(&(!b.has_work, &b.pair)));
        Ok(pairs)
    }

    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal> {
        let values: [Value; 2] = [&pair.tenant.as_str(), &pair.provider.as_str()];
        let rows = self.rows(PAIR, &values).await?;
        let mut pages = read::pages(&self.shared.sealer, &rows, &[]);
        match pages.swap_remove(pair) {
            None => Ok(None),
            Some(page) => Ok(page.map_err(denied)?.state.stored),
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Rev, CommitError> {
        self.queue.commit(&self.shared.sealer, transaction).await
    }

    async fn grant(
        &self,
        pair: &PairId,
        version: Version,
        to: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let named = Named { pair: pair.clone(), version, life: to.clone(), id };
        self.queue.standing(Op::Grant(named)).await
    }

    async fn return_grant(
        &self,
        pair: &PairId,
        version: Version,
        by: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let named = Named { pair: pair.clone(), version, life: by.clone(), id };
        self.queue.standing(Op::Return(named)).await
    }

    async fn standing(&self, pair: &PairId, of: &NodeLife) -> Result<Standing, GrantError> {
        let (page, lives) = self.look(pair).await?;
        if lives.get(&of.node) != Some(&of.incarnation) {
            return Err(GrantError::Fenced);
        }
        let state = page.ok_or(GrantError::NoPair)??;
        state.standing(of).ok_or(GrantError::NoPair)
    }

    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal> {
        let (page, lives) = self.look(pair).await?;
        let Some(page) = page else {
            return Ok(0);
        };
        let state = page.map_err(denied)?;
        let valid = state.grants.iter().filter(|grant| {
            grant.version == version && lives.get(&grant.node) == Some(&grant.incarnation)
        });
        Ok(u32::try_from(valid.count()).unwrap_or(u32::MAX))
    }

    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal> {
        let values: [Value; 2] = [&pair.tenant.as_str(), &pair.provider.as_str()];
        let rows = self.rows(OUTBOX, &values).await?;
        let sealer = &self.shared.sealer;
        let event = |row: &Row| open_event(sealer, pair, row.get(0), row.get(1), row.get(2));
        rows.iter().map(|row| event(row).map_err(denied)).collect()
    }

    async fn append_audit(&self, pair: &PairId, entry: &AuditEntry) -> Result<(), Refusal> {
        self.queue.append_audit(pair.clone(), entry.clone()).await
    }

    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal> {
        let (tenant, provider) = (pair.tenant.as_str(), pair.provider.as_str());
        let rows_max = i64::try_from(AUDIT_PAGE_MAX).unwrap_or(i64::MAX);
        let after_signed = signed(after);
        let of_head: [Value; 2] = [&tenant, &provider];
        let of_audit: [Value; 4] = [&tenant, &provider, &after_signed, &rows_max];
        let found = self.shared.pool.read(async |client| {
            let head = client.prepare_cached(HEAD).await?;
            let audit = client.prepare_cached(AUDIT).await?;
            // The head first: what is appended between the two can only be more.
            try_join!(client.query_opt(&head, &of_head), client.query(&audit, &of_audit),)
        });
        let (head, rows) = found.await?;
        let sealer = &self.shared.sealer;
        let head = head.map(|row| open_head(sealer, pair, row.get(0)));
        let end = head.and_then(Result::ok).map_or(0, |head| head.seq);
        let page: Vec<_> = rows
            .iter()
            .map(|row| audit(sealer, pair, row))
            .collect::<Result<_, _>>()
            .map_err(denied)?;
        let last = page.last().map_or(after, |record| record.seq);
        if page.len() < AUDIT_PAGE_MAX && last < end {
            let why = format!("the audit of {pair} was cut off behind {last}; it had {end}");
            return Err(denied(Corrupt(why)));
        }
        Ok(page)
    }
}

async fn begin_life(
    client: &deadpool_postgres::Client,
    node: &NodeId,
) -> Result<i64, tokio_postgres::Error> {
    let begin = client.prepare_cached(BEGIN_LIFE).await?;
    let void = client.prepare_cached(VOID_GRANTS).await?;
    let name = node.as_str();
    let values: [Value; 1] = [&name];
    let (_, row, _, _) = try_join!(
        client.batch_execute("begin"),
        client.query_one(&begin, &values),
        client.execute(&void, &values),
        client.batch_execute("commit"),
    )?;
    Ok(row.get(0))
}

fn summary(row: &Row) -> Result<PairSummary, Corrupt> {
    Ok(PairSummary {
        pair: read_pair(row, 0)?,
        has_work: row.get(2),
        next_rotate_at: row.get::<_, Option<i64>>(3).map(|at| Timestamp(unsigned(at))),
    })
}

fn audit(sealer: &Sealer, pair: &PairId, row: &Row) -> Result<SealedAudit, Corrupt> {
    let seq = unsigned(row.get(0));
    Ok(SealedAudit {
        pair: pair.clone(),
        seq,
        prev: read_bytes(row, 1)?,
        hash: read_bytes(row, 2)?,
        kind: row.get(3),
        dedupe: row.get(4),
        body: open_body(sealer, pair, seq, row.get(5))?,
    })
}
