//! Does every adapter keep its port's promise? One file per port or store, one line per
//! implementation.

mod audit_file;
mod embedded;
mod fakes;
mod page;
mod postgres;
mod provider;
mod redis;
mod redis_journal;
mod remembered;
mod store_disk;
mod store_opening;
mod store_rows;
mod store_segments;
mod vault;
