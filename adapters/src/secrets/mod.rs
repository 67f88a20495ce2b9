//! Secret stores.

mod embedded;
mod embedded_rows;
mod embedded_writes;

pub use embedded::EmbeddedSecrets;
