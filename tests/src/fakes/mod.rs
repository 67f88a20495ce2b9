//! Small honest implementations, with switches for faults. They pass the same suites as the
//! adapters.

pub mod disk;

pub use keybaton_fakes::{checkpoints, faults, journal, provider, secrets, tasks};
