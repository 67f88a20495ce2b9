//! A task's handle on one pair, and the leases it takes.
//!
//! **Invariant:** a lease goes back to the stripe, seat and lane that it came from, on whatever
//! thread it is dropped: it carries all three.
//! **Invariant:** a seat outlives its leases.

use std::fmt;
use std::sync::Arc;

use crate::lane::Label;
use crate::pair::Pair;
use crate::refusal::Refusal;
use crate::roster::{Place, Spot};
use crate::stripe::{Count, LastGuess, Shut};

/// A task's resolved handle on one pair. A clone is the same member, for a tool of the same task.
pub struct Member<N> {
    /// Copied from the seat, so that an acquire need not fetch it.
    spot: Spot,
    guess: LastGuess,
    seated: Arc<Seated<N>>,
}

/// A seat, kept by the member's handles and by its owned leases.
struct Seated<N> {
    pair: Arc<Pair<N>>,
    place: Place,
}

impl<N> Member<N> {
    /// Bytes that a handle and its clones share on the heap, for whoever reckons memory.
    pub const HEAP_BYTES: usize = size_of::<Seated<N>>() + 2 * size_of::<usize>();

    pub(crate) fn new(pair: Arc<Pair<N>>, place: Place) -> Self {
        let spot = place.spot.clone();
        Self { spot, guess: LastGuess::new(), seated: Arc::new(Seated { pair, place }) }
    }

    /// Makes the task a holder of the pair's current version, until the lease is dropped.
    ///
    /// The hot path: two atomics for acquire and release together, on a line of few members.
    ///
    /// # Errors
    /// [`Refusal`]; the task holds nothing more than before.
    #[inline]
    pub fn acquire(&self) -> Result<LeaseRef<'_, N>, Refusal> {
        let count = self.count()?;
        Ok(LeaseRef { seated: &self.seated, count })
    }

    /// Like [`acquire`](Self::acquire), for a lease that outlives the handle: in a response body,
    /// or in a task's session. Costs two atomics more, on a count of the member's own.
    ///
    /// # Errors
    /// [`Refusal`]; the task holds nothing more than before.
    #[inline]
    pub fn acquire_owned(&self) -> Result<Lease<N>, Refusal> {
        let lane = self.count()?.lane;
        Ok(Lease { seated: Arc::clone(&self.seated), lane })
    }

    /// The pair of which this is a member.
    #[must_use]
    pub fn pair(&self) -> &Arc<Pair<N>> {
        &self.seated.pair
    }

    #[inline]
    fn count(&self) -> Result<Count<'_>, Refusal> {
        match self.spot.stripe().acquire_guessed(self.guess.get(), self.spot.seat) {
            Some(count) => Ok(count),
            None => self.count_slowly(),
        }
    }

    /// Follows switches of the current slot. The turn is taken first: a slot that is published
    /// after the refusal ends the wait for another turn.
    #[cold]
    fn count_slowly(&self) -> Result<Count<'_>, Refusal> {
        let turn = self.seated.pair.turn();
        match self.spot.stripe().acquire(self.spot.seat) {
            Ok((count, guess)) => {
                self.guess.set(guess);
                Ok(count)
            }
            Err(Shut::Closed) => Err(Refusal::NotOpen { turn }),
            Err(Shut::Full) => Err(Refusal::TooMany),
        }
    }
}

impl<N> Clone for Member<N> {
    fn clone(&self) -> Self {
        let (spot, seated) = (self.spot.clone(), Arc::clone(&self.seated));
        Self { spot, guess: LastGuess::new(), seated }
    }
}

impl<N> fmt::Debug for Member<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("seat", &self.seated.place.number).finish_non_exhaustive()
    }
}

impl<N> Seated<N> {
    fn is_current(&self, lane: usize) -> bool {
        self.place.spot.stripe().is_current(lane)
    }

    /// The label of a lane in which a lease is held: it cannot change meanwhile.
    fn label(&self, lane: usize) -> Label {
        self.pair.label(lane).expect("a lease names a lane of its pair")
    }
}

impl<N> Drop for Seated<N> {
    fn drop(&mut self) {
        self.pair.leave(&self.place);
    }
}

macro_rules! lease {
    ($lease:ident $(, $life:lifetime)?) => {
        impl<$($life,)? N> $lease<$($life,)? N> {
            /// The version that is held.
            #[must_use]
            pub fn version(&self) -> u32 {
                self.seated.label(self.count().lane).version()
            }

            /// Which slot of the version is held.
            #[must_use]
            pub fn generation(&self) -> u64 {
                u64::from(self.seated.label(self.count().lane).generation())
            }

            /// Is the held slot still the one that acquires are pointed to? A level, to be
            /// looked at between two steps. One atomic load.
            #[must_use]
            pub fn is_current(&self) -> bool {
                self.seated.is_current(self.count().lane)
            }
        }

        impl<$($life,)? N> Drop for $lease<$($life,)? N> {
            #[inline]
            fn drop(&mut self) {
                let count = self.count();
                if count.release() {
                    self.seated.pair.stripe_left(count.lane);
                }
            }
        }

        impl<$($life,)? N> fmt::Debug for $lease<$($life,)? N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lease))
                    .field("version", &self.version())
                    .field("generation", &self.generation())
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Keeps its member a holder of one version. Borrowed from the member, for the span of a call.
#[must_use = "dropping a lease releases it"]
pub struct LeaseRef<'a, N> {
    seated: &'a Seated<N>,
    count: Count<'a>,
}
lease!(LeaseRef, 'a);

impl<'a, N> LeaseRef<'a, N> {
    #[inline]
    fn count(&self) -> Count<'a> {
        self.count
    }
}

/// Keeps its member a holder of one version, wherever it is moved and dropped.
#[must_use = "dropping a lease releases it"]
pub struct Lease<N> {
    seated: Arc<Seated<N>>,
    lane: usize,
}
lease!(Lease);

impl<N> Lease<N> {
    #[inline]
    fn count(&self) -> Count<'_> {
        let spot = &self.seated.place.spot;
        let count = spot.stripe().counted(self.lane, spot.seat);
        count.expect("a lease names a lane of its stripe")
    }
}
