//! What the scenarios share: a world with a provider and a node, agents on strings, the real
//! program in a process of its own, and a hunt for spilled keys.
//!
//! **Invariant:** every wait is for a level and ends with a clear failure; nothing sleeps.

mod binary;
mod bus;
mod puppet;
mod recorder;
mod strings;
mod wait;
mod world;

pub use binary::{
    Ended, Running, SimulatorProcess, example, keybaton, keybaton_with_crash_points, plain_run,
    start, start_as,
};
pub use bus::{DeadBus, HeardBus};
pub use keybaton_oracle::hunt::{Find, Hunt};
pub use puppet::{Deed, Keeps, Puppet, Risk, Role};
pub use recorder::Recorder;
pub use strings::{Cue, Place, Seen, Strings};
pub use wait::{PATIENCE, soon};
pub use world::{PROVIDER, Setup, StandIn, World, phase_name, policy};
