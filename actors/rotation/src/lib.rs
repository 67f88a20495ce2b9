//! The rules of one rotation, as a pure function over its record.
//!
//! `step(&record, input, &context)` says what to write and what to do next; actors carry it out.
//!
//! **Invariant:** no async, no clock, no randomness, no log, no I/O. The manifest knows only the
//! vocabulary and serde, so nothing else can come in.

mod decision;
mod draft;
mod handover;
mod input;
pub mod limits;
mod moves;
mod obligations;
mod orders;
mod phase;
mod policy;
mod record;
mod resume;
mod step;
mod timers;
mod triggers;

pub use decision::{
    AuditEntry, AuditKind, Context, CopyGrants, Decision, Effect, Guard, Impossible, Page, Reply,
};
pub use input::{Found, Health, Input, Order, Timer, Trigger, Want};
pub use phase::{Cause, End, Phase};
pub use policy::{OnStuck, OverlapFrom, Policy};
pub use record::{
    Class, Debt, Due, Gate, Obligation, Owner, PairRecord, Pause, QueuedTrigger, Reason, Reclaim,
    Rotation, Severity, VersionEntry,
};
pub use step::step;
