//! The process is killed, frozen or refused by its disk at every named point of its work.
//!
//! Each run is the real program with its crash points compiled in, on a directory of its own,
//! against a simulated provider in a process of its own: one life that something happens to, then
//! as many more as it takes to end. The oracle judges the whole.

mod case;
mod matrix;
mod plan;
mod points;
mod proof;
mod sources;
mod stores;
