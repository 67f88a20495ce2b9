//! `keybaton bench drain`: how long it takes to move running agents from one key to the next.
//!
//! ```text
//!  arrivals (open loop) ─► agents ── steps over HTTP ──► simulator ─► ledger ─┐
//!                            │ begun, ended, version                          │
//!                            ▼                                                ▼
//!  schedule ─► rotations ─► recorder ─► sightings ─► figures ─► summary   oracle: dropped,
//!                 ▲ committed, closed, empty, acknowledged         │      refused, lost, doubled
//!              the node                                            ▼
//!                                              table · CSV · HdrHistogram · SVG · report.html
//! ```
//!
//! **Invariant:** rotations begin at planned times and tasks arrive at planned times, whatever the
//! node does meanwhile.
//! **Invariant:** what did not end while it was watched is counted with the time that was waited
//! for it, never left out.
//! **Invariant:** whether a call was refused or a step lost is for the oracle to say.

mod agent;
mod charts;
mod comparators;
mod curve;
mod environment;
mod fail_if;
mod figures;
mod files;
mod limits;
mod load;
mod options;
mod page;
mod plot;
mod population;
mod recorder;
mod rotations;
mod run;
mod sighting;
mod spread;
mod stage;
mod steps;
mod summary;
mod sweep;
mod table;
mod times;

pub use options::BenchCommand;
pub use run::run;
