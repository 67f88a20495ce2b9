//! The journal in Redis: records, grants, audit and events of pairs, and the tasks.
//!
//! ```text
//!                     remembered
//!   callers ──► Queue ────┴─► Book (rules in memory) ──► write.lua    in doubt, instead:
//!                                 tasks ───────────────►    │         read (one moment) ──► Book ..
//!                                             one pipeline, one sync, WAITAOF
//! ```
//!
//! Everybody who waits is written together, by the same rules as in the other stores. The script
//! compares each pair's epoch, revision, number of writes, last transaction and end of the audit, the
//! lives of the writers and the claims on keys with what was read, or what is remembered of the last
//! write, and then changes everything or nothing: several nodes may write. See
//! [`Memory`](crate::journals::memory).
//!
//! **Invariant:** once the script was sent, only an answer of the server says how it ended; a
//! transaction whose outcome is unknown is recognised by its id, in a write of its own.
//! **Invariant:** best effort by nature: Redis hands its writes to replicas after it has answered, so
//! that a failover may lose them. Whoever opens this store has said that it may.

mod change;
mod error;
mod names;
mod open;
mod pages;
mod reservation;
mod server;
mod settings;
mod tasks;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Event, GrantId, Incarnation, NodeId, PairId, Rev, Timestamp, Version};
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{
    AuditKey, Clock, CommitError, Denial, GrantError, Journal, NodeLife, PairSummary, Refusal,
    SealedAudit, Standing, StoredPair, Transaction,
};
use keybaton_rotation::AuditEntry;
use redis::cmd;

pub use error::RedisStoreError;
pub use open::RedisStore;
pub use reservation::RedisReservation;
pub use settings::{AcceptedLoss, Durability, RedisJournalSettings};

use self::change::Change;
use self::names::PairKeys;
use self::pages::{
    Sheets, answered, ends_with, lives, open_audit, open_events, open_head, questions,
};
use self::server::{Server, Step, corrupt};
use crate::SystemClock;
use crate::journals::book::{Named, Page};
use crate::journals::memory::Memory;
use crate::journals::operations::{Database, Done, Failure, Marks, Op};
use crate::journals::redb::Unread;
use crate::journals::redb::pairs::Corrupt;
use crate::limits::REDIS_BATCH_MAX;
use crate::queue::Queue;
use crate::store::{Down, Sealer};

/// What every operation of this journal needs.
struct Shared {
    server: Arc<Server>,
    sealer: Arc<Sealer>,
    clock: Arc<SystemClock>,
    audit_key: Arc<AuditKey>,
    marks: Marks,
    memory: Memory,
}

/// The journal of one Redis database.
struct RedisJournal {
    shared: Arc<Shared>,
    queue: Queue<Op, Done>,
}

impl Database for Shared {
    const NAME: &'static str = "redis";
    const BATCH_MAX: usize = REDIS_BATCH_MAX;

    async fn attempt(&self, ops: &[&Op], is_thorough: bool) -> Result<Vec<Done>, Failure> {
        if !is_thorough && let Some(answers) = self.try_remembered(ops).await? {
            return Ok(answers);
        }
        // An operation that is alone is tried again here: each time it was overtaken, somebody else
        // got something done.
        let tries = if ops.len() == 1 { ALONE_TRIES_MAX } else { 1 };
        for _ in 0..tries {
            if let Some(answers) = self.try_once(ops).await? {
                return Ok(answers);
            }
        }
        let why = "others write to the same pair all the time";
        Err(if ops.len() == 1 {
            Failure::Down(Down::Unavailable(why.into()))
        } else {
            Failure::Refused(why.into())
        })
    }
}

/// How often an operation is tried that others overtake.
const ALONE_TRIES_MAX: usize = 32;

