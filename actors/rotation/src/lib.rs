//! The rules of one rotation, as a pure function over its record.
//!
//! `step(&record, input, &context)` says what to write and what to do next; actors carry it out.
//!
//! **Invariant:** no async, no clock, no randomness, no log, no I/O. The manifest knows only the
//! vocabulary and serde, so nothing else can come in.

mod decision;
mod draft;
mod handover;
pub mod limits;
mod moves;
mod obligations;
mod orders;
mod policy;
mod record;
mod resume;
mod step;
mod timers;
mod triggers;

pub use decision::{
    AuditEntry, AuditKind, Context, CopyGrants, Decision, Effect, Found, Guard, Health, Impossible,
    Input, Order, Page, Reply, Timer, Trigger, Want,
};
pub use policy::{OnStuck, OverlapFrom, Policy};
pub use record::{
    Cause, Class, Debt, Due, End, Gate, Obligation, Owner, PairRecord, Pause, Phase, QueuedTrigger,
    Reason, Reclaim, Rotation, Severity, VersionEntry,
};
pub use step::step;
