//! Handing a new key over to many tasks of one pair, class A, with durable checkpoints.
//!
//! | case | what happens | beside |
//! |---|---|---|
//! | `spread` | a thousand step boundaries a second; after a promotion each is a hand-over | ordinary boundaries of the same run; lone commits of bare redb |
//! | `burst` | every task's step ends at the same instant | one commit of bare redb with all values |
//! | `resting` | every task rests when the version is promoted | the same |
//! | `growth` | bursts of 1 000, 10 000, 100 000 tasks | each other |
//!
//! Every hand-over writes one value: a step's result of 300 bytes and a checkpoint of 2 KiB, both
//! encrypted. A figure is the median over the rotations.

mod burst;
mod spread;

use crate::figure::Report;

/// Measures all figures of rotations.
///
/// # Errors
/// When there is no disk to measure on, or a rotation does not end.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    spread::spread(report)?;
    burst::burst(report)?;
    burst::resting(report)?;
    burst::growth(report)
}