impl Shared {
    /// Applies to what is remembered and writes; nothing when that does not do.
    async fn try_remembered(&self, ops: &[&Op]) -> Result<Option<Vec<Done>>, Failure> {
        let doubts = self.server.doubts();
        let Some(mut sheets) = Sheets::remembered(self, ops, doubts) else {
            return Ok(None);
        };
        let answers: Vec<_> = ops.iter().map(|op| op.apply(&mut sheets.book)).collect();
        if !sheets.book.is_all_agreed(&answers) {
            return Ok(None);
        }
        self.write(sheets, answers, doubts, true).await
    }

    /// Reads, applies and writes; nothing when somebody else wrote in between.
    async fn try_once(&self, ops: &[&Op]) -> Result<Option<Vec<Done>>, Failure> {
        let doubts = self.server.doubts();
        let mut sheets = Sheets::read(self, ops).await.map_err(|why| self.failed(why))?;
        let answers: Vec<_> = ops.iter().map(|op| op.apply(&mut sheets.book)).collect();
        self.write(sheets, answers, doubts, false).await
    }

    /// `doubts`: how many there were when the sheets were made up, from memory or by reading.
    async fn write(
        &self,
        mut sheets: Sheets,
        answers: Vec<Done>,
        doubts: u64,
        is_remembered: bool,
    ) -> Result<Option<Vec<Done>>, Failure> {
        let now = self.marks.stale(self.clock.now().0);
        let change = sheets.change(&self.sealer, now);
        let change = change.map_err(|Corrupt(why)| Failure::Refused(why))?;
        if change.is_empty() {
            return Ok(Some(answers));
        }
        let written = if is_remembered {
            self.server.write_remembered(change, doubts).await
        } else {
            self.server.write(change).await
        };
        match written.map_err(|why| self.failed(why))? {
            Step::Done => {
                self.marks.written(now);
                self.memory.keep(sheets.book, doubts, is_remembered);
                Ok(Some(answers))
            }
            Step::Changed => {
                if is_remembered {
                    self.memory.was_wrong();
                }
                Ok(None)
            }
        }
    }

    /// Whatever failed may have been the sign of another server.
    fn failed(&self, unread: Unread) -> Failure {
        self.memory.forget_all();
        match unread {
            Unread::Down(down) => Failure::Down(down),
            Unread::Corrupt(Corrupt(why)) => Failure::Refused(why),
        }
    }
}

impl RedisJournal {
    fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { queue: Queue::start(Arc::clone(&shared)), shared }
    }

    /// The pair, and the present life of every node, as they stand at one moment.
    async fn look(&self, pair: &PairId) -> Result<(Option<Page>, Lives), Unread> {
        let mut asked = vec![cmd("HGETALL").arg(names::LIVES).clone()];
        asked.extend(questions(pair));
        let mut answers = self.shared.server.read(asked).await?;
        let lives = lives(&mut answers)?;
        let page = answered(&self.shared.sealer, pair, &mut answers)?;
        Ok((page.transpose().map_err(Unread::Corrupt)?, lives))
    }

    /// Counts the node's lives up by one, if nobody else does.
    async fn try_begin(&self, node: &NodeId) -> Result<Option<NodeLife>, Unread> {
        let server = &self.shared.server;
        let asked = cmd("HGET").arg(names::LIVES).arg(node.as_str()).clone();
        let last: Option<String> = server.read(vec![asked]).await?.next()?;
        let last = last.unwrap_or_default();
        let number = if last.is_empty() { Ok(0) } else { last.parse() };
        let number = number.map_err(|_| corrupt("lives row: it holds no number"))?;
        let life = NodeLife { node: node.clone(), incarnation: Incarnation(number).next() };
        let mut change = Change::default();
        change.check(names::LIVES, node.as_str(), last);
        change.set(names::LIVES, node.as_str(), life.incarnation.0.to_string());
        Ok(match server.write(change).await? {
            Step::Done => Some(life),
            Step::Changed => None,
        })
    }
}

type Lives = HashMap<NodeId, Incarnation>;

fn denied(Corrupt(why): Corrupt) -> Refusal {
    Refusal::denied(Denial::Corrupt, why)
}

