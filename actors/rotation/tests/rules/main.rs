//! The rules, case by case: a script of what happens, and what must come of it.
//!
//! `check(script, expected)` is the only place that knows the API; see `script.rs` for the words.

mod class_a;
mod class_b;
mod emergency;
mod facts;
mod obligations;
mod person;
mod restart;
mod script;
mod status;
mod triggers;
