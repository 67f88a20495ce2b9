//! Journals: of pair records, and of tasks and their steps.

mod book;
mod memory;
mod operations;
mod postgres;
mod redb;
mod redis;
mod stop;
mod tasks;
mod wanted;

pub use postgres::{PostgresJournal, PostgresTaskJournal};
pub use redb::{RedbJournal, SealedRecords};
pub use redis::{
    AcceptedLoss, Durability, RedisJournalSettings, RedisReservation, RedisStore, RedisStoreError,
};
pub use tasks::RedbTaskJournal;

pub(crate) use redb::Pairs;
pub(crate) use stop::{Stop, settle};
pub(crate) use tasks::Heads;
