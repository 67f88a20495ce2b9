//! Small honest implementations of ports in memory, with switches for faults. They pass the same
//! suites as the adapters, and no choice in them is left to chance: the same calls in the same
//! order are answered alike.

pub mod checkpoints;
pub mod faults;
pub mod journal;
pub mod provider;
pub mod secrets;
pub mod tasks;
