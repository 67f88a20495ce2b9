//! The simulator over real HTTP: every shape, every fault, and the ledger's word on each.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod admin;
mod control;
mod faults;
mod inference;
mod openrouter;
mod restart;
mod support;
