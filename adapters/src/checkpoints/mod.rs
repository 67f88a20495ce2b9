//! Checkpoint stores.

mod embedded;

pub use embedded::EmbeddedCheckpoints;
