//! One suite per port: what its doc comments promise, for every adapter and every fake.
//!
//! A suite is generic over a world, which is the thing behind the port seen from its other side;
//! `tests/conformance` opens the worlds.

pub mod provider;
