//! Journals: of pair records, and of tasks and their steps.

mod postgres;
mod redb;
mod stop;
mod tasks;

pub use postgres::{PostgresJournal, PostgresTaskJournal};
pub use redb::{RedbJournal, SealedRecords};
pub use tasks::RedbTaskJournal;

pub(crate) use redb::Pairs;
pub(crate) use stop::{Stop, settle};
pub(crate) use tasks::Heads;
