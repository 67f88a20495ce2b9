//! Small honest implementations of ports, with switches for faults. They pass the same suites as
//! the adapters.

pub mod checkpoints;
pub mod disk;
pub mod faults;
pub mod journal;
pub mod provider;
pub mod secrets;
pub mod tasks;
