//! One cache line that counts the leases of up to nine members, for every slot of their pair.
//!
//! ```text
//! current │ word of lane 0 │ word of lane 1 │ …          one word: closed │ seat 8 │ … │ seat 0
//! ```
//!
//! Acquire and release are one atomic each, on a line that only these members touch.
//!
//! **Invariant:** the closed bit and the counts stand in one word, so that no acquire can pass a
//! closing: either it is counted before the bit is set, or it sees the bit.
//! **Invariant:** a word is opened only when no lease is counted in it.

use crate::limits::{SEAT_BITS, SEATS, SLOTS_MAX, SWITCHES_MAX};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

const CLOSED: u64 = 1 << 63;

/// The value of `current` when no slot is open.
pub(crate) const NO_LANE: usize = SLOTS_MAX;

/// Why a stripe gave no lease.
pub(crate) enum Shut {
    /// No lane is current, or each one that was got closed.
    Closed,
    /// The seat's count is at its limit.
    Full,
}

/// Counts of one cache line. Aligned so that no two stripes share one.
#[repr(align(64))]
pub(crate) struct Stripe {
    current: AtomicUsize,
    words: [AtomicU64; SLOTS_MAX],
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Stripe>() == 64);

impl Stripe {
    /// A stripe without leases, in step with its pair: `open` lanes are open, one is current.
    pub(crate) fn new(current: usize, open: [bool; SLOTS_MAX]) -> Self {
        Self {
            current: AtomicUsize::new(current),
            words: open.map(|open| AtomicU64::new(if open { 0 } else { CLOSED })),
        }
    }

    /// Counts one lease for `seat` in the current lane, if its word still is what it was at an
    /// earlier acquire. None if it is not, or for any other reason.
    ///
    /// The common case, kept small enough to be inlined: looking at the word before changing it
    /// would wait for the release before, and cost half an atomic more.
    #[inline]
    pub(crate) fn acquire_guessed(&self, guess: Guess, seat: Seat) -> Option<Count<'_>> {
        // These two look at the word first.
        if cfg!(any(keybaton_mutant = "check_then_act", keybaton_mutant = "no_retry")) {
            return None;
        }
        let lane = self.current.load(Ordering::Acquire);
        let word = self.words.get(lane)?;
        seat.take(word, guess.0).is_ok().then_some(Count { word, lane, seat })
    }

    /// Counts one lease for `seat` in the current lane, whichever it becomes meanwhile.
    #[cold]
    pub(crate) fn acquire(&self, seat: Seat) -> Result<(Count<'_>, Guess), Shut> {
        for _ in 0..SWITCHES_MAX {
            let lane = self.current.load(Ordering::Acquire);
            let Some(word) = self.words.get(lane) else {
                return Err(Shut::Closed);
            };
            // Acquire: whoever sees the closed bit also sees the `current` written before it, so
            // the next round looks at another lane.
            let mut seen = word.load(Ordering::Acquire);
            while seen & CLOSED == 0 {
                if seat.is_full(seen) {
                    return Err(Shut::Full);
                }
                match seat.take(word, seen) {
                    Ok(()) => return Ok((Count { word, lane, seat }, Guess(seen))),
                    Err(now) => seen = now,
                }
            }
            if cfg!(keybaton_mutant = "no_retry") {
                return Err(Shut::Closed);
            }
        }
        Err(Shut::Closed)
    }

    /// The count of a lease that `seat` was given in `lane`.
    #[inline]
    pub(crate) fn counted(&self, lane: usize, seat: Seat) -> Option<Count<'_>> {
        self.words.get(lane).map(|word| Count { word, lane, seat })
    }

    /// Lets acquires into `lane`. The caller knows that no lease is counted there.
    pub(crate) fn open(&self, lane: usize) {
        if let Some(word) = self.words.get(lane) {
            word.store(0, Ordering::Release);
        }
    }

    /// Points acquires to `lane`, or to none.
    pub(crate) fn point(&self, lane: usize) {
        self.current.store(lane, Ordering::Release);
    }

    /// Is `lane` the one that acquires are pointed to?
    pub(crate) fn is_current(&self, lane: usize) -> bool {
        self.current.load(Ordering::Acquire) == lane
    }

    /// Closes `lane` here. True if nobody was counted.
    pub(crate) fn close(&self, lane: usize) -> bool {
        self.words
            .get(lane)
            .is_none_or(|word| word.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0)
    }

    /// The leases that `seat` has in `lane`.
    pub(crate) fn count(&self, lane: usize, seat: Seat) -> u64 {
        self.words.get(lane).map_or(0, |word| seat.count(word.load(Ordering::Acquire)))
    }
}

