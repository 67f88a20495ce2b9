//! Whole rotations on each journal that a node can run on.

use std::sync::Arc;

use keybaton::{Node, NodeBuilder};
use keybaton_servers::redis::Flavour;

use crate::figure::Report;
use crate::journals::places::{Store, postgres, redis};
use crate::journals::unless_missing;
use crate::race::median;
use crate::stage::{Scratch, runtime};
use crate::throughput::{rotations_per_second, start_pairs};

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 3;

/// What a journal's server needs for as long as it is used.
type Server = Box<dyn std::any::Any>;

/// Rotations in a second of 100 pairs.
pub(super) fn rotations(report: &mut Report) -> anyhow::Result<()> {
    for store in Store::ALL {
        let name = format!("journals/{}/rotations_per_second", store.name());
        if !report.wants(&name) {
            continue;
        }
        let scratch = Scratch::new()?;
        let builder = Node::builder(scratch.path().join("node"));
        let Some((_server, builder)) = unless_missing(on(store, builder))? else { continue };
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

/// A node that keeps its journal there.
fn on(store: Store, builder: NodeBuilder) -> anyhow::Result<(Server, NodeBuilder)> {
    let on_redis = |builder: NodeBuilder, flavour| {
        let (server, settings) = redis(flavour)?;
        anyhow::Ok((Box::new(server) as Server, builder.redis_journal(settings)))
    };
    match store {
        Store::Embedded => Ok((Box::new(()), builder)),
        Store::Postgres => {
            let (server, settings) = postgres()?;
            Ok((Box::new(server), builder.postgres(settings)))
        }
        Store::Redis => on_redis(builder, Flavour::Redis),
        Store::Valkey => on_redis(builder, Flavour::Valkey),
    }
}
