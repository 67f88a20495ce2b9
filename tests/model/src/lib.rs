//! A model checker drives the rules of rotation through every interleaving of a small world.
//!
//! The world is one pair, one or two nodes with a broker and a task each, a store, a secret store
//! and a provider. Every step that the pair's owner takes is the production
//! [`keybaton_rotation::step`]; the world around it is small enough to be looked at completely, up
//! to a number of faults. Time has no clock here: a timer may ring at any moment that its meaning
//! allows.
//!
//! **Invariant:** the world never decides for the owner. What a [`Mutant`] makes wrong stands
//! around `step`, so production code knows nothing of it.

mod actions;
mod answers;
mod book;
mod brokers;
mod config;
mod counterexample;
mod explore;
mod forget;
mod heal;
mod limits;
mod nodes;
mod owner;
mod promises;
mod state;
mod what;
mod words;
mod world;

pub use actions::Action;
pub use config::{Config, Fault, Mutant, Promise};
pub use explore::{Found, explore, refute};
pub use state::State;
pub use what::{KeyRef, Truth, What};
pub use world::World;
