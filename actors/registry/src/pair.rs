//! One pair on this node: its slots, its members and the way from one slot to the next.
//!
//! ```text
//! Member ─acquire/release─► Stripe      one line per few members; all that a lease touches
//! Pair   ─publish, close──► every Stripe, under the pair's lock
//! last release of a closed stripe ─► Lane ─zero─► notice
//! ```
//!
//! **Invariant:** after `close(v)` has returned, no acquire returns that slot.
//! **Invariant:** a closed slot is never reopened; publishing its version again makes another
//! slot with a higher generation.
//! **Invariant:** the lock is never taken by acquire or release, nor held while a notice runs.

use std::sync::{Arc, PoisonError};

use crate::lane::{Label, Lane, Lanes, Notice, Stage};
use crate::limits::SLOTS_MAX;
use crate::member::Member;
use crate::refusal::PublishRefusal;
use crate::roster::{Place, Roster};
use crate::stripe::{NO_LANE, Stripe};
#[cfg(not(loom))]
use crate::sync::fence;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// A task that holds a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<N> {
    /// The name under which it joined.
    pub name: N,
    /// How many leases it has on the version.
    pub leases: u64,
}

/// Where a slot stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It was published and not closed. Acquires land on the current one of these.
    Open,
    /// It is closed and still has holders, or its notice is about to run.
    Draining,
    /// It is closed and empty for good.
    Drained,
}

/// One slot, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The version that it hands out.
    pub version: u32,
    /// Which use of the version this is; grows with every slot of the pair.
    pub generation: u64,
    /// Where it stands in its life.
    pub state: SlotState,
    /// How many leases it has.
    pub leases: u64,
}

/// The slots and members of one pair. `N` names a member: a task id.
pub struct Pair<N> {
    /// Label of the slot that acquires are pointed to.
    current: AtomicU64,
    /// Counts publishings and closings.
    turn: AtomicU64,
    #[cfg(not(loom))]
    turned: event_listener::Event,
    lanes: Lanes,
    /// None while there is no member: an idle pair has no stripes.
    roster: Mutex<Option<Box<Roster<N>>>>,
}

