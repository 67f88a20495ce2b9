//! The atomics that the registry is built on: the standard ones, loom's, or shuttle's.
//!
//! **Invariant:** nothing else in this crate names an atomic type, so that what loom and shuttle
//! explore is the code that ships.

pub(crate) use chosen::{AtomicU32, AtomicU64, AtomicUsize, Handover, Mutex, MutexGuard, spread};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::fence;
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::fence;

#[cfg(not(any(loom, shuttle)))]
mod chosen {
    use std::sync::LazyLock;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    use crossbeam_utils::atomic::AtomicCell;

    use crate::limits::SPREAD_MAX;

    /// A place where one thread leaves something for another to take, without a lock.
    pub(crate) struct Handover<T>(AtomicCell<Option<std::sync::Arc<T>>>);

    impl<T: Send + Sync> Handover<T> {
        // A pointer's width: otherwise the cell would fall back to a global lock.
        const LOCK_FREE: () = assert!(AtomicCell::<Option<std::sync::Arc<T>>>::is_lock_free());

        pub(crate) fn new() -> Self {
            const { Self::LOCK_FREE };
            Self(AtomicCell::new(None))
        }

        pub(crate) fn swap(&self, put: Option<std::sync::Arc<T>>) -> Option<std::sync::Arc<T>> {
            self.0.swap(put)
        }
    }

    /// How many stripes newcomers are dealt to in turn.
    pub(crate) fn spread() -> usize {
        // Asking the system reads files; once is enough.
        static SPREAD: LazyLock<usize> = LazyLock::new(|| {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            (4 * cores).min(SPREAD_MAX)
        });
        *SPREAD
    }
}

#[cfg(any(loom, shuttle))]
mod chosen {
    #[cfg(loom)]
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize},
    };
    #[cfg(shuttle)]
    pub(crate) use shuttle::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, AtomicUsize},
    };

    /// Neither has a cell of any type; its mutex has the same meaning and is never waited for.
    pub(crate) struct Handover<T>(Mutex<Option<std::sync::Arc<T>>>);

    impl<T> Handover<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(None))
        }

        pub(crate) fn swap(&self, put: Option<std::sync::Arc<T>>) -> Option<std::sync::Arc<T>> {
            std::mem::replace(&mut *self.0.lock().expect("no panic while held"), put)
        }
    }

    pub(crate) fn spread() -> usize {
        if cfg!(loom) { 2 } else { 4 }
    }
}
