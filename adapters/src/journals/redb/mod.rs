//! The journal of pair records in the embedded store.
//!
//! | table | holds |
//! |---|---|
//! | `records` | the record of a pair and the transaction that wrote it |
//! | `versions`, `key_claims`, `secret_claims` | every version that ever was, and whose a key is |
//! | `grants`, `lives` | which node may hand out which version, and each node's present life |
//! | `audit`, `audit_heads`, `audit_facts` | the chain, its end, and what it has already |
//! | `outbox` | events that are not yet acknowledged |
//!
//! Every grant, copied ones included, and every return is audited here, because no record changes
//! with them.

pub(super) mod chain;
pub(super) mod commit;
mod grants;
pub(super) mod pairs;
pub(super) mod rows;
mod sealed;

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Event, GrantId, NodeId, PairId, Rev, Version};
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{
    AuditKey, CommitError, Denial, GrantError, Journal, NodeLife, PairSummary, Refusal,
    SealedAudit, Standing, StoredPair, Transaction,
};
use keybaton_rotation::AuditEntry;

use crate::SystemClock;
use crate::store::{Down, RowKey, Rows, Sealer, Store, Table};

use chain::AppendAudit;
use commit::Commit;
use grants::{BeginLife, Grant, ReturnGrant};
pub(crate) use pairs::Pairs;
use pairs::{Corrupt, PairState};
pub use sealed::SealedRecords;

/// What every operation of this journal needs.
pub(crate) struct Shared {
    sealer: Arc<Sealer>,
    pairs: Arc<Pairs>,
    clock: Arc<SystemClock>,
    audit_key: Arc<AuditKey>,
}

/// The journal of one embedded store.
pub struct RedbJournal {
    store: Arc<Store>,
    shared: Arc<Shared>,
}

impl RedbJournal {
    pub(crate) fn new(
        store: Arc<Store>,
        sealer: Arc<Sealer>,
        pairs: Arc<Pairs>,
        clock: Arc<SystemClock>,
        audit_key: Arc<AuditKey>,
    ) -> Self {
        Self { store, shared: Arc::new(Shared { sealer, pairs, clock, audit_key }) }
    }

    /// The pair as last committed.
    fn state(&self, pair: &PairId) -> Result<Arc<PairState>, Unread> {
        self.shared.pairs.committed_state(&self.store, pair)
    }
}

/// Why a pair could not be read.
#[derive(Clone)]
pub(crate) enum Unread {
    Down(Down),
    Corrupt(Corrupt),
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Down(down) => down.into(),
            Unread::Corrupt(Corrupt(why)) => Self::denied(Denial::Corrupt, why),
        }
    }
}

impl From<Unread> for GrantError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Down(down) => down.into(),
            Unread::Corrupt(Corrupt(why)) => Self::Corrupt(why),
        }
    }
}

impl From<Down> for Refusal {
    fn from(down: Down) -> Self {
        match down {
            Down::Unavailable(why) => Self::busy(why),
            Down::Unknown(why) => Self::unknown(why),
        }
    }
}

impl From<Down> for GrantError {
    fn from(down: Down) -> Self {
        match down {
            Down::Unavailable(why) => Self::Unavailable(why),
            Down::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl From<Down> for CommitError {
    fn from(down: Down) -> Self {
        match down {
            Down::Unavailable(why) => Self::Unavailable(why),
            Down::Unknown(why) => Self::Unknown(why),
        }
    }
}

#[async_trait]
impl Journal for RedbJournal {
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal> {
        let work = BeginLife::new(Arc::clone(&self.shared), node.clone());
        self.store.submit(work).await?.map_err(denied)
    }

    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal> {
        let rows = self.store.read(|reader| reader.all(Table::Records, &[]))?;
        let mut pairs: Vec<_> =
            rows.iter().filter_map(|(key, bytes)| self.shared.summary(key, bytes)).collect();
        pairs.sort_by(|a, b| (!a.has_work, &a.pair).cmp(&(!b.has_work, &b.pair)));
        Ok(pairs)
    }

    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal> {
        Ok(self.state(pair)?.stored.clone())
    }

    async fn commit(&self, transaction: Transaction) -> Result<Rev, CommitError> {
        let work = Commit::prepare(Arc::clone(&self.shared), transaction)?;
        self.store.submit(work).await?
    }

    async fn grant(
        &self,
        pair: &PairId,
        version: Version,
        to: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let work = Grant::new(Arc::clone(&self.shared), pair, version, to, id);
        self.store.submit(work).await?
    }

    async fn return_grant(
        &self,
        pair: &PairId,
        version: Version,
        by: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let work = ReturnGrant::new(Arc::clone(&self.shared), pair, version, by, id);
        self.store.submit(work).await?
    }

    async fn standing(&self, pair: &PairId, of: &NodeLife) -> Result<Standing, GrantError> {
        if !self.shared.pairs.is_present_life(of) {
            return Err(GrantError::Fenced);
        }
        self.state(pair)?.standing(of).ok_or(GrantError::NoPair)
    }

    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal> {
        let state = self.state(pair)?;
        Ok(self.shared.pairs.count_valid(&state, version))
    }

    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal> {
        let prefix = RowKey::pair(pair);
        let rows = self.store.read(|reader| reader.all(Table::Outbox, prefix.as_bytes()))?;
        rows.iter().map(|(key, bytes)| self.shared.open_event(key, bytes).map_err(denied)).collect()
    }

    async fn append_audit(&self, pair: &PairId, entry: &AuditEntry) -> Result<(), Refusal> {
        let work = AppendAudit::new(Arc::clone(&self.shared), pair, entry);
        self.store.submit(work).await?.map_err(denied)
    }

    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal> {
        let end = self.state(pair).map_or(0, |state| state.head.seq);
        let prefix = RowKey::pair(pair);
        let from = RowKey::pair(pair).number(after.saturating_add(1));
        let rows = self.store.read(|reader| {
            reader.scan(Table::Audit, prefix.as_bytes(), from.as_bytes(), AUDIT_PAGE_MAX)
        })?;
        let open = |(key, bytes): &(Vec<u8>, Vec<u8>)| self.shared.open_audit(key, bytes);
        let page: Vec<_> = rows.iter().map(open).collect::<Result<_, _>>().map_err(denied)?;
        let last = page.last().map_or(after, |record| record.seq);
        if page.len() < AUDIT_PAGE_MAX && last < end {
            let why = format!("the audit of {pair} was cut off behind {last}; it had {end}");
            return Err(denied(Corrupt(why)));
        }
        Ok(page)
    }
}

fn denied(Corrupt(why): Corrupt) -> Refusal {
    Refusal::denied(Denial::Corrupt, why)
}
