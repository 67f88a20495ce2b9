//! Who holds which version of which pair, right now.
//!
//! Acquire and release happen on every provider call of every task, and revoking a key depends on
//! the answer being final. So: exact, without locks, and as near to one uncontended atomic as it
//! can be.
//!
//! ```
//! use keybaton_registry::Registry;
//!
//! let registry = Registry::<&str, u64>::new();
//! let pair = registry.pair(&"acme/openai");
//! let task = pair.join(7);
//! pair.publish(1)?;
//! let lease = task.acquire()?;
//!
//! let (told, drained) = std::sync::mpsc::channel();
//! pair.publish(2)?;
//! pair.close(1, move || told.send("version 1 is free").expect("somebody waits"));
//! assert!(!lease.is_current());
//! assert!(drained.try_recv().is_err(), "task 7 still holds version 1");
//!
//! drop(lease);
//! assert_eq!(drained.try_recv(), Ok("version 1 is free"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A **pair** has **slots**, one for each use of a **version**; one is current. A **member** is a
//! task that may acquire; a **holder** is a member with a **lease**. A slot is opened once, closed
//! once and drained once. Leases are counted, not tasks: one task may hold two.
//!
//! The order of atomics is explored by loom (`tests/loom.rs`), schedules of more threads by shuttle
//! (`tests/shuttle.rs`), both also on wrong variants that they have to refute (`mutants.txt`).

mod lane;
mod limits;
mod member;
mod pair;
mod refusal;
#[cfg(not(loom))]
mod registry;
mod roster;
mod stripe;
mod sync;

pub use limits::{LEASES_PER_MEMBER_MAX, SLOTS_MAX};
pub use member::{Lease, LeaseRef, Member};
pub use pair::{Holder, Pair, Slot, SlotState};
pub use refusal::{PublishRefusal, Refusal};
#[cfg(not(loom))]
pub use registry::Registry;
