//! The embedded store: one data directory, one database file, one writer.
//!
//! ```text
//!   journal   tasks   secrets        each turns a call into one operation on rows
//!      └────────┼────────┘
//!            Writer                  whoever waits first commits for everybody who waits
//!               │
//!           Database                 redb, two-phase commits, reopened after a failed one
//!               │
//!     keybaton.redb (0600)           every value sealed, bound to its store, table and key
//! ```
//!
//! **Invariant:** an operation is wholly there or not at all, and answers only once it is durable.
//! **Invariant:** one process at a time; the lock on the directory is the node's lease.

mod backend;
mod cipher;
mod database;
mod directory;
mod entropy;
mod envelope;
mod error;
mod identity;
mod keys;
mod meta;
mod rows;
mod segments;
mod stretches;
mod ticket;
mod writer;

pub use backend::BackendSource;
pub use directory::{DataDir, Notice, holds_store};
pub use entropy::SystemEntropy;
pub use error::{KeyError, OpenError};
pub use keys::MasterKey;

pub(crate) use backend::file_source;
pub(crate) use database::{Database, Reader};
pub(crate) use envelope::{Broken, Place, Sealer, Whose};
pub(crate) use error::{Down, Fault};
pub(crate) use identity::{Founding, recognise};
pub(crate) use keys::Purpose;
pub(crate) use meta::{Identity, identify, is_time_stale, write_time};
pub(crate) use rows::{ENTRIES_NAME, RowKey, Rows, Table, Tables};
pub(crate) use segments::Segment;
pub(crate) use writer::{Resident, Store, Work};
