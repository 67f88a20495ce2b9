//! Rows that one commit writes behind each other lie in one value: a segment.
//!
//! ```text
//!   segment = [rows 2] [end of each 4] ‖ row ‖ row ‖ …      keyed by the number of its first row
//!   lone row = row                                          begins with two bytes of zero
//! ```
//!
//! The database writes whole pages of 4 KiB. A row with a checkpoint in it is longer than half of
//! one and would have a page to itself; of shorter ones a page is seldom full. In segments a burst
//! of hand-overs writes half the bytes, and a row costs the database half as much.
//!
//! **Invariant:** a row keeps its number for ever; a row that was removed leaves an empty place.
//! **Invariant:** bytes that are no segment are never taken for one.

use std::ops::Range;

use crate::limits::SEGMENT_BYTES_MAX;

/// In front: how many rows there are. Never zero, which tells a segment from a lone row.
const COUNT_BYTES: usize = 2;

/// For each row: where it ends, counted from the first one's begin.
const END_BYTES: usize = 4;

/// Rows as they lie in one value.
pub(crate) enum Segment<'a> {
    Lone(&'a [u8]),
    Many { ends: &'a [[u8; END_BYTES]], rows: &'a [u8] },
}

impl<'a> Segment<'a> {
    /// `None` when the bytes are no segment.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<COUNT_BYTES>()?;
        let count = usize::from(u16::from_be_bytes(*count));
        if count == 0 {
            return Some(Self::Lone(bytes));
        }
        let (ends, rows) = rest.split_at_checked(count * END_BYTES)?;
        let (ends, _) = ends.as_chunks();
        let is_in_order = ends.is_sorted_by_key(|end| u32::from_be_bytes(*end));
        (is_in_order && end(ends.last()?) == rows.len()).then_some(Self::Many { ends, rows })
    }

    /// Numbers that it takes up, also of rows that were removed.
    pub(crate) fn places(&self) -> u16 {
        match self {
            Self::Lone(_) => 1,
            Self::Many { ends, .. } => u16::try_from(ends.len()).unwrap_or(u16::MAX),
        }
    }

    /// The row at this place, unless it was removed.
    pub(crate) fn row(&self, place: u16) -> Option<&'a [u8]> {
        match self {
            Self::Lone(row) => (place == 0).then_some(*row),
            Self::Many { ends, rows } => {
                let range = range(ends, usize::from(place))?;
                rows.get(range).filter(|row| !row.is_empty())
            }
        }
    }

    /// Every row that is there, with its place.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        (0..self.places()).filter_map(|place| Some((place, self.row(place)?)))
    }

    /// The same rows without those at these places.
    pub(crate) fn without(&self, removed: &[u16]) -> Vec<u8> {
        let mut kept = Filling::default();
        for place in 0..self.places() {
            let row = self.row(place).filter(|_| !removed.contains(&place));
            kept.push(row.unwrap_or_default());
        }
        kept.close()
    }
}

fn end(end: &[u8; END_BYTES]) -> usize {
    usize::try_from(u32::from_be_bytes(*end)).unwrap_or(usize::MAX)
}

fn range(ends: &[[u8; END_BYTES]], place: usize) -> Option<Range<usize>> {
    let after = end(ends.get(place)?);
    let begin = place.checked_sub(1).map_or(0, |before| end(&ends[before]));
    Some(begin..after)
}

/// Rows that will be one value.
#[derive(Default)]
pub(crate) struct Filling {
    ends: Vec<[u8; END_BYTES]>,
    rows: Vec<u8>,
}

impl Filling {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many rows it has.
    pub(crate) fn places(&self) -> u16 {
        u16::try_from(self.ends.len()).unwrap_or(u16::MAX)
    }

    /// Whether one more row of so many bytes fits. The first one always does.
    pub(crate) fn has_room(&self, row_bytes: usize) -> bool {
        let bytes = COUNT_BYTES + (self.ends.len() + 1) * END_BYTES + self.rows.len() + row_bytes;
        self.is_empty() || (bytes <= SEGMENT_BYTES_MAX && self.places() < u16::MAX)
    }

