//! Small honest implementations of ports, with switches for faults. They pass the same suites as
//! the adapters.

pub mod provider;
