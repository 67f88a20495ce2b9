//! How much a node gets done in a second, beside what its store can do.
//!
//! | case | what happens | beside |
//! |---|---|---|
//! | `rotations` | 100 pairs rotate again and again, at a provider that answers at once | the journal's commits from 100 writers, divided by the commits of one rotation |
//! | `steps` | tasks whose steps end at once, 300 bytes each | bare redb, the same rows, one commit for as many as there are tasks |

mod rotations;
mod steps;

use crate::figure::Report;

pub(crate) use rotations::{rotations_per_second, start_pairs};

/// Measures all figures of throughput.
///
/// # Errors
/// When there is no disk to measure on, or the node fails.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    rotations::rotations(report)?;
    steps::steps(report)
}
