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

use crate::limits::{LEASES_PER_MEMBER_MAX, SEAT_BITS, SEATS, SLOTS_MAX, SWITCHES_MAX};
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

#[cfg(not(loom))]
const _: () = assert!(size_of::<Stripe>() == 64);

impl Stripe {
    /// A stripe without leases, in step with its pair: `open` lanes are open, one is current.
    pub(crate) fn new(current: usize, open: [bool; SLOTS_MAX]) -> Self {
        Self {
            current: AtomicUsize::new(current),
            words: open.map(|open| AtomicU64::new(if open { 0 } else { CLOSED })),
        }
    }

    /// Counts one lease for `seat` in the current lane and says which lane that is.
    #[inline]
    pub(crate) fn acquire(&self, seat: Seat) -> Result<usize, Shut> {
        for _ in 0..SWITCHES_MAX {
            let lane = self.current.load(Ordering::Acquire);
            let Some(word) = self.words.get(lane) else {
                return Err(Shut::Closed);
            };
            // Acquire: whoever sees the closed bit also sees the `current` written before it, so
            // the next round looks at another lane.
            let mut seen = word.load(Ordering::Acquire);
            while seen & CLOSED == 0 {
                if seat.count(seen) == LEASES_PER_MEMBER_MAX {
                    return Err(Shut::Full);
                }
                match seat.take(word, seen) {
                    Ok(()) => return Ok(lane),
                    Err(now) => seen = now,
                }
            }
            if cfg!(keybaton_mutant = "no_retry") {
                return Err(Shut::Closed);
            }
        }
        Err(Shut::Closed)
    }

    /// Uncounts one lease. True if that was the last one of a closed word.
    #[inline]
    pub(crate) fn release(&self, lane: usize, seat: Seat) -> bool {
        // Release: what the holder did with the key happens before the notification. Acquire: the
        // last one to leave a word passes on what the earlier ones released.
        const ORDER: Ordering = if cfg!(keybaton_mutant = "relaxed_release") {
            Ordering::Relaxed
        } else {
            Ordering::AcqRel
        };
        let Some(word) = self.words.get(lane) else {
            return false;
        };
        if cfg!(keybaton_mutant = "set_of_tasks") {
            let before = word.fetch_and(!seat.all(), ORDER);
            return before & CLOSED != 0 && before & !seat.all() == CLOSED && before != CLOSED;
        }
        word.fetch_sub(seat.one(), ORDER) == CLOSED | seat.one()
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
        self.words
            .get(lane)
            .map_or(0, |word| seat.count(word.load(Ordering::Acquire)))
    }
}

/// One member's bits in each word of its stripe.
#[derive(Clone, Copy)]
pub(crate) struct Seat(u32);

impl Seat {
    /// The seat with this number within its stripe.
    pub(crate) fn numbered(number: u32) -> Self {
        debug_assert!(number < SEATS, "a stripe has {SEATS} seats");
        Self(number * SEAT_BITS)
    }

    /// All seats of a stripe.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        (0..SEATS).map(Self::numbered)
    }

    #[inline]
    fn one(self) -> u64 {
        1 << self.0
    }

    #[inline]
    fn all(self) -> u64 {
        LEASES_PER_MEMBER_MAX << self.0
    }

    #[inline]
    fn count(self, word: u64) -> u64 {
        (word >> self.0) & LEASES_PER_MEMBER_MAX
    }

    #[inline]
    fn take(self, word: &AtomicU64, seen: u64) -> Result<(), u64> {
        if cfg!(keybaton_mutant = "check_then_act") {
            word.fetch_add(self.one(), Ordering::Acquire);
            return Ok(());
        }
        let next = if cfg!(keybaton_mutant = "set_of_tasks") {
            (seen & !self.all()) | self.one()
        } else {
            seen + self.one()
        };
        // Acquire: the slot's label, written before the word was opened, is seen by its holders.
        word.compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Acquire)
            .map(drop)
    }
}
