//! Checkpoint stores.

mod embedded;
mod postgres;

pub use embedded::EmbeddedCheckpoints;
pub use postgres::PostgresCheckpoints;
