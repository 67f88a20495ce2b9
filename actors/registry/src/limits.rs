//! Every bound of the registry, with its reason.

/// Slots of one pair that may be alive at once: the current one and those still draining.
///
/// One rotation needs two. Emergencies and rollbacks during a drain add some; at six the oldest
/// holders have outlived five rotations and must be cut before another key is worth handing out.
/// Six words and the index of the current one fit in a cache line, and six lanes in the 256 bytes
/// that an idle pair may cost.
#[cfg(not(loom))]
pub const SLOTS_MAX: usize = 6;
/// Under loom every word is a branch of the search; three show every case.
#[cfg(loom)]
pub const SLOTS_MAX: usize = 3;

/// Bits of a stripe's word that count the leases of one seat.
pub(crate) const SEAT_BITS: u32 = 7;

/// Seats in one stripe: as many counts as fit beside the closed bit.
pub(crate) const SEATS: u32 = 63 / SEAT_BITS;
const _: () = assert!(SEATS * SEAT_BITS <= 63);

/// Leases that one [`Member`](crate::Member) may hold at once on one slot.
///
/// An agent that keeps more than a hundred provider calls in flight joins once more; a count that
/// could run into its neighbour's bits would free somebody else's key.
pub const LEASES_PER_MEMBER_MAX: u64 = (1 << SEAT_BITS) - 1;

/// How many switches of the current slot one acquire follows before it gives up.
///
/// A switch takes a person or a provider's answer, an attempt some nanoseconds: a second round is
/// rare, a third one a sign of a fault.
pub(crate) const SWITCHES_MAX: usize = 4;

/// Stripes in one block of memory, at most: 4 KiB with the line of its own counts. Blocks double up
/// to here, so that a pair with one task pays for one stripe and a pair with 100 000 tasks has few
/// blocks. With that line every block is a power of two, which is what allocators give.
#[cfg(not(loom))]
pub(crate) const BLOCK_STRIPES_MAX: usize = 63;
/// Two stripes in one block let loom mistake one for the other.
#[cfg(loom)]
pub(crate) const BLOCK_STRIPES_MAX: usize = 2;

/// Stripes in the first block.
#[cfg(not(loom))]
pub(crate) const BLOCK_STRIPES_MIN: usize = 1;
/// Under loom both stripes exist from the start.
#[cfg(loom)]
pub(crate) const BLOCK_STRIPES_MIN: usize = 2;

/// Stripes that newcomers are dealt to in turn, at most.
///
/// Four for each core make it unlikely that two running tasks of one pair share a line; beyond
/// sixteen cores' worth a pair would be mostly empty stripes.
#[cfg(not(any(loom, shuttle)))]
pub(crate) const SPREAD_MAX: usize = 64;
