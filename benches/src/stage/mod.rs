//! What the benches of a whole node stand on: a disk, a provider that answers at once, agents that
//! move on a cue, and bare redb beside them.

mod agent;
mod append;
mod bare;
mod crew;
mod revise;
mod scratch;
mod vendor;
mod writes;

pub use agent::{Agent, Cues, Notes, OUTCOME_BYTES, Play, STATE_BYTES};
pub use append::appends_per_second;
pub use bare::Bare;
pub use crew::{Crew, PROVIDER, TENANT, policy, runtime, step_bytes};
pub use revise::commits_per_second;
pub use scratch::{Scratch, refuse_memory};
pub use vendor::InstantVendor;
pub use writes::Writes;
