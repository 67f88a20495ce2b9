//! What the tests share: suites, fakes, worlds. The tests themselves stand in the folders beside.

pub mod conformance;
pub mod fakes;
pub mod harness;