    pub(crate) fn push(&mut self, row: &[u8]) {
        self.rows.extend_from_slice(row);
        let end = u32::try_from(self.rows.len()).expect("a segment is far shorter than 4 GiB");
        self.ends.push(end.to_be_bytes());
    }

    /// The value.
    pub(crate) fn close(self) -> Vec<u8> {
        if self.ends.len() == 1 && self.rows.starts_with(&[0; COUNT_BYTES]) {
            return self.rows;
        }
        let count = self.places().to_be_bytes();
        [&count, self.ends.as_flattened(), &self.rows].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut filling = Filling::default();
        rows.iter().for_each(|row| filling.push(row));
        filling.close()
    }

    /// As the task journal writes them: they begin with the index of an entry.
    fn a_row() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 1..200).prop_map(|rest| [vec![0, 0], rest].concat())
    }

    fn read(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let segment = Segment::read(bytes).expect("a segment");
        segment.rows().map(|(place, row)| (place, row.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn rows_read_back_at_their_places(rows in prop::collection::vec(a_row(), 1..40)) {
            let bytes = filled(&rows);
            let segment = Segment::read(&bytes).expect("a segment");
            prop_assert_eq!(usize::from(segment.places()), rows.len());
            prop_assert_eq!(read(&bytes), (0..).zip(rows).collect::<Vec<_>>());
        }

        #[test]
        fn rows_that_are_removed_leave_the_others_where_they_were(
            rows in prop::collection::vec(a_row(), 1..40),
            removals in prop::collection::vec(prop::collection::vec(0u16..40, 0..20), 1..4),
        ) {
            let mut bytes = filled(&rows);
            for removed in &removals {
                bytes = Segment::read(&bytes).expect("a segment").without(removed);
            }
            let kept: Vec<_> = (0..)
                .zip(rows)
                .filter(|(place, _)| !removals.concat().contains(place))
                .collect();
            prop_assert_eq!(read(&bytes), kept);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            beyond in 0u16..1000,
        ) {
            if let Some(segment) = Segment::read(&bytes) {
                let seen: usize = segment.rows().map(|(_, row)| row.len()).sum();
                prop_assert!(seen <= bytes.len());
                prop_assert_eq!(segment.row(segment.places() + beyond), None);
            }
        }

        #[test]
        fn there_is_nothing_beyond_the_last_row(
            rows in prop::collection::vec(a_row(), 1..40),
            beyond in 0u16..1000,
        ) {
            let bytes = filled(&rows);
            let segment = Segment::read(&bytes).expect("a segment");
            prop_assert_eq!(segment.row(segment.places() + beyond), None);
        }

        #[test]
        fn a_segment_that_was_cut_short_or_lengthened_is_refused(
            rows in prop::collection::vec(a_row(), 2..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = filled(&rows);
            let cut = &bytes[..cut.index(bytes.len())];
            prop_assert!(Segment::read(cut).is_none());
            prop_assert!(Segment::read(&[&bytes[..], &[0]].concat()).is_none());
        }
    }

    #[test]
    fn a_lone_row_is_kept_as_it_is() {
        let row = vec![0, 0, 7, 1, 2];
        assert_eq!(filled(std::slice::from_ref(&row)), row);
        assert_eq!(read(&row), [(0, row.clone())]);
    }

    #[test]
    fn a_lone_row_of_another_kind_is_not_taken_for_a_segment() {
        let row = vec![0, 9, 7];
        assert_eq!(read(&filled(std::slice::from_ref(&row))), [(0, row)]);
    }

    #[test]
    fn a_full_segment_takes_no_more_and_a_long_row_has_one_to_itself() {
        let mut filling = Filling::default();
        let long = SEGMENT_BYTES_MAX + 1;
        assert!(filling.has_room(long));
        filling.push(&vec![0; long]);
        assert!(!filling.has_room(1));
        let mut filling = Filling::default();
        while filling.has_room(1000) {
            filling.push(&[0; 1000]);
        }
        assert_eq!(filling.places(), 32);
        assert!(filling.close().len() <= SEGMENT_BYTES_MAX);
    }
}
