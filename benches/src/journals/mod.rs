//! What a commit costs on each store that can hold the journal.
//!
//! | case | what happens | beside |
//! |---|---|---|
//! | `together` | 100 pairs, each written again and again | one pair, written again and again: what writing for everybody at once gives |
//! | `raw` | the same 100 pairs | the store without keybaton: 100 rows of the same size, one sync for all of them |
//!
//! A store whose server is not on the machine is left out, and standard error says so.

mod commits;
mod places;

use std::io::Write;

use crate::figure::Report;
use crate::journals::places::{Place, Store};
use crate::race::median;
use crate::stage::runtime;

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 5;

/// Pairs that are written at the same time.
const PAIRS: usize = 100;

/// Measures all stores.
///
/// # Errors
/// When there is no disk to measure on, or a store fails.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    for store in Store::ALL {
        let name = format!("journals/{}", store.name());
        if !report.wants(&name) {
            continue;
        }
        runtime()?.block_on(async {
            match Place::open(store).await {
                Ok(place) => measure(report, &name, place).await,
                Err(error) if error.is::<keybaton_servers::Missing>() => {
                    writeln!(std::io::stderr(), "  not measured: {error}").unwrap_or(());
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })?;
    }
    Ok(())
}

async fn measure(report: &mut Report, name: &str, mut place: Place) -> anyhow::Result<()> {
    let value = vec![0x5a; commits::record_bytes()?];
    let (mut single, mut together, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        single.push(commits::per_second(&place.journal, round, 1).await?);
        together.push(commits::per_second(&place.journal, round, PAIRS).await?);
        raw.push(place.raw.rows_per_second(PAIRS, &value).await?);
    }
    let over = |these: &[f64]| {
        let ratios = together.iter().zip(these).map(|(together, this)| together / this);
        median(ratios)
    };
    report.at_least(format!("{name}/together/single"), over(&single), 5.0);
    report.at_least(format!("{name}/together/raw"), over(&raw), 0.5);
    for (what, rates) in [("single", single), ("together", together), ("raw", raw)] {
        report.report(format!("{name}/{what}_per_second"), median(rates.into_iter()));
    }
    Ok(())
}
