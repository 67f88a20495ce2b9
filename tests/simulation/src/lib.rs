//! The real actors in one thread, with a seed for every choice and a clock that only the test moves.
//! The same seed is the same run; whatever fails is found again by its seed.
//!
//! ```text
//!  World (data, outlives every node)                 Node (a runtime; dropped = killed)
//!  ┌──────────────────────────────────────────┐      ┌──────────────────────────────────┐
//!  │ fakes: journal, tasks, secrets, vendors   │◄─────┤ ports ◄── Supervisor ─ the actors │
//!  │ agenda: what will happen, and when        │      │ agents: tasks that use keys      │
//!  │ dice: latency, faults, crashes, triggers  │─────►│ virtual time, seeded select!     │
//!  │ promises: checked after every change      │ end  └──────────────────────────────────┘
//!  └──────────────────────────────────────────┘
//! ```
//!
//! A call of a port travels to the world, is carried out by its agenda, and travels back. So what a
//! node asked for before it died may still happen, and what it was not told has happened.
//!
//! **Invariant:** every choice is drawn from the seed, and nothing looks at a real clock.
//! **Invariant:** a node that crashed changes nothing from that instant on.

mod agenda;
mod agents;
mod call;
mod chaos;
mod client;
mod clock;
mod dice;
mod ending;
mod flaws;
mod keys;
pub mod limits;
mod node;
mod ports;
mod promises;
mod provider;
mod replay;
mod run;
pub mod seeds;
mod trace;
mod world;

pub use flaws::Flaw;
pub use replay::{Difference, replay_twice};
pub use run::{Mode, Outcome, run, run_traced};
