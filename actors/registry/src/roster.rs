//! The members of one pair: who sits on which seat, and the stripes that carry the seats.
//!
//! Slow on purpose: it changes when a task joins or leaves, under the pair's lock. Acquire and
//! release never come here.
//!
//! **Invariant:** a seat is given away again only when no lease is counted on it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{BLOCK_STRIPES_MAX, BLOCK_STRIPES_MIN, SEATS, SLOTS_MAX};
use crate::stripe::{Seat, Stripe};
use crate::sync::spread;

const ALL_TAKEN: u16 = (1 << SEATS) - 1;

/// Where a member's leases are counted.
#[derive(Clone)]
pub(crate) struct Spot {
    block: Arc<[Stripe]>,
    /// Index of the stripe within its block.
    stripe: usize,
    pub(crate) seat: Seat,
}

impl Spot {
    #[inline]
    pub(crate) fn stripe(&self) -> &Stripe {
        #[cfg(keybaton_mutant = "stripe_by_thread")]
        return &self.block[by_thread::index() % self.block.len()];
        #[cfg(not(keybaton_mutant = "stripe_by_thread"))]
        &self.block[self.stripe]
    }
}

/// A place given to a member.
pub(crate) struct Place {
    pub(crate) spot: Spot,
    /// Index of the seat within the pair.
    pub(crate) number: usize,
}

/// Seats and names of one pair.
pub(crate) struct Roster<N> {
    /// Stripes in the order of their numbers.
    blocks: Vec<Arc<[Stripe]>>,
    /// For each stripe in use a bit for each taken seat. The last block may hold more stripes.
    taken: Vec<u16>,
    /// Stripes with a free seat. Newcomers are dealt in turn, so that tasks that run at the same
    /// time sit on different lines.
    rooms: VecDeque<usize>,
    /// One for each seat.
    names: Vec<Option<N>>,
    members: usize,
}

impl<N> Roster<N> {
    pub(crate) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            taken: Vec::new(),
            rooms: VecDeque::new(),
            names: Vec::new(),
            members: 0,
        }
    }

    /// Gives `name` a seat. New stripes are built in step with the pair by `build`.
    pub(crate) fn join(&mut self, name: N, build: impl Fn() -> Stripe) -> Place {
        if self.rooms.len() < spread() {
            self.add_stripe(build);
        }
        let number = self.rooms.pop_front().expect("a stripe was added when there were few");
        let taken = &mut self.taken[number];
        let seat = taken.trailing_ones();
        *taken |= 1 << seat;
        if *taken != ALL_TAKEN {
            self.rooms.push_back(number);
        }
        self.members += 1;
        let index = number * SEATS as usize + seat as usize;
        self.names[index] = Some(name);
        let (block, stripe) = self.locate(number);
        let (block, seat) = (Arc::clone(block), Seat::numbered(seat));
        Place { spot: Spot { block, stripe, seat }, number: index }
    }

    /// Frees a seat and returns the name, unless leases that were never dropped are counted on it.
    pub(crate) fn leave(&mut self, place: &Place) -> Option<N> {
        let (stripe, seat) = (place.spot.stripe(), place.spot.seat);
        if (0..SLOTS_MAX).any(|lane| stripe.count(lane, seat) > 0) {
            return None;
        }
        let (number, seat) = (place.number / SEATS as usize, place.number % SEATS as usize);
        let taken = &mut self.taken[number];
        if *taken == ALL_TAKEN {
            self.rooms.push_back(number);
        }
        *taken &= !(1 << seat);
        self.members -= 1;
        self.names[place.number].take()
    }

    /// Has everybody left?
    pub(crate) fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// All stripes, used or not.
    pub(crate) fn stripes(&self) -> impl Iterator<Item = &Stripe> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// How many stripes there are, used or not.
    pub(crate) fn stripe_count(&self) -> u32 {
        u32::try_from(self.stripes_built()).expect("a pair's memory ends long before")
    }

    /// The names of those who hold leases in `lane`, with how many.
    pub(crate) fn holders(&self, lane: usize) -> impl Iterator<Item = (&N, u64)> {
        let seats = self
            .stripes()
            .flat_map(move |stripe| Seat::each().map(move |seat| stripe.count(lane, seat)));
        self.names.iter().zip(seats).filter_map(|(name, leases)| match name {
            Some(name) if leases > 0 => Some((name, leases)),
            _ => None,
        })
    }

    /// Leases counted in `lane`.
    pub(crate) fn leases(&self, lane: usize) -> u64 {
        self.stripes().flat_map(|stripe| Seat::each().map(|seat| stripe.count(lane, seat))).sum()
    }

    fn add_stripe(&mut self, build: impl Fn() -> Stripe) {
        if self.taken.len() == self.stripes_built() {
            // 1, 3, 7, …: see the limit.
            let doubled = 2 * self.blocks.last().map_or(0, |block| block.len()) + 1;
            let count = doubled.clamp(BLOCK_STRIPES_MIN, BLOCK_STRIPES_MAX);
            self.blocks.push((0..count).map(|_| build()).collect());
        }
        // In front: it is there for the newcomer to have a line of its own.
        self.rooms.push_front(self.taken.len());
        self.taken.push(0);
        // Exact while small: most pairs have a handful of tasks.
        if self.names.len() < 8 * SEATS as usize {
            self.names.reserve_exact(SEATS as usize);
        }
        self.names.extend((0..SEATS).map(|_| None));
    }

    fn stripes_built(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }

    fn locate(&self, number: usize) -> (&Arc<[Stripe]>, usize) {
        let mut index = number;
        for block in &self.blocks {
            if index < block.len() {
                return (block, index);
            }
            index -= block.len();
        }
        unreachable!("stripe {number} is in one of the blocks")
    }
}

/// The trap of choosing a stripe by the thread that happens to run: for loom and shuttle to refute.
#[cfg(keybaton_mutant = "stripe_by_thread")]
mod by_thread {
    #[cfg(shuttle)]
    use shuttle as loom;

    use loom::sync::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }
    loom::thread_local! {
        static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn index() -> usize {
        INDEX.with(|index| *index)
    }
}
