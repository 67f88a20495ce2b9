//! Event buses.

mod local;

pub use local::LocalBus;
