//! What this node can hand out: one cell per pair, with its slots, its secrets and its drains.
//!
//! Owned by the node. The BrokerActor opens and closes here; holders acquire and release here
//! without asking any actor.
//!
//! **Invariant:** a version is closed before anyone asks whether it is empty.
//! **Invariant:** a secret is wiped once its version has drained and the last lease is gone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use keybaton_messages::{PairId, Rev, TaskId, Version};
use keybaton_ports::{AuthHeader, Secret};
use keybaton_registry::{Pair, PublishRefusal, Registry};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::DRAINS_KEPT;

/// Every pair that this node hands out.
#[derive(Default)]
pub struct Broker {
    registry: Registry<PairId, TaskId>,
    cells: DashMap<PairId, Arc<PairCell>>,
}

/// One pair on this node.
pub struct PairCell {
    /// Which pair.
    pub pair: PairId,
    pub(crate) slots: Arc<Pair<TaskId>>,
    pub(crate) changed: Notify,
    versions: Mutex<Vec<Arc<OpenVersion>>>,
    newest: ArcSwapOption<OpenVersion>,
    waiting: AtomicUsize,
    why: Mutex<String>,
    drains: Mutex<VecDeque<Arc<Drain>>>,
    found_not_dead: AtomicU64,
    /// Held by the errand that mends this pair's grants; the highest revision that one has seen.
    pub(crate) errand: tokio::sync::Mutex<Option<Rev>>,
}

/// A version whose secret this node has in memory.
pub(crate) struct OpenVersion {
    pub(crate) version: Version,
    pub(crate) secret: Secret,
    pub(crate) header: AuthHeader,
    pub(crate) cut: CancellationToken,
    pub(crate) drain: Arc<Drain>,
}

/// How one version left this node.
pub struct Drain {
    version: Version,
    closed: OnceLock<(Instant, u64)>,
    drained: OnceLock<Instant>,
    longest_remaining_us: AtomicU64,
}

/// A drain as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Which version left.
    pub version: Version,
    /// Holders when it was closed.
    pub holders_at_close: u64,
    /// From closing to the last release, if that has come.
    pub latency: Option<Duration>,
    /// The longest time that a step or call went on after the closing: no drain can be shorter.
    pub longest_remaining: Duration,
    /// When it was closed: from here on nobody could take it.
    pub closed_at: Option<Instant>,
    /// When the last holder had left.
    pub drained_at: Option<Instant>,
}

/// A holder as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderView {
    /// Which task.
    pub task: TaskId,
    /// How many leases it has.
    pub leases: u64,
}

impl Broker {
    /// The cell of a pair, made on first use.
    pub fn cell(&self, pair: &PairId) -> Arc<PairCell> {
        if let Some(cell) = self.cells.get(pair) {
            return cell.value().clone();
        }
        self.cells
            .entry(pair.clone())
            .or_insert_with(|| {
                Arc::new(PairCell {
                    pair: pair.clone(),
                    slots: self.registry.pair(pair),
                    changed: Notify::new(),
                    versions: Mutex::default(),
                    newest: ArcSwapOption::empty(),
                    waiting: AtomicUsize::new(0),
                    why: Mutex::new("the pair is not loaded yet".into()),
                    drains: Mutex::default(),
                    found_not_dead: AtomicU64::new(0),
                    errand: tokio::sync::Mutex::default(),
                })
            })
            .value()
            .clone()
    }

    /// Every cell of this node, in the order of their pairs.
    #[must_use]
    pub fn cells(&self) -> Vec<Arc<PairCell>> {
        let mut cells: Vec<_> = self.cells.iter().map(|entry| entry.value().clone()).collect();
        cells.sort_by(|a, b| a.pair.cmp(&b.pair));
        cells
    }
}

impl PairCell {
    /// Whether this version is open: handed out to whoever asks.
    #[must_use]
    pub fn is_open(&self, version: Version) -> bool {
        self.slots.current().is_some_and(|(current, _)| current == version.0)
    }

    /// The version that is handed out, one atomic read.
    #[must_use]
    pub fn current(&self) -> Option<(Version, u64)> {
        self.slots.current().map(|(version, generation)| (Version(version), generation))
    }

    /// Versions whose secret is in memory and that are not handed out any more.
    #[must_use]
    pub fn closed_versions(&self) -> Vec<Version> {
        self.versions
            .lock()
            .iter()
            .filter(|open| open.drain.closed.get().is_some())
            .map(|open| open.version)
            .collect()
    }

    /// Whether nobody holds this version here, for good: it has drained, or was never opened.
    #[must_use]
    pub fn is_drained(&self, version: Version) -> bool {
        let versions = self.versions.lock();
        versions
            .iter()
            .filter(|open| open.version == version)
            .all(|open| open.drain.drained.get().is_some())
    }

    /// Who holds a version.
    #[must_use]
    pub fn holders(&self, version: Version) -> Vec<HolderView> {
        self.slots
            .holders(version.0)
            .into_iter()
            .map(|holder| HolderView { task: holder.name, leases: holder.leases })
            .collect()
    }

    /// How many leases of a version are out.
    #[must_use]
    pub fn holder_count(&self, version: Version) -> u64 {
        self.slots.count(version.0)
    }

    /// How many acquirers wait at the gate.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Why acquirers wait, in one line.
    #[must_use]
    pub fn why(&self) -> String {
        self.why.lock().clone()
    }

    pub(crate) fn set_why(&self, why: impl Into<String>) {
        *self.why.lock() = why.into();
    }

