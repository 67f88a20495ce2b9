//! Decoded pairs in memory. The lock on the directory makes them authoritative.
//!
//! **Invariant:** what others read is committed; what a batch changes stays apart until it is.

use std::collections::HashMap;
use std::sync::Arc;

use keybaton_messages::{Incarnation, NodeId, PairId, Version, VersionStatus};
use keybaton_ports::{GrantRow, NodeLife, Standing, StoredPair};
use parking_lot::Mutex;

use crate::journals::Stop;
use crate::journals::redb::Unread;
use crate::journals::redb::rows::{
    AuditHead, GrantValue, HeldGrant, open, open_record, read_grant_key,
};
use crate::limits::PAIRS_IN_MEMORY_MAX;
use crate::store::{Fault, Reader, Resident, RowKey, Rows, Sealer, Store, Table};

/// Stored bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt(pub(crate) String);

/// All that the journal knows of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairState {
    pub(crate) stored: Option<StoredPair>,
    pub(crate) grants: Vec<HeldGrant>,
    pub(crate) head: AuditHead,
}

impl PairState {
    /// How the pair stands for one node; none for a pair that was never written.
    pub(crate) fn standing(&self, of: &NodeLife) -> Option<Standing> {
        let record = &self.stored.as_ref()?.record;
        let active = record.active.and_then(|version| {
            let entry = record.versions.get(&version)?;
            Some((version, entry.secret?, entry.fp?))
        });
        let mine = self
            .grants
            .iter()
            .filter(|grant| grant.node == of.node && grant.incarnation == of.incarnation);
        Some(Standing {
            rev: record.rev,
            gate: record.gate,
            active,
            grants: mine
                .map(|grant| GrantRow {
                    version: grant.version,
                    id: grant.id,
                    status: self.status(grant.version),
                })
                .collect(),
        })
    }

    /// A granted version was ACTIVE once; one that the record has forgotten has therefore ended
    /// as REVOKED.
    fn status(&self, version: Version) -> VersionStatus {
        self.stored
            .as_ref()
            .and_then(|stored| stored.record.status(version))
            .unwrap_or(VersionStatus::Revoked)
    }
}

#[derive(Default)]
struct Inner {
    kept: HashMap<PairId, Arc<PairState>>,
    changed: HashMap<PairId, Arc<PairState>>,
    lives: HashMap<NodeId, Incarnation>,
    changed_lives: HashMap<NodeId, Incarnation>,
    /// One more at every commit, so that a reader that was overtaken by one keeps nothing.
    commits: u64,
}

/// Pairs and lives in memory.
pub(crate) struct Pairs {
    sealer: Arc<Sealer>,
    inner: Mutex<Inner>,
}

