//! What this process last committed of each pair, so that the next transaction on it need not read
//! first.
//!
//! What is taken from here to be changed is forgotten with that; only a transaction that is known to
//! be committed puts it back. So nothing is remembered of a pair whose last transaction failed, was
//! refused, or ended in a way that nobody knows.
//!
//! **Invariant:** what is remembered only ever says yes. An operation that it would refuse is decided
//! on what the database says, and so is every one beside it in its transaction.
//! **Invariant:** whoever writes what was remembered has the database compare, in the same
//! transaction, every page and every life that was believed.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use keybaton_messages::{Incarnation, NodeId, PairId};
use parking_lot::Mutex;

use crate::journals::book::{Book, Page, Pages};
use crate::journals::wanted::Wanted;
use crate::limits::{MEMORY_REST_DOUBLINGS_MAX, PAIRS_IN_MEMORY_MAX};

/// Pairs as this process last committed them, and lives as it last saw them.
#[derive(Default)]
pub(super) struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    kept: HashMap<PairId, Box<Page>, RandomState>,
    lives: HashMap<NodeId, Incarnation>,
    /// How many doubts the database had given when all of this was true.
    doubts: u64,
    /// Comparisons lost in a row.
    losses: u32,
    /// Transactions that are still to be read before what is remembered is believed again.
    rest: u32,
}

/// All that some operations need.
pub(super) struct Taken {
    pub(super) pages: Pages,
    /// Whoever writes, and whoever holds a grant on one of the pages. All of them are to be
    /// compared.
    pub(super) lives: HashMap<NodeId, Incarnation>,
}

impl Inner {
    /// Nothing is remembered from before these doubts.
    fn forget_before(&mut self, doubts: u64) {
        if self.doubts < doubts {
            *self = Self { doubts, ..Self::default() };
        }
    }
}

impl Memory {
    /// What the operations need, if all of it is remembered and nothing has been in doubt since.
    pub(super) fn take(&self, wanted: &Wanted, doubts: u64) -> Option<Taken> {
        let mut inner = self.0.lock();
        inner.forget_before(doubts);
        if inner.doubts != doubts
            || wanted.is_beside_pages
            || !wanted.pairs.iter().all(|pair| inner.kept.contains_key(pair))
        {
            return None;
        }
        if inner.rest > 0 {
            inner.rest -= 1;
            return None;
        }
        let mut pages = Pages::with_capacity_and_hasher(wanted.pairs.len(), RandomState::default());
        for pair in &wanted.pairs {
            let (pair, page) = inner.kept.remove_entry(pair)?;
            pages.insert(pair, Ok(page));
        }
        let mut lives = HashMap::new();
        let seen = pages.values().flatten();
        let holders = seen.flat_map(|page| page.seen_grants.iter().map(|grant| &grant.node));
        for node in wanted.writers.iter().chain(holders) {
            if !lives.contains_key(node) {
                lives.insert(node.clone(), *inner.lives.get(node)?);
            }
        }
        Some(Taken { pages, lives })
    }

    /// Nothing is remembered of these pairs.
    pub(super) fn forget(&self, wanted: &Wanted) {
        let mut inner = self.0.lock();
        for pair in &wanted.pairs {
            inner.kept.remove(pair);
        }
    }

    /// Nothing is remembered at all.
    pub(super) fn forget_all(&self) {
        let mut inner = self.0.lock();
        inner.kept.clear();
        inner.lives.clear();
    }

    /// Something was not as it was remembered. Where others write to the same pairs all the time,
    /// reading at once costs less than being told so each time.
    pub(super) fn was_wrong(&self) {
        let mut inner = self.0.lock();
        inner.losses = (inner.losses + 1).min(MEMORY_REST_DOUBLINGS_MAX);
        inner.rest = (1 << inner.losses) - 2;
    }

    /// Remembers the pages of a transaction that is known to be committed. `doubts`: how many there
    /// were when it was made up; if there have been more since, it may be known of another server than
    /// the present one. `was_right`: it was made up from what was remembered.
    pub(super) fn keep(&self, book: Book, doubts: u64, was_right: bool) {
        let mut inner = self.0.lock();
        inner.forget_before(doubts);
        if inner.doubts != doubts {
            return;
        }
        if was_right {
            inner.losses = 0;
        }
        for (node, life) in book.lives {
            let is_other = inner.lives.insert(node, life).is_some_and(|known| known != life);
            if is_other {
                // Grants of the life that has ended are gone without a trace on their pages.
                inner.kept.clear();
            }
        }
        for (pair, page) in book.pages {
            let Ok(mut page) = page else { continue };
            if !page.is_touched {
                continue;
            }
            if inner.kept.len() >= PAIRS_IN_MEMORY_MAX {
                inner.kept.clear();
            }
            page.turn();
            inner.kept.insert(pair, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use keybaton_messages::Timestamp;
    use keybaton_ports::AuditKey;

    use super::*;
    use crate::SystemClock;

    fn pair() -> PairId {
        PairId::new("acme".parse().unwrap(), "openai".parse().unwrap())
    }

    /// A transaction that wrote one pair.
    fn written() -> Book {
        let page = Page { is_touched: true, ..Page::blank() };
        Book {
            clock: Arc::new(SystemClock::start(Timestamp(1))),
            audit_key: Arc::new(AuditKey::new([1; 32])),
            lives: HashMap::new(),
            pages: Pages::from_iter([(pair(), Ok(Box::new(page)))]),
            claims: HashMap::new(),
            facts: HashSet::new(),
        }
    }

    #[test]
    fn what_was_made_up_before_a_doubt_is_not_remembered_behind_it() {
        let wanted = Wanted { pairs: [pair()].into_iter().collect(), ..Wanted::default() };
        let memory = Memory::default();
        let remembered = |doubts| {
            let taken = memory.take(&wanted, doubts)?;
            taken.pages.values().flatten().map(|page| page.seen).next()
        };
        memory.keep(written(), 0, false);
        assert_eq!(remembered(0), Some(1), "as it was committed");
        memory.keep(written(), 0, false);
        assert_eq!(remembered(1), None, "from before the doubt");
        memory.keep(written(), 0, true);
        assert_eq!(remembered(1), None, "answered late, perhaps by another server");
        memory.keep(written(), 1, false);
        assert_eq!(remembered(0), None, "asked before the doubt");
        assert_eq!(remembered(1), Some(1));
    }
}
