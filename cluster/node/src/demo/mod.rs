//! `keybaton demo`: a key is replaced under running agents, live, and a judge says how it went.
//!
//! ```text
//!  simulator (a real HTTP server, ledger on disk)  ◄── calls ── agents of four tenants
//!        ▲  issue, list, revoke                                      │
//!        └────────────── node (temporary directory) ─── handles ─────┘
//!  afterwards: ledger + task journals + pair records ──► oracle ──► verdict
//! ```
//!
//! **Invariant:** the verdict comes from the oracle, which shares no code with the node.

pub mod agents;
pub mod bare;
pub mod judging;
mod lives;
pub mod naive;
mod options;
mod report;
mod run;
mod screen;
mod servers;
pub mod stage;

pub use options::{DemoArgs, Output, ProviderClass, ServersChoice};
pub use report::note;
pub use run::{HAND_OVER_BYTES, interrupt, run};
pub use servers::Servers;
