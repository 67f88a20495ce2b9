//! Whole rotations on each journal that a node can run on.

use std::sync::Arc;

use keybaton::Node;

use crate::figure::Report;
use crate::journals::places::{Store, postgres};
use crate::journals::unless_missing;
use crate::race::median;
use crate::stage::{Scratch, runtime};
use crate::throughput::{rotations_per_second, start_pairs};

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 3;

/// Rotations in a second of 100 pairs.
pub(super) fn rotations(report: &mut Report) -> anyhow::Result<()> {
    for store in [Store::Embedded, Store::Postgres] {
        let name = format!("journals/{}/rotations_per_second", store.name());
        if !report.wants(&name) {
            continue;
        }
        let scratch = Scratch::new()?;
        let builder = Node::builder(scratch.path().join("node"));
        let (_server, builder) = match store {
            Store::Postgres => {
                let Some((server, settings)) = unless_missing(postgres())? else { continue };
                (Some(server), builder.postgres(settings))
            }
            _ => (None, builder),
        };
        let mut rates = Vec::new();
        runtime()?.block_on(async {
            let node = Arc::new(start_pairs(builder).await?);
            for _ in 0..ROUNDS {
                rates.push(rotations_per_second(&node).await?);
            }
            anyhow::Ok(())
        })?;
        report.report(name, median(rates.into_iter()));
    }
    Ok(())
}
