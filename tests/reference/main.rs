//! The embedded stores against small models of them in memory: the same operations in any order,
//! with wrong epochs, repeats, polite ends and power cuts between and inside any of them.
//!
//! `proptest-state-machine` makes the sequences and shortens one that fails. Whatever a store
//! answers must be what the model answers, and after every operation everything that can be read
//! must be what the model says. A write that was cut off may be there or not, wholly; when it is
//! asked again the two meet.

mod checkpoints;
mod drive;
mod journal;
mod operations;
mod pairs;
mod secrets;
mod store;
mod tasks;
