//! The world's brokers: rules K1 and K2, with their own losses and delays.

use std::collections::BTreeMap;

use keybaton_messages::{Rev, Version};

use crate::journal::Standing;

/// One version on one node.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub open: bool,
    pub grant: u64,
    /// Holder and whether it is a session that leaves when asked.
    pub holders: BTreeMap<u64, bool>,
}

/// A grant operation; a broker has one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Grant(Version),
    Return(Version, u64),
}

#[derive(Default)]
pub struct Broker {
    pub alive: bool,
    pub incarnation: u64,
    pub slots: BTreeMap<Version, Slot>,
    pub op: Option<(u64, Op)>,
    pub rev: Rev,
    /// Questions asked up to this one are stale: a return was answered since.
    pub stale_until: u64,
    pub view: Option<Standing>,
}

impl Broker {
    /// A process begins: nothing is remembered.
    pub fn start(&mut self, incarnation: u64) {
        *self = Self { alive: true, incarnation, ..Self::default() };
    }

    /// Whether an answer to question `asked` may be used.
    pub fn accepts(&self, asked: u64, standing: &Standing) -> bool {
        let is_returning = matches!(self.op, Some((_, Op::Return(..))));
        standing.rev >= self.rev && asked > self.stale_until && !is_returning
    }

    /// Takes an answer: closes what is not active, opens what is and was granted.
    pub fn apply(&mut self, standing: Standing) {
        self.rev = standing.rev;
        for (version, slot) in &mut self.slots {
            if standing.active != Some(*version) {
                slot.open = false;
            }
        }
        if let Some(active) = standing.active
            && let Some(grant) = standing.grants.get(&active)
        {
            let slot = self.slots.entry(active).or_default();
            slot.open = true;
            slot.grant = grant.id;
        }
        self.view = Some(standing);
    }

    /// The next grant operation that is needed.
    pub fn next_op(&self) -> Option<Op> {
        let view = self.view.as_ref()?;
        let leaving = view.grants.iter().find(|(version, _)| {
            let is_empty = self.slots.get(version).is_none_or(|s| !s.open && s.holders.is_empty());
            view.active != Some(**version) && is_empty
        });
        if let Some((version, grant)) = leaving {
            return Some(Op::Return(*version, grant.id));
        }
        view.active.filter(|active| !view.grants.contains_key(active)).map(Op::Grant)
    }

    pub fn cut(&mut self, version: Version) {
        if let Some(slot) = self.slots.get_mut(&version).filter(|slot| !slot.open) {
            slot.holders.clear();
        }
    }

    /// Sessions leave when they are asked; calls are never asked.
    pub fn signal(&mut self, version: Version) {
        if let Some(slot) = self.slots.get_mut(&version).filter(|slot| !slot.open) {
            slot.holders.retain(|_, is_session| !*is_session);
        }
    }
}
