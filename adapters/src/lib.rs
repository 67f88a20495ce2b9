//! The outside world: one file per implementation of a port.
//!
//! [`Embedded`] opens the default ones, which need nothing but a directory and a master key. Each
//! implementation keeps its port's contract, word for word; `tests/conformance` checks every
//! sentence of it.

pub mod audit;
mod blocking;
pub mod buses;
pub mod checkpoints;
mod clock;
mod embedded;
pub mod journals;
pub mod limits;
pub mod postgres;
pub mod providers;
mod queue;
pub mod secrets;
pub mod store;

pub use clock::SystemClock;
pub use embedded::{Embedded, Options};