#[async_trait]
impl Journal for RedisJournal {
    /// Grants of older lives count no more from here on; each one is deleted with the next write to
    /// its pair.
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal> {
        // Each try that fails is the success of another process under this name.
        const TRIES_MAX: usize = 16;
        self.shared.memory.forget_all();
        for _ in 0..TRIES_MAX {
            if let Some(life) = self.try_begin(node).await? {
                return Ok(life);
            }
        }
        Err(Refusal::busy(format!("many processes begin a life of {node} at once")))
    }

    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal> {
        let asked = cmd("HGETALL").arg(names::PAIRS).clone();
        let rows: HashMap<String, String> = self.shared.server.read(vec![asked]).await?.next()?;
        let summaries = rows.iter().map(|(name, value)| summary(name, value));
        let summaries: Option<Vec<_>> = summaries.collect();
        let foreign = || denied(Corrupt("the list of pairs has a foreign row".into()));
        let mut pairs = summaries.ok_or_else(foreign)?;
        pairs.sort_by(|a, b| (!a.has_work, &a.pair).cmp(&(!b.has_work, &b.pair)));
        Ok(pairs)
    }

    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal> {
        let (page, _) = self.look(pair).await?;
        Ok(page.and_then(|page| page.state.stored))
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
        page.and_then(|page| page.state.standing(of)).ok_or(GrantError::NoPair)
    }

    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal> {
        let (page, lives) = self.look(pair).await?;
        let grants = page.map_or_else(Vec::new, |page| page.state.grants);
        let valid = grants.iter().filter(|grant| {
            grant.version == version && lives.get(&grant.node) == Some(&grant.incarnation)
        });
        Ok(u32::try_from(valid.count()).unwrap_or(u32::MAX))
    }

    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal> {
        let asked = cmd("HGETALL").arg(PairKeys::new(pair).outbox()).clone();
        let rows = self.shared.server.read(vec![asked]).await?.next()?;
        open_events(&self.shared.sealer, pair, rows).map_err(denied)
    }

    async fn append_audit(&self, pair: &PairId, entry: &AuditEntry) -> Result<(), Refusal> {
        self.queue.append_audit(pair.clone(), entry.clone()).await
    }

    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal> {
        let keys = PairKeys::new(pair);
        let page = (1..=AUDIT_PAGE_MAX as u64).map(|n| after.saturating_add(n));
        let at = cmd("HGET").arg(names::AT).arg(&keys.name).clone();
        let head = cmd("HGET").arg(names::HEADS).arg(&keys.name).clone();
        let rows = cmd("HMGET").arg(keys.audit()).arg(page.clone().collect::<Vec<_>>()).clone();
        let mut answers = self.shared.server.read(vec![at, head, rows]).await?;
        let at: Option<String> = answers.next()?;
        let (head, rows): (Option<Vec<u8>>, Vec<Option<Vec<u8>>>) =
            (answers.next()?, answers.next()?);
        let sealer = &self.shared.sealer;
        let head = open_head(sealer, pair, head.as_deref()).map_err(denied)?;
        if !ends_with(at.as_deref(), head) {
            let why = format!("the audit of {pair} does not end where its row says");
            return Err(denied(Corrupt(why)));
        }
        let end = head.seq;
        let mut records = Vec::new();
        for (seq, row) in page.zip(rows).take_while(|(seq, _)| *seq <= end) {
            let missing =
                || Corrupt(format!("the audit of {pair} has {end} records and not {seq}"));
            let row = row.ok_or_else(missing).map_err(denied)?;
            records.push(open_audit(sealer, pair, seq, &row).map_err(denied)?);
        }
        Ok(records)
    }
}

impl From<Unread> for CommitError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Down(down) => down.into(),
            Unread::Corrupt(corrupt) => corrupt.into(),
        }
    }
}

fn summary(name: &str, value: &str) -> Option<PairSummary> {
    let (work, due) = value.split_once(' ')?;
    let next_rotate_at = match due {
        "-" => None,
        at => Some(Timestamp(at.parse().ok()?)),
    };
    Some(PairSummary { pair: names::read_pair(name)?, has_work: work == "work", next_rotate_at })
}
