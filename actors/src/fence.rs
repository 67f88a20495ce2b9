//! The word that stops this node, and the view of its lease.
//!
//! **Invariant:** every use of a credential asks here right before the request is written: acquire,
//! then check, then send.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keybaton_ports::Clock;

/// How long this node may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseView {
    /// The lock on the data directory is the lease; it lasts as long as the process.
    Held,
    /// Until this moment of boot time.
    Until(Duration),
}

/// The node's fence word and lease.
pub struct Fence {
    fenced: AtomicBool,
    lease: LeaseView,
}

impl Fence {
    /// A fence that is down, with this lease.
    #[must_use]
    pub fn new(lease: LeaseView) -> Self {
        Self { fenced: AtomicBool::new(false), lease }
    }

    /// Stops this node for good; there is no way back within one life.
    pub fn raise(&self) {
        self.fenced.store(true, Ordering::SeqCst);
    }

    /// Whether this node may use a credential right now.
    #[must_use]
    pub fn may_act(&self, clock: &dyn Clock) -> bool {
        let lease_holds = match self.lease {
            LeaseView::Held => true,
            LeaseView::Until(end) => clock.boottime() < end,
        };
        !self.fenced.load(Ordering::SeqCst) && lease_holds
    }
}
