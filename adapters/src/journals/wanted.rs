//! What the operations of one transaction have to see before they can be applied.

use std::collections::{BTreeSet, HashSet};

use foldhash::fast::RandomState;
use indexmap::IndexSet;
use keybaton_messages::{NodeId, PairId};
use keybaton_rotation::{AuditKind, Guard};

use crate::audit::word_of;
use crate::journals::book::{ClaimKey, Fact, claims_of};
use crate::journals::operations::Op;

/// What the operations of one transaction name.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) pairs: IndexSet<PairId, RandomState>,
    pub(super) writers: BTreeSet<NodeId>,
    pub(super) claims: HashSet<ClaimKey>,
    pub(super) facts: Vec<Fact>,
    /// Something is asked that stands on no page, and that no index refuses either.
    pub(super) is_beside_pages: bool,
}

impl Wanted {
    /// Adds what one operation names.
    pub(super) fn add(&mut self, op: &Op, is_thorough: bool) {
        match op {
            Op::Commit(commit) => {
                let transaction = &commit.transaction;
                let record = &transaction.record;
                let pair = &record.pair;
                self.pairs.insert(pair.clone());
                self.write_as(&transaction.by.node);
                for guard in &transaction.guards {
                    if let Guard::KeyUnclaimed { version, key_id, fp } = guard {
                        // What the record says itself is claimed with it, or was long ago.
                        let entry = record.versions.get(version);
                        self.is_beside_pages |= !entry.is_some_and(|entry| {
                            entry.key_id.as_ref() == Some(key_id)
                                && (fp.is_none() || entry.fp == *fp)
                        });
                        let claims = claims_of(transaction, *version, Some(key_id), fp.as_ref());
                        self.claim(claims.into_iter().map(|(claim, _)| claim));
                    }
                }
                // What no guard asks for is claimed by the unique indexes; only when they refuse
                // is it worth to find out whose it is.
                for (version, entry) in record.versions.iter().filter(|_| is_thorough) {
                    let (key, fp) = (entry.key_id.as_ref(), entry.fp.as_ref());
                    let claims = claims_of(transaction, *version, key, fp);
                    self.claim(claims.into_iter().map(|(claim, _)| claim));
                }
                for entry in &transaction.audit {
                    self.facts.push((pair.clone(), word_of(entry.kind), entry.dedupe.clone()));
                }
            }
            Op::Grant(named) | Op::Return(named) => {
                let is_grant = matches!(op, Op::Grant(_));
                let kind = if is_grant { AuditKind::Granted } else { AuditKind::GrantReturned };
                self.pairs.insert(named.pair.clone());
                self.write_as(&named.life.node);
                self.facts.push((named.pair.clone(), word_of(kind), named.id.to_string()));
            }
            Op::Audit(pair, entry) => {
                self.pairs.insert(pair.clone());
                self.facts.push((pair.clone(), word_of(entry.kind), entry.dedupe.clone()));
            }
        }
    }

    /// Most write as one node, whose name everybody shares: it is not counted up for nothing.
    fn write_as(&mut self, node: &NodeId) {
        if !self.writers.contains(node) {
            self.writers.insert(node.clone());
        }
    }

    fn claim(&mut self, claims: impl Iterator<Item = ClaimKey>) {
        self.claims.extend(claims);
    }
}
