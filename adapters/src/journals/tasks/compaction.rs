//! Which rows nobody needs any more, and which segments are worth being written anew without them.
//!
//! A row that dies stays where it is until three quarters of its segment's rows are dead; the segment
//! is then written anew with the others, or removed with the last. A row that was written alone goes
//! as soon as it is dead, and nothing is remembered of it before.
//!
//! **Invariant:** what a batch does to segments counts when it is committed, not before. What dies
//! meanwhile is not lost.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::limits::{LONE_ROWS_DUE_MAX, SEGMENTS_THINNED_PER_BATCH_MAX};
use crate::store::{Fault, Tables};

/// A segment is due when its dead rows are this many times those that live.
const DEAD_FOR_EACH_ALIVE: usize = 3;

/// All segments of the entries, each by the number of its first row.
#[derive(Default)]
pub(super) struct Compaction {
    segments: BTreeMap<u64, Stored>,
    /// The places of the rows in each that nobody needs.
    dead: HashMap<u64, Vec<u16>, RandomState>,
    /// Segments and lone rows that are due, oldest first. Each segment once.
    due: VecDeque<u64>,
    /// What the present batch does to the first of the due.
    under_way: Vec<Thinned>,
}

/// A segment of more than one row, as it is stored.
struct Stored {
    /// Rows that are in it.
    rows: usize,
    /// Numbers that it takes up.
    places: u16,
}

/// A segment that a batch has thinned.
struct Thinned {
    first: u64,
    /// How many of its dead rows went.
    gone: usize,
    /// How many of its rows are left.
    left: usize,
}

impl Compaction {
    /// A segment was written, or found.
    pub(super) fn add(&mut self, first: u64, rows: usize, places: u16) {
        if places > 1 {
            self.segments.insert(first, Stored { rows, places });
        }
    }

    /// Nobody needs this row any more.
    pub(super) fn bury(&mut self, row: u64) {
        let home = self.segments.range(..=row).next_back().and_then(|(first, stored)| {
            let place = u16::try_from(row - first).ok()?;
            (place < stored.places).then_some((*first, place, stored.rows))
        });
        let Some((first, place, rows)) = home else {
            // A lone row; what is not noted here is found again at the next start.
            if self.due.len() < LONE_ROWS_DUE_MAX {
                self.due.push_back(row);
            }
            return;
        };
        let dead = self.dead.entry(first).or_default();
        if dead.contains(&place) {
            return;
        }
        let was_due = is_due(rows, dead.len());
        dead.push(place);
        if is_due(rows, dead.len()) && !was_due {
            self.due.push_back(first);
        }
    }

    /// Thins segments that are due, within the batch.
    pub(super) fn thin(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.under_way.clear();
        for &first in self.due.iter().take(SEGMENTS_THINNED_PER_BATCH_MAX) {
            // Of a lone row nothing is noted; it has the first place and no other.
            let dead = self.dead.get(&first).map_or(&[0][..], Vec::as_slice);
            let left = tables.thin_segment(first, dead)?;
            self.under_way.push(Thinned { first, gone: dead.len(), left });
        }
        Ok(())
    }

    /// The batch is committed.
    pub(super) fn committed(&mut self) {
        for thinned in std::mem::take(&mut self.under_way) {
            self.due.pop_front();
            self.forget(&thinned);
        }
    }

    fn forget(&mut self, Thinned { first, gone, left }: &Thinned) {
        if *left == 0 {
            self.segments.remove(first);
            self.dead.remove(first);
            return;
        }
        if let Some(stored) = self.segments.get_mut(first) {
            stored.rows = *left;
        }
        let dead = self.dead.remove(first).unwrap_or_default().split_off(*gone);
        if is_due(*left, dead.len()) {
            self.due.push_back(*first);
        }
        if !dead.is_empty() {
            self.dead.insert(*first, dead);
        }
    }
}

fn is_due(rows: usize, dead: usize) -> bool {
    dead > 0 && dead >= DEAD_FOR_EACH_ALIVE * rows.saturating_sub(dead)
}