impl Pairs {
    pub(crate) fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer, inner: Mutex::default() }
    }

    /// The pair as last committed.
    pub(crate) fn committed_state(
        &self,
        store: &Store,
        pair: &PairId,
    ) -> Result<Arc<PairState>, Unread> {
        let commits = {
            let inner = self.inner.lock();
            if let Some(state) = inner.kept.get(pair) {
                return Ok(Arc::clone(state));
            }
            inner.commits
        };
        let loaded = store
            .read(|reader| match self.load(reader, pair) {
                Ok(state) => Ok(Ok(Arc::new(state))),
                Err(Stop::Refused(corrupt)) => Ok(Err(corrupt)),
                Err(Stop::Fault(fault)) => Err(fault),
            })
            .map_err(Unread::Down)?;
        let state = loaded.map_err(Unread::Corrupt)?;
        let mut inner = self.inner.lock();
        if inner.commits == commits {
            inner.keep(pair.clone(), Arc::clone(&state));
        }
        Ok(state)
    }

    /// The pair as the present batch has it.
    pub(crate) fn batch_state<E: From<Corrupt>>(
        &self,
        rows: &mut impl Rows,
        pair: &PairId,
    ) -> Result<Arc<PairState>, Stop<E>> {
        {
            let inner = self.inner.lock();
            let known = inner.changed.get(pair).or_else(|| inner.kept.get(pair));
            if let Some(state) = known {
                return Ok(Arc::clone(state));
            }
        }
        let state = self.load(rows, pair).map_err(|stop| match stop {
            Stop::Fault(fault) => Stop::Fault(fault),
            Stop::Refused(corrupt) => Stop::Refused(corrupt.into()),
        })?;
        let state = Arc::new(state);
        self.inner.lock().keep(pair.clone(), Arc::clone(&state));
        Ok(state)
    }

    /// What the batch makes of the pair.
    pub(crate) fn change(&self, pair: &PairId, state: PairState) {
        let mut inner = self.inner.lock();
        inner.changed.insert(pair.clone(), Arc::new(state));
    }

    pub(crate) fn batch_life(&self, node: &NodeId) -> Option<Incarnation> {
        let inner = self.inner.lock();
        let life = inner.changed_lives.get(node).or_else(|| inner.lives.get(node));
        life.copied()
    }

    pub(crate) fn change_life(&self, life: &NodeLife) {
        let mut inner = self.inner.lock();
        inner.changed_lives.insert(life.node.clone(), life.incarnation);
    }

    /// Whether no later life of the node has begun, as last committed.
    pub(crate) fn is_present_life(&self, life: &NodeLife) -> bool {
        self.inner.lock().lives.get(&life.node) == Some(&life.incarnation)
    }

    /// Whether no later life of the node has begun, as the batch has it.
    pub(crate) fn is_batch_life(&self, life: &NodeLife) -> bool {
        self.batch_life(&life.node) == Some(life.incarnation)
    }

    /// Grants of a version whose node still lives that life, as last committed.
    pub(crate) fn count_valid(&self, state: &PairState, version: Version) -> u32 {
        let inner = self.inner.lock();
        let valid = state.grants.iter().filter(|grant| {
            grant.version == version && inner.lives.get(&grant.node) == Some(&grant.incarnation)
        });
        u32::try_from(valid.count()).unwrap_or(u32::MAX)
    }

    /// Grants of a version whose node still lives that life, as the batch has it.
    pub(crate) fn batch_valid(&self, state: &PairState, version: Version) -> Vec<HeldGrant> {
        state
            .grants
            .iter()
            .filter(|grant| {
                grant.version == version && self.batch_life(&grant.node) == Some(grant.incarnation)
            })
            .cloned()
            .collect()
    }

    fn load(&self, rows: &mut impl Rows, pair: &PairId) -> Result<PairState, Stop<Corrupt>> {
        let key = RowKey::pair(pair);
        let stored = match rows.get(Table::Records, key.as_bytes())? {
            None => None,
            Some(bytes) => Some(
                open_record(&self.sealer, key.as_bytes(), pair, &bytes).map_err(Stop::Refused)?,
            ),
        };
        let head = match rows.get(Table::AuditHeads, key.as_bytes())? {
            None => AuditHead::START,
            Some(bytes) => open(&self.sealer, Table::AuditHeads, key.as_bytes(), &bytes)
                .map_err(Stop::Refused)?,
        };
        let mut grants = Vec::new();
        for (row, bytes) in rows.all(Table::Grants, key.as_bytes())? {
            let rest = &row[key.as_bytes().len()..];
            let (version, node) = read_grant_key(rest)
                .ok_or_else(|| Stop::Refused(Corrupt("grant row: its key is foreign".into())))?;
            let value: GrantValue =
                open(&self.sealer, Table::Grants, &row, &bytes).map_err(Stop::Refused)?;
            grants.push(HeldGrant { version, node, incarnation: value.incarnation, id: value.id });
        }
        Ok(PairState { stored, grants, head })
    }
}

impl Inner {
    fn keep(&mut self, pair: PairId, state: Arc<PairState>) {
        if self.kept.len() >= PAIRS_IN_MEMORY_MAX {
            self.kept.clear();
        }
        self.kept.insert(pair, state);
    }
}

impl Resident for Pairs {
    fn committed(&self) {
        let mut inner = self.inner.lock();
        inner.commits += 1;
        let changed = std::mem::take(&mut inner.changed);
        for (pair, state) in changed {
            inner.keep(pair, state);
        }
        let lives = std::mem::take(&mut inner.changed_lives);
        inner.lives.extend(lives);
    }

    fn reload(&self, reader: &mut Reader) -> Result<(), Fault> {
        let mut lives = HashMap::new();
        for (key, bytes) in reader.all(Table::Lives, &[])? {
            // A life that cannot be opened is left out, which fences that node: it has to begin a
            // new one, and that is refused as corrupt.
            let node = key
                .split_first()
                .and_then(|(_, name)| std::str::from_utf8(name).ok()?.parse().ok());
            if let (Some(node), Ok(life)) =
                (node, open::<Incarnation>(&self.sealer, Table::Lives, &key, &bytes))
            {
                lives.insert(node, life);
            }
        }
        let mut inner = self.inner.lock();
        let commits = inner.commits + 1;
        *inner = Inner { lives, commits, ..Inner::default() };
        Ok(())
    }
}
