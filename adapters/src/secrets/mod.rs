//! Secret stores.

mod embedded;
mod embedded_rows;
mod embedded_writes;
pub mod vault;

pub use embedded::EmbeddedSecrets;
