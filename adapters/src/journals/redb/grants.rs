//! Grants and the lives of nodes.

use std::sync::Arc;

use keybaton_messages::{GrantId, NodeId, PairId, Version, VersionStatus};
use keybaton_ports::{GrantError, NodeLife, Standing};
use keybaton_rotation::{AuditKind, Gate};

use crate::journals::redb::Shared;
use crate::journals::redb::chain::grant_entry;
use crate::journals::redb::commit::write_grant;
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::{HeldGrant, grant_key, read_grant_key};
use crate::journals::{Stop, settle};
use crate::store::{Fault, RowKey, Rows, Table, Tables, Work};

impl From<Corrupt> for GrantError {
    fn from(Corrupt(why): Corrupt) -> Self {
        Self::Corrupt(why)
    }
}

/// What a grant operation names.
struct Named {
    shared: Arc<Shared>,
    pair: PairId,
    version: Version,
    life: NodeLife,
    id: GrantId,
}

impl Named {
    /// The pair and how it stands for this life, which must be the present one.
    fn look(
        &self,
        tables: &mut Tables<'_>,
    ) -> Result<(Arc<PairState>, Standing), Stop<GrantError>> {
        if !self.shared.pairs.is_batch_life(&self.life) {
            return Err(Stop::Refused(GrantError::Fenced));
        }
        let state = self.shared.pairs.batch_state(tables, &self.pair)?;
        match state.standing(&self.life) {
            Some(standing) => Ok((state, standing)),
            None => Err(Stop::Refused(GrantError::NoPair)),
        }
    }

    fn is_active(&self, state: &PairState) -> bool {
        let record = state.stored.as_ref().map(|stored| &stored.record);
        record.is_some_and(|record| record.status(self.version) == Some(VersionStatus::Active))
    }

    /// Audits the change, keeps it, and says how the pair stands with it.
    fn conclude(
        &self,
        tables: &mut Tables<'_>,
        mut next: PairState,
        kind: AuditKind,
    ) -> Result<Standing, Stop<GrantError>> {
        let entry = grant_entry(kind, self.version, self.id, &self.life);
        self.shared.append(tables, &self.pair, &mut next, &[entry], Some(&self.life), None)?;
        let standing = next.standing(&self.life);
        self.shared.pairs.change(&self.pair, next);
        standing.ok_or(Stop::Refused(GrantError::NoPair))
    }
}

/// K1: this life of this node may hand out this version.
pub(crate) struct Grant(Named);

impl Grant {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pair: &PairId,
        version: Version,
        to: &NodeLife,
        id: GrantId,
    ) -> Self {
        Self(Named { shared, pair: pair.clone(), version, life: to.clone(), id })
    }

    fn run(&self, tables: &mut Tables<'_>) -> Result<Standing, Stop<GrantError>> {
        let named = &self.0;
        let (state, standing) = named.look(tables)?;
        if !named.is_active(&state) || standing.gate != Gate::Open {
            return Err(Stop::Refused(GrantError::Refused(Box::new(standing))));
        }
        if standing.grants.iter().any(|grant| grant.version == named.version) {
            return Ok(standing);
        }
        let mut next = PairState::clone(&state);
        let grant = HeldGrant {
            version: named.version,
            node: named.life.node.clone(),
            incarnation: named.life.incarnation,
            id: named.id,
        };
        write_grant(&named.shared, tables, &named.pair, &mut next, &grant)?;
        named.conclude(tables, next, AuditKind::Granted)
    }
}

impl Work for Grant {
    type Answer = Result<Standing, GrantError>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        settle(self.run(tables))
    }
}

/// This grant is not used any more.
pub(crate) struct ReturnGrant(Named);

impl ReturnGrant {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pair: &PairId,
        version: Version,
        by: &NodeLife,
        id: GrantId,
    ) -> Self {
        Self(Named { shared, pair: pair.clone(), version, life: by.clone(), id })
    }

    fn run(&self, tables: &mut Tables<'_>) -> Result<Standing, Stop<GrantError>> {
        let named = &self.0;
        let (state, standing) = named.look(tables)?;
        let is_there = standing
            .grants
            .iter()
            .any(|grant| grant.version == named.version && grant.id == named.id);
        if !is_there {
            return Ok(standing);
        }
        if named.is_active(&state) {
            return Err(Stop::Refused(GrantError::Refused(Box::new(standing))));
        }
        let mut next = PairState::clone(&state);
        next.grants.retain(|grant| grant.id != named.id || grant.node != named.life.node);
        let key = grant_key(&named.pair, named.version, &named.life.node);
        tables.remove(Table::Grants, key.as_bytes())?;
        named.conclude(tables, next, AuditKind::GrantReturned)
    }
}

impl Work for ReturnGrant {
    type Answer = Result<Standing, GrantError>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        settle(self.run(tables))
    }
}

/// A node begins to live again: what its older lives held is void.
pub(crate) struct BeginLife {
    shared: Arc<Shared>,
    node: NodeId,
}

impl BeginLife {
    pub(crate) fn new(shared: Arc<Shared>, node: NodeId) -> Self {
        Self { shared, node }
    }
}

impl Work for BeginLife {
    type Answer = Result<NodeLife, Corrupt>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        let pairs = &self.shared.pairs;
        let key = RowKey::tenant(self.node.as_str());
        let last = pairs.batch_life(&self.node);
        if last.is_none() && tables.get(Table::Lives, key.as_bytes())?.is_some() {
            return Ok(Err(Corrupt("lives row: it cannot be opened".into())));
        }
        let life =
            NodeLife { node: self.node.clone(), incarnation: last.unwrap_or_default().next() };
        for (key, _) in tables.all(Table::Grants, &[])? {
            let Some((pair, node)) = owner_of(&key) else {
                continue;
            };
            if node != self.node {
                continue;
            }
            tables.remove(Table::Grants, &key)?;
            // A pair that cannot be opened keeps nothing in memory that would have to change.
            if let Ok(state) = pairs.batch_state::<Corrupt>(tables, &pair) {
                let mut next = PairState::clone(&state);
                next.grants.retain(|grant| grant.node != self.node);
                pairs.change(&pair, next);
            }
        }
        let bytes = self.shared.seal_short(Table::Lives, &key, &life.incarnation);
        tables.insert(Table::Lives, key.as_bytes(), &bytes)?;
        pairs.change_life(&life);
        Ok(Ok(life))
    }
}

fn owner_of(key: &[u8]) -> Option<(PairId, NodeId)> {
    let pair = RowKey::read_pair(key)?;
    let rest = &key[RowKey::pair(&pair).as_bytes().len()..];
    let (_, node) = read_grant_key(rest)?;
    Some((pair, node))
}
