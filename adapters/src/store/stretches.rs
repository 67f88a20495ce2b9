//! Which stretches of the file nobody has written into yet, so that the first who does fills all of
//! it.
//!
//! A file grows by holes. The first write into a hole gives it a place on the disk, and the sync
//! after that has to write the place down too, in the file system's own journal: it takes twice as
//! long as a sync of bytes that have their place. With a stretch filled at once one commit in many
//! pays that, and its pages lie side by side.
//!
//! **Invariant:** only what reads as zeros is filled, with zeros: it reads as before.

use std::io;
use std::ops::Range;

use redb::StorageBackend;

use crate::limits::{STRETCH_BYTES, STRETCHES_LOOKED_AT_MAX};

/// What a stretch is filled with.
static ZEROS: [u8; STRETCH_BYTES] = [0; STRETCH_BYTES];

/// The stretches of one open file.
pub(super) struct Stretches {
    /// The file's length, in bytes.
    len: u64,
    /// One for each stretch, the last of which may be shorter.
    is_untouched: Vec<bool>,
}

impl Stretches {
    /// Those of a file as it is: what reads as zeros from some place to its end is untouched.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn of(file: &dyn StorageBackend) -> io::Result<Self> {
        let mut stretches = Self { len: file.len()?, is_untouched: Vec::new() };
        stretches.is_untouched.resize(count(stretches.len), false);
        let mut bytes = vec![0; STRETCH_BYTES];
        for number in (0..stretches.is_untouched.len()).rev().take(STRETCHES_LOOKED_AT_MAX) {
            let range = stretches.range(number);
            let bytes = &mut bytes[..length(&range)];
            file.read(range.start, bytes)?;
            if *bytes != ZEROS[..bytes.len()] {
                break;
            }
            stretches.is_untouched[number] = true;
        }
        Ok(stretches)
    }

    /// The file got this length. What it gained is a hole.
    pub(super) fn resize(&mut self, len: u64) {
        self.len = len;
        self.is_untouched.resize(count(len), true);
    }

    /// Fills the stretches that a write of so many bytes at `offset` is the first to touch.
    ///
    /// # Errors
    /// When they cannot be written; the file then reads as before.
    pub(super) fn touch(
        &mut self,
        file: &dyn StorageBackend,
        offset: u64,
        bytes: usize,
    ) -> io::Result<()> {
        let end = count(offset + bytes as u64).min(self.is_untouched.len());
        for number in number_of(offset)..end {
            if std::mem::take(&mut self.is_untouched[number]) {
                let range = self.range(number);
                file.write(range.start, &ZEROS[..length(&range)])?;
            }
        }
        Ok(())
    }

    fn range(&self, number: usize) -> Range<u64> {
        let start = (number * STRETCH_BYTES) as u64;
        start..self.len.min(start + STRETCH_BYTES as u64)
    }
}

/// The stretch in which this byte lies.
fn number_of(offset: u64) -> usize {
    usize::try_from(offset / STRETCH_BYTES as u64)
        .expect("the memory for its page numbers is larger")
}

/// How many stretches hold so many bytes.
fn count(bytes: u64) -> usize {
    number_of(bytes.next_multiple_of(STRETCH_BYTES as u64))
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("a stretch at most")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;
    use redb::backends::{FileBackend, InMemoryBackend};

    use super::*;

    const STRETCH: u64 = STRETCH_BYTES as u64;
    const FILE_MAX: u64 = 5 * STRETCH;

    #[derive(Clone, Debug)]
    enum Act {
        Resize(u64),
        Write(u64, Vec<u8>),
        Reopen,
    }

    fn act() -> impl Strategy<Value = Act> {
        let byte = prop_oneof![Just(0), any::<u8>()];
        prop_oneof![
            (0..=FILE_MAX).prop_map(Act::Resize),
            (0..FILE_MAX, prop::collection::vec(byte, 1..200))
                .prop_map(|(offset, bytes)| Act::Write(offset, bytes)),
            // Pages, of which some span two stretches.
            (0..FILE_MAX / 4096, 1..40_usize)
                .prop_map(|(page, pages)| Act::Write(page * 4096, vec![7; pages * 4096])),
            Just(Act::Reopen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn a_file_reads_as_if_nothing_was_ever_filled(
            acts in prop::collection::vec(act(), 1..30),
        ) {
            let (file, mut model) = (InMemoryBackend::new(), Vec::new());
            let mut stretches = Stretches::of(&file).unwrap();
            for act in acts {
                match act {
                    Act::Resize(len) => {
                        file.set_len(len).unwrap();
                        stretches.resize(len);
                        model.resize(usize::try_from(len).unwrap(), 0);
                    }
                    Act::Write(offset, mut bytes) => {
                        let room = (model.len() as u64).saturating_sub(offset);
                        bytes.truncate(usize::try_from(room).unwrap());
                        if bytes.is_empty() {
                            continue;
                        }
                        stretches.touch(&file, offset, bytes.len()).unwrap();
                        file.write(offset, &bytes).unwrap();
                        let at = usize::try_from(offset).unwrap();
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                    Act::Reopen => stretches = Stretches::of(&file).unwrap(),
                }
                prop_assert_eq!(file.len().unwrap(), model.len() as u64);
                let mut read = vec![0; model.len()];
                file.read(0, &mut read).unwrap();
                prop_assert!(read == model);
            }
        }
    }

    /// Bytes of the file that have a place on the disk.
    fn placed(file: &File) -> u64 {
        file.sync_data().unwrap();
        file.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn the_first_write_into_a_stretch_places_all_of_it_and_the_next_one_nothing() {
        let file = tempfile::tempfile().unwrap();
        let backend = FileBackend::new(file.try_clone().unwrap()).unwrap();
        let mut stretches = Stretches::of(&backend).unwrap();
        let write = |stretches: &mut Stretches, offset| {
            stretches.touch(&backend, offset, 4096).unwrap();
            backend.write(offset, &[7; 4096]).unwrap();
            placed(&file)
        };
        backend.set_len(64 * STRETCH).unwrap();
        stretches.resize(64 * STRETCH);

        let one = write(&mut stretches, 9 * STRETCH + 8192);
        assert!((STRETCH..2 * STRETCH).contains(&one), "{one} bytes have a place");
        assert_eq!(write(&mut stretches, 9 * STRETCH), one, "the neighbour had one already");
        // The end of one stretch and the beginning of the next.
        let three = write(&mut stretches, 21 * STRETCH - 2048);
        assert!((3 * STRETCH..4 * STRETCH).contains(&three), "{three} bytes have a place");

        // Opened anew, what lies behind the last byte is still known to be untouched.
        let mut again = Stretches::of(&backend).unwrap();
        let four = write(&mut again, 40 * STRETCH);
        assert!((4 * STRETCH..5 * STRETCH).contains(&four), "{four} bytes have a place");
    }
}
