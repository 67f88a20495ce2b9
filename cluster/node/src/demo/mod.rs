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

mod agents;
mod bare;
mod lives;
mod naive;
mod options;
mod report;
mod run;
mod screen;
mod servers;
mod stage;

pub use options::{DemoArgs, Output};
pub use run::run;