/// What a word held when a seat was given a lease there. So it was open and had room: if it is
/// the same again, it is open and has room.
#[derive(Clone, Copy)]
pub(crate) struct Guess(u64);

impl Guess {
    /// An open word without leases.
    pub(crate) const EMPTY: Self = Self(0);
}

/// The last guess of a handle. Any order will do: a stale guess costs time,
/// and never gives a lease.
pub(crate) struct LastGuess(AtomicU64);

impl LastGuess {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(Guess::EMPTY.0))
    }

    #[inline]
    pub(crate) fn get(&self) -> Guess {
        Guess(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, guess: Guess) {
        self.0.store(guess.0, Ordering::Relaxed);
    }
}

/// One lease, counted in one word.
#[derive(Clone, Copy)]
pub(crate) struct Count<'a> {
    word: &'a AtomicU64,
    pub(crate) lane: usize,
    seat: Seat,
}

impl Count<'_> {
    /// Uncounts the lease. True if it was the last one of a closed word.
    #[inline]
    pub(crate) fn release(self) -> bool {
        // Release: what the holder did with the key happens before the notification. Acquire: the
        // last one to leave a word passes on what the earlier ones released.
        const ORDER: Ordering = if cfg!(keybaton_mutant = "relaxed_release") {
            Ordering::Relaxed
        } else {
            Ordering::AcqRel
        };
        let (word, seat) = (self.word, self.seat);
        if cfg!(keybaton_mutant = "set_of_tasks") {
            let before = word.fetch_and(!seat.all(), ORDER);
            return before & CLOSED != 0 && before & !seat.all() == CLOSED && before != CLOSED;
        }
        word.fetch_sub(seat.0, ORDER) == CLOSED | seat.0
    }
}

/// One member's bits in each word of its stripe: the value of one lease.
#[derive(Clone, Copy)]
pub(crate) struct Seat(u64);

impl Seat {
    /// The seat with this number within its stripe.
    pub(crate) fn numbered(number: u32) -> Self {
        debug_assert!(number < SEATS, "a stripe has {SEATS} seats");
        Self(1 << (number * SEAT_BITS))
    }

    /// All seats of a stripe.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        (0..SEATS).map(Self::numbered)
    }

    /// The bits of this seat.
    #[inline]
    fn all(self) -> u64 {
        (self.0 << SEAT_BITS) - self.0
    }

    #[inline]
    fn is_full(self, word: u64) -> bool {
        word & self.all() == self.all()
    }

    fn count(self, word: u64) -> u64 {
        (word & self.all()) / self.0
    }

    #[inline]
    fn take(self, word: &AtomicU64, seen: u64) -> Result<(), u64> {
        if cfg!(keybaton_mutant = "check_then_act") {
            word.fetch_add(self.0, Ordering::Acquire);
            return Ok(());
        }
        let next = if cfg!(keybaton_mutant = "set_of_tasks") {
            (seen & !self.all()) | self.0
        } else {
            seen + self.0
        };
        // Acquire: the slot's label, written before the word was opened, is seen by its holders.
        word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Acquire).map(drop)
    }
}