    /// The last drains of this pair on this node, oldest first.
    #[must_use]
    pub fn drains(&self) -> Vec<DrainReport> {
        self.drains.lock().iter().map(|drain| drain.report()).collect()
    }

    /// Hands a version out from here on. The secret is in place before the slot is.
    ///
    /// # Errors
    /// When too many versions of the pair are still draining; try again when one has.
    pub(crate) fn open(
        &self,
        version: Version,
        secret: Secret,
        header: AuthHeader,
    ) -> Result<(), PublishRefusal> {
        let open = Arc::new(OpenVersion {
            version,
            secret,
            header,
            cut: CancellationToken::new(),
            drain: Arc::new(Drain::new(version)),
        });
        self.versions.lock().push(open.clone());
        self.newest.store(Some(open.clone()));
        let published = self.slots.publish(version.0);
        if published.is_err() {
            self.versions.lock().retain(|kept| !Arc::ptr_eq(kept, &open));
            self.newest.store(None);
        }
        self.changed.notify_waiters();
        published.map(drop)
    }

    /// Closes every open version that `keep` does not name. `on_drained` is told once per version.
    /// Returns those that it closed.
    pub(crate) fn close_except(
        &self,
        keep: Option<Version>,
        on_drained: impl Fn(Version) + Clone + Send + Sync + 'static,
    ) -> Vec<Version> {
        let leaving: Vec<_> = self
            .versions
            .lock()
            .iter()
            .filter(|open| Some(open.version) != keep && open.drain.closed.get().is_none())
            .cloned()
            .collect();
        for open in &leaving {
            let drain = open.drain.clone();
            let version = open.version;
            let notify = on_drained.clone();
            let begun = Instant::now();
            let holders = self.slots.count(version.0);
            if drain.closed.set((begun, holders)).is_ok() {
                self.remember(drain);
            }
            let slots_of_version = self.drains_of(version);
            self.slots.close(version.0, move || {
                for drain in &slots_of_version {
                    drain.drained.get_or_init(Instant::now);
                }
                notify(version);
            });
        }
        // Whoever waits at the gate asks for this look at the pair: ringing when nothing changed
        // would have them ask again, and so on without a pause.
        if !leaving.is_empty() {
            self.changed.notify_waiters();
        }
        leaving.iter().map(|open| open.version).collect()
    }

    /// A version that was rolled back to has had several slots; they drain as one.
    fn drains_of(&self, version: Version) -> Vec<Arc<Drain>> {
        let versions = self.versions.lock();
        versions.iter().filter(|open| open.version == version).map(|o| o.drain.clone()).collect()
    }

    fn remember(&self, drain: Arc<Drain>) {
        let mut drains = self.drains.lock();
        if drains.len() >= DRAINS_KEPT {
            drains.pop_front();
        }
        drains.push_back(drain);
    }

    /// Lets go of the secrets of drained versions.
    pub(crate) fn forget_drained(&self) {
        self.versions.lock().retain(|open| open.drain.drained.get().is_none());
        let drained = |open: &OpenVersion| open.drain.drained.get().is_some();
        if self.newest.load().as_ref().is_some_and(|open| drained(open)) {
            self.newest.store(None);
        }
    }

    /// Cuts the calls of a version, if it is closed.
    pub(crate) fn cut(&self, version: Version) {
        for open in self.versions.lock().iter() {
            if open.version == version && open.drain.closed.get().is_some() {
                open.cut.cancel();
            }
        }
    }

    pub(crate) fn opened(&self, version: Version) -> Option<Arc<OpenVersion>> {
        let newest = self.newest.load();
        if let Some(open) = newest.as_ref().filter(|open| open.version == version) {
            return Some(open.clone());
        }
        self.versions.lock().iter().rev().find(|open| open.version == version).cloned()
    }

    /// How often a refused key was probed and found alive.
    pub(crate) fn found_not_dead(&self) -> u64 {
        self.found_not_dead.load(Ordering::Relaxed)
    }

    /// Notes that the active key was probed and not found dead, and wakes those who wait for a
    /// verdict.
    pub(crate) fn note_not_dead(&self) {
        self.found_not_dead.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn wait_begins(&self) -> usize {
        self.waiting.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn wait_ends(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drain {
    fn new(version: Version) -> Self {
        Self {
            version,
            closed: OnceLock::new(),
            drained: OnceLock::new(),
            longest_remaining_us: AtomicU64::new(0),
        }
    }

    /// Notes that a step or call under this version ended at `at`.
    pub(crate) fn note_end(&self, at: Instant) {
        if let Some((closed, _)) = self.closed.get() {
            let remaining = at.saturating_duration_since(*closed).as_micros();
            let remaining = u64::try_from(remaining).unwrap_or(u64::MAX);
            self.longest_remaining_us.fetch_max(remaining, Ordering::Relaxed);
        }
    }

    fn report(&self) -> DrainReport {
        let closed = self.closed.get();
        DrainReport {
            version: self.version,
            holders_at_close: closed.map_or(0, |(_, holders)| *holders),
            latency: closed
                .zip(self.drained.get())
                .map(|((closed, _), drained)| drained.saturating_duration_since(*closed)),
            longest_remaining: Duration::from_micros(
                self.longest_remaining_us.load(Ordering::Relaxed),
            ),
            closed_at: closed.map(|(at, _)| *at),
            drained_at: self.drained.get().copied(),
        }
    }
}
