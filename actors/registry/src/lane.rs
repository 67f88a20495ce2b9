//! The life of one slot: whose it is, how many stripes still hold leases, whom to tell at the end.
//!
//! ```text
//! free ─open─► open ─close─► draining(n stripes) ─► notifying ─► drained ─► free, or open again
//! ```
//!
//! A lane is a place; a slot is one use of it, named by its [`Label`].
//!
//! **Invariant:** the count reaches zero once for each closing: the closer counts every stripe and
//! itself *before* it sets the first closed bit, and takes its own share back last.
//! **Invariant:** a lane is used again only after its notice was taken out; a late notifier would
//! otherwise run the next slot's notice.

use std::sync::Arc;

use crate::limits::SLOTS_MAX;
use crate::sync::{AtomicU32, AtomicU64, Handover, Ordering};

const FREE: u32 = u32::MAX;
const OPEN: u32 = u32::MAX - 1;
const DRAINED: u32 = u32::MAX - 2;
const NOTIFYING: u32 = 0;

/// A version and the generation of its slot, in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(u64);

impl Label {
    /// The label of no slot: generations start at one.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(version: u32, generation: u32) -> Self {
        Self((u64::from(version) << 32) | u64::from(generation))
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn version(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// Where a slot stands in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    Open,
    Draining,
    Drained,
}

/// What runs when a version's last holder has left. Shared by the slots that it waits for; the
/// mutex only makes it shareable and is never locked.
pub(crate) struct Notice(std::sync::Mutex<Box<dyn FnOnce() + Send>>);

impl Notice {
    pub(crate) fn new(call: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Arc::new(Self(std::sync::Mutex::new(Box::new(call))))
    }

    /// Gives up one share; the last share runs the notice.
    pub(crate) fn settle(share: Arc<Self>) {
        if let Some(notice) = Arc::into_inner(share) {
            let call = notice.0.into_inner().expect("never locked, so never poisoned");
            call();
        }
    }
}

/// All places for slots of one pair.
///
/// Side by side, not one after the other: a count is half as wide as a label, and the gaps behind
/// six of them would be a tenth of an idle pair.
pub(crate) struct Lanes {
    labels: [AtomicU64; SLOTS_MAX],
    pending: [AtomicU32; SLOTS_MAX],
    notices: [Handover<Notice>; SLOTS_MAX],
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            labels: std::array::from_fn(|_| AtomicU64::new(Label::NONE.word())),
            pending: std::array::from_fn(|_| AtomicU32::new(FREE)),
            notices: std::array::from_fn(|_| Handover::new()),
        }
    }

    /// The place with this index, if there is one.
    pub(crate) fn get(&self, index: usize) -> Option<Lane<'_>> {
        let (label, pending) = (self.labels.get(index)?, self.pending.get(index)?);
        Some(Lane { label, pending, notice: self.notices.get(index)? })
    }

    /// Every place, with its index.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, Lane<'_>)> {
        (0..SLOTS_MAX).filter_map(|index| Some((index, self.get(index)?)))
    }
}

/// One place for a slot.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    label: &'a AtomicU64,
    /// Stripes that still hold leases, or one of the states above.
    pending: &'a AtomicU32,
    notice: &'a Handover<Notice>,
}

impl Lane<'_> {
    /// The label of the slot that is, or was last, in this lane.
    pub(crate) fn label(&self) -> Label {
        // Relaxed: a holder got it with the word it acquired, all others hold the pair's lock.
        Label::from_word(self.label.load(Ordering::Relaxed))
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.pending.load(Ordering::Acquire) {
            FREE => Stage::Free,
            OPEN => Stage::Open,
            DRAINED => Stage::Drained,
            NOTIFYING if cfg!(keybaton_mutant = "early_reuse") => Stage::Drained,
            _ => Stage::Draining,
        }
    }

    /// Makes this lane the slot `label`. Its stripes are opened after this.
    pub(crate) fn open(&self, label: Label) {
        self.label.store(label.word(), Ordering::Relaxed);
        self.pending.store(OPEN, Ordering::Release);
    }

    /// Lets the lane be used again; its label stays, because generations only grow.
    pub(crate) fn free(&self) {
        self.pending.store(FREE, Ordering::Release);
    }

    /// Starts closing over `stripes` stripes; none of them is closed yet.
    pub(crate) fn begin(&self, notice: Arc<Notice>, stripes: u32) {
        drop(self.notice.swap(Some(notice)));
        let start = if cfg!(keybaton_mutant = "no_bias") { 0 } else { stripes + 1 };
        self.pending.store(start, Ordering::Release);
    }

    /// Counts one closed stripe that holds leases. Only the mutant counts so late.
    pub(crate) fn stripe_held(&self) {
        if cfg!(keybaton_mutant = "no_bias") {
            self.pending.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Ends the walk over the stripes, of which `empty` held nobody. True if the slot is empty.
    pub(crate) fn walked(&self, empty: u32) -> bool {
        if cfg!(keybaton_mutant = "no_bias") {
            return self.pending.load(Ordering::Acquire) == 0;
        }
        self.pending.fetch_sub(empty + 1, Ordering::AcqRel) == empty + 1
    }

    /// One closed stripe has lost its last lease.
    #[cold]
    pub(crate) fn stripe_left(&self) {
        // AcqRel: the thread that reaches zero has seen the releases of all stripes.
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish();
        }
    }

    /// Ends the slot's life and settles its notice. Runs once, on the thread that reached zero.
    pub(crate) fn finish(&self) {
        let share = self.notice.swap(None);
        self.pending.store(DRAINED, Ordering::Release);
        if let Some(share) = share {
            Notice::settle(share);
        }
    }

    /// Takes the notice of a draining slot away, or gives it another one.
    ///
    /// Returns what must be dropped outside the lock: the earlier notice, and this one again if
    /// the slot had emptied in the meantime.
    pub(crate) fn renotice(&self, notice: Option<Arc<Notice>>) -> [Option<Arc<Notice>>; 2] {
        let earlier = self.notice.swap(notice);
        // A notifier may have looked before the swap; then nobody else comes for it.
        let is_empty = matches!(self.pending.load(Ordering::Acquire), NOTIFYING | DRAINED);
        [earlier, if is_empty { self.notice.swap(None) } else { None }]
    }
}
