//! What can be seen of a pair from outside: its latest record and the timeline of its rotation.
//!
//! **Invariant:** a view follows the journal; it is never written before the record is.

use std::sync::Arc;

use dashmap::DashMap;
use keybaton_messages::{PairId, RotationId, Timestamp};
use keybaton_rotation::{PairRecord, Phase};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits::TIMELINE_KEPT;

/// A phase and when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseAt {
    /// In which rotation.
    pub rotation: RotationId,
    /// Which phase.
    pub phase: Phase,
    /// Since when, store time.
    pub at: Timestamp,
    /// When the commit that began it had returned, on this process's clock: finer than store time.
    pub seen: Instant,
}

/// A pair as it stands.
#[derive(Clone, Debug, Default)]
pub struct PairView {
    /// The latest record; `None` until the pair was loaded.
    pub record: Option<Arc<PairRecord>>,
    /// Phases in the order in which they began, since this node started.
    pub timeline: Vec<PhaseAt>,
    /// Why the pair was stopped, if it was: a person must look.
    pub stopped: Option<String>,
}

/// The views of all pairs of this node.
#[derive(Default)]
pub struct Views(DashMap<PairId, watch::Sender<PairView>>);

impl Views {
    /// Follows a pair.
    #[must_use]
    pub fn watch(&self, pair: &PairId) -> watch::Receiver<PairView> {
        self.0
            .entry(pair.clone())
            .or_insert_with(|| watch::channel(PairView::default()).0)
            .subscribe()
    }

    /// Every pair that was seen, with its view.
    #[must_use]
    pub fn all(&self) -> Vec<(PairId, PairView)> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .map(|entry| (entry.key().clone(), entry.value().borrow().clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// When the present phase of a pair's rotation began, if this process saw that.
    #[must_use]
    pub fn phase_began(&self, pair: &PairId) -> Option<Timestamp> {
        self.0.get(pair)?.borrow().timeline.last().map(|mark| mark.at)
    }

    /// Shows a record that was just read or written.
    pub fn show(&self, record: &Arc<PairRecord>, now: Timestamp) {
        self.update(&record.pair, |view| {
            if let Some(rotation) = &record.rotation {
                let seen = view.timeline.last();
                let same = seen.is_some_and(|last| {
                    last.rotation == rotation.id
                        && std::mem::discriminant(&last.phase)
                            == std::mem::discriminant(&rotation.phase)
                });
                if !same {
                    if view.timeline.len() >= TIMELINE_KEPT {
                        view.timeline.remove(0);
                    }
                    view.timeline.push(PhaseAt {
                        rotation: rotation.id.clone(),
                        phase: rotation.phase.clone(),
                        at: now,
                        seen: Instant::now(),
                    });
                }
            }
            view.record = Some(Arc::clone(record));
        });
    }

    /// Shows that a pair was stopped, and why.
    pub fn show_stopped(&self, pair: &PairId, why: &str) {
        self.update(pair, |view| view.stopped = Some(why.to_owned()));
    }

    fn update(&self, pair: &PairId, change: impl FnOnce(&mut PairView)) {
        self.0
            .entry(pair.clone())
            .or_insert_with(|| watch::channel(PairView::default()).0)
            .send_modify(change);
    }
}
