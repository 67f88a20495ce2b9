//! The rules of one rotation, as a pure function over its record.
//!
//! `step(&record, input, &context)` says what to write and what to do next; actors carry it out.
//!
//! **Invariant:** no async, no clock, no randomness, no log, no I/O. The manifest knows only the
//! vocabulary and serde, so nothing else can come in.
//!
//! The phases of one rotation, and every move there is (a test compares them with what happens).
//! Class A never empties, settles or probes the old key; class B never drains after promote.
//!
//! ```text
//! Queued -> Preflight, Verifying, Failed
//! Preflight -> Queued, AwaitingPerson, Issuing, Emptying, Failed
//! AwaitingPerson -> Verifying, Queued, Failed
//! Emptying -> Issuing, Failed
//! Issuing -> Verifying, Locating, Settling, Queued, Failed
//! Locating -> Verifying, Settling, Queued, Failed
//! Settling -> ProbingOld, Queued
//! ProbingOld -> Queued
//! Verifying -> Draining, Checkpointing, Complete, Queued, Failed
//! Draining -> Checkpointing, Overlap
//! Checkpointing -> Overlap, Revoking, Draining
//! Overlap -> Revoking, Draining
//! Revoking -> Complete, Failed
//! ```
//!
//! From Draining to Draining leads the rollback. Another rotation may take the place of a promoted
//! one at any time; what that one was leaving becomes an obligation.

mod decision;
mod draft;
mod explain;
mod handover;
mod input;
pub mod limits;
mod moves;
mod obligations;
mod orders;
mod phase;
mod policy;
mod policy_check;
mod record;
mod resume;
mod step;
mod timers;
mod triggers;

pub use decision::{
    AuditEntry, AuditKind, Context, CopyGrants, Decision, Effect, Guard, Impossible, Page, Reply,
};
pub use explain::{Explanation, explain};
pub use input::{Found, Health, Input, Order, Timer, Trigger, Want};
pub use phase::{Cause, End, Phase};
pub use policy::{OnStuck, OverlapFrom, Policy};
pub use policy_check::BadPolicy;
pub use record::{
    Class, Debt, Due, Gate, Obligation, Owner, PairRecord, Pause, QueuedTrigger, Reason, Reclaim,
    Rotation, Severity, VersionEntry,
};
pub use step::step;