impl<N> Pair<N> {
    /// A pair without slots and members.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: AtomicU64::new(Label::NONE.word()),
            turn: AtomicU64::new(0),
            #[cfg(not(loom))]
            turned: event_listener::Event::new(),
            lanes: Lanes::new(),
            roster: Mutex::new(None),
        }
    }

    /// Makes `name` a member, who can acquire without looking anything up. Not a holder yet.
    ///
    /// A task joins each pair once, when it is spawned, and clones the handle for its tools.
    pub fn join(self: &Arc<Self>, name: N) -> Member<N> {
        let mut roster = self.lock();
        let place = roster
            .get_or_insert_with(|| Box::new(Roster::new()))
            .join(name, || self.build_stripe());
        drop(roster);
        Member::new(Arc::clone(self), place)
    }

    /// Opens a slot for `version`, points acquires to it and returns its generation.
    ///
    /// The version must already work at its provider: while the members are switched over, some
    /// tens of microseconds, an acquire may land on either slot. The slot before it stays open,
    /// out of reach, until it is closed. Publishing a version whose slot is still open points
    /// acquires back to that slot; notices waiting for earlier slots of `version` are dropped,
    /// because the version is in use again.
    ///
    /// # Errors
    /// [`PublishRefusal`], and nothing has changed.
    pub fn publish(&self, version: u32) -> Result<u64, PublishRefusal> {
        let mut dropped = Vec::new();
        let roster = self.lock();
        let open = self.lanes_of(version).find(|(_, lane)| lane.stage() == Stage::Open);
        let (index, lane) = if let Some(open) = open {
            open
        } else {
            let (index, lane) = self.vacancy().ok_or(PublishRefusal::Crowded)?;
            let generation = self.newest().checked_add(1).ok_or(PublishRefusal::WornOut)?;
            let draining = self.lanes_of(version).filter(|(_, lane)| lane.stage() != Stage::Free);
            draining.for_each(|(_, lane)| dropped.push(lane.renotice(None)));
            lane.open(Label::new(version, generation));
            stripes(&roster).for_each(|stripe| stripe.open(index));
            (index, lane)
        };
        let label = lane.label();
        stripes(&roster).for_each(|stripe| stripe.point(index));
        self.current.store(label.word(), Ordering::Release);
        self.advance();
        drop(roster);
        Ok(u64::from(label.generation()))
    }

    /// Closes the open slot of `version`: once this has returned, no acquire returns it, ever.
    /// True if there was one.
    ///
    /// `on_drained` runs exactly once, when no slot of `version` has a holder left: in this call
    /// if that is so already, else on the thread that drops the last lease. It must only hand
    /// over (set a flag, wake a task) and must not panic. It is dropped without running when a
    /// later `close` of the same version replaces it, or a `publish` reopens the version.
    pub fn close(&self, version: u32, on_drained: impl FnOnce() + Send + 'static) -> bool {
        let notice = Notice::new(on_drained);
        let mut dropped = Vec::new();
        let mut emptied = None;
        let mut was_open = false;
        let roster = self.lock();
        for (index, lane) in self.lanes_of(version) {
            match lane.stage() {
                Stage::Open => {
                    was_open = true;
                    if self.close_lane(&roster, (index, lane), Arc::clone(&notice)) {
                        emptied = Some(lane);
                    }
                    self.advance();
                }
                Stage::Draining => dropped.push(lane.renotice(Some(Arc::clone(&notice)))),
                Stage::Drained | Stage::Free => {}
            }
        }
        drop(roster);
        drop(dropped);
        if let Some(lane) = emptied {
            lane.finish();
        }
        // The slots that still drain hold the other shares.
        Notice::settle(notice);
        was_open
    }

    /// The version that acquires are pointed to and its slot's generation. One atomic load.
    #[must_use]
    pub fn current(&self) -> Option<(u32, u64)> {
        let label = Label::from_word(self.current.load(Ordering::Acquire));
        (label != Label::NONE).then(|| (label.version(), u64::from(label.generation())))
    }

    /// How often a slot of this pair was published or closed.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Waits until the turn is another one than `seen` and returns it.
    #[cfg(not(loom))]
    pub async fn changed(&self, seen: u64) -> u64 {
        loop {
            // Listen first, look second: a turn in between is not missed.
            let listener = self.turned.listen();
            fence(Ordering::SeqCst);
            let turn = self.turn();
            if turn != seen {
                return turn;
            }
            listener.await;
        }
    }

    /// Leases on `version`, over all its slots. Final only when the version is closed.
    #[must_use]
    pub fn count(&self, version: u32) -> u64 {
        let roster = self.lock();
        let Some(roster) = roster.as_deref() else {
            return 0;
        };
        self.lanes_of(version).map(|(index, _)| roster.leases(index)).sum()
    }

    /// The slots of this pair, oldest first.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        let roster = self.lock();
        let mut slots: Vec<Slot> = (self.lanes.each())
            .filter_map(|(index, lane)| {
                let state = match lane.stage() {
                    Stage::Free => return None,
                    Stage::Open => SlotState::Open,
                    Stage::Draining => SlotState::Draining,
                    Stage::Drained => SlotState::Drained,
                };
                let (version, generation) = (lane.label().version(), lane.label().generation());
                let leases = roster.as_deref().map_or(0, |roster| roster.leases(index));
                Some(Slot { version, generation: u64::from(generation), state, leases })
            })
            .collect();
        slots.sort_by_key(|slot| slot.generation);
        slots
    }

    /// Takes drained slots off the list. Publishing does so by itself when it needs the place.
    pub fn forget_drained(&self) {
        let _roster = self.lock();
        let drained = self.lanes.each().filter(|(_, lane)| lane.stage() == Stage::Drained);
        drained.for_each(|(_, lane)| lane.free());
    }

    /// Is there neither a member nor a slot that is open or draining?
    #[cfg(not(loom))]
    pub(crate) fn is_unused(&self) -> bool {
        let roster = self.lock();
        let is_idle = |lane: Lane<'_>| matches!(lane.stage(), Stage::Free | Stage::Drained);
        roster.is_none() && self.lanes.each().all(|(_, lane)| is_idle(lane))
    }

    /// Gives a seat back.
    pub(crate) fn leave(&self, place: &Place) {
        let mut slot = self.lock();
        let name = slot.as_deref_mut().and_then(|roster| roster.leave(place));
        let roster = slot.take_if(|roster| roster.is_empty());
        drop(slot);
        // What the caller named its task by is dropped outside the lock.
        drop((name, roster));
    }

    /// Label of the slot in `lane`, for somebody who holds it.
    pub(crate) fn label(&self, lane: usize) -> Option<Label> {
        self.lanes.get(lane).map(|lane| lane.label())
    }

    /// Tells the slot in `lane` that one of its closed stripes is empty.
    #[cold]
    pub(crate) fn stripe_left(&self, lane: usize) {
        if let Some(lane) = self.lanes.get(lane) {
            lane.stripe_left();
        }
    }

    /// Closes every stripe. True if nobody was counted, which then has to be told.
    fn close_lane(
        &self,
        roster: &Guard<'_, N>,
        (index, lane): (usize, Lane<'_>),
        notice: Arc<Notice>,
    ) -> bool {
        if self.current.load(Ordering::Relaxed) == lane.label().word() {
            // Before the closed bits, so that an acquire that meets one looks elsewhere.
            stripes(roster).for_each(|stripe| stripe.point(NO_LANE));
            self.current.store(Label::NONE.word(), Ordering::Release);
        }
        let count = roster.as_deref().map_or(0, Roster::stripe_count);
        lane.begin(notice, count);
        let mut empty = 0;
        for stripe in stripes(roster) {
            if stripe.close(index) {
                empty += 1;
            } else {
                lane.stripe_held();
            }
        }
        lane.walked(empty)
    }

    /// A stripe for newcomers, in step with the others. Under the lock.
    fn build_stripe(&self) -> Stripe {
        let current = self.current.load(Ordering::Relaxed);
        let mut open = [false; SLOTS_MAX];
        let mut pointed_to = NO_LANE;
        for (index, lane) in self.lanes.each().filter(|(_, lane)| lane.stage() == Stage::Open) {
            open[index] = true;
            if lane.label().word() == current {
                pointed_to = index;
            }
        }
        Stripe::new(pointed_to, open)
    }

    fn lanes_of(&self, version: u32) -> impl Iterator<Item = (usize, Lane<'_>)> {
        let is_wanted =
            move |lane: Lane<'_>| lane.stage() != Stage::Free && lane.label().version() == version;
        self.lanes.each().filter(move |(_, lane)| is_wanted(*lane))
    }

    /// A lane for another slot: a free one, else the oldest that has drained.
    fn vacancy(&self) -> Option<(usize, Lane<'_>)> {
        (self.lanes.each())
            .filter(|(_, lane)| matches!(lane.stage(), Stage::Free | Stage::Drained))
            .min_by_key(|(_, lane)| (lane.stage() != Stage::Free, lane.label().generation()))
    }

    /// The highest generation so far: a lane keeps its label until a newer slot takes it.
    fn newest(&self) -> u32 {
        self.lanes.each().map(|(_, lane)| lane.label().generation()).max().unwrap_or(0)
    }

    fn advance(&self) {
        self.turn.fetch_add(1, Ordering::Release);
        #[cfg(not(loom))]
        {
            // Either the listener's look at the turn is later than this fence, or this look at
            // the listeners is later than its own. Without listeners nothing is allocated.
            fence(Ordering::SeqCst);
            if self.turned.total_listeners() > 0 {
                self.turned.notify(usize::MAX);
            }
        }
    }

    fn lock(&self) -> Guard<'_, N> {
        // Only a name's own code can panic under the lock, and then nothing is half done.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Clone> Pair<N> {
    /// Who holds `version`, over all its slots, with how many leases. A task that joined twice
    /// is listed for each joining. Joins and leaves wait for it, acquire and release do not.
    #[must_use]
    pub fn holders(&self, version: u32) -> Vec<Holder<N>> {
        let roster = self.lock();
        let Some(roster) = roster.as_deref() else {
            return Vec::new();
        };
        self.lanes_of(version)
            .flat_map(|(index, _)| roster.holders(index))
            .map(|(name, leases)| Holder { name: name.clone(), leases })
            .collect()
    }
}

impl<N> Default for Pair<N> {
    fn default() -> Self {
        Self::new()
    }
}

type Guard<'a, N> = MutexGuard<'a, Option<Box<Roster<N>>>>;

fn stripes<'a, N>(roster: &'a Guard<'_, N>) -> impl Iterator<Item = &'a Stripe> {
    roster.as_deref().into_iter().flat_map(Roster::stripes)
}
