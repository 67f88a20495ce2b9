//! Everything of a node that lies in Postgres: one database, one schema `keybaton`.
//!
//! ```text
//!   journal     tasks     checkpoints     the ports
//!      └──────────┼────────────┘
//!               Pool                      connections to the primary; made anew when they break
//!                 │
//!      schema keybaton                    plain SQL in migrations/, run once
//! ```
//!
//! Values are sealed in the same envelope as in the embedded store, bound to their table and key;
//! what guards and indexes need stands readable beside them.
//!
//! **Invariant:** decisions are read from the primary only.

mod bare;
mod error;
mod identity;
mod migrate;
mod open;
mod pool;
mod reservation;
mod settings;
mod tls;

pub use error::PostgresError;
pub use open::Postgres;
pub use reservation::Reservation;
pub use settings::PostgresSettings;

pub(crate) use error::{is_about_rows, is_answer, is_refused_write, why, written};
pub(crate) use pool::{Pool, Unwritten, discard};

/// A value on its way into a statement.
pub(crate) type Value<'a> = &'a (dyn tokio_postgres::types::ToSql + Sync);
