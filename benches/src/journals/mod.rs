//! What a commit costs on each store that can hold the journal.
//!
//! | case | what happens | beside |
//! |---|---|---|
//! | `together/single` | 100 pairs, each written again and again | one pair, written again and again: what writing for everybody at once gives |
//! | `together/raw` | the same 100 pairs | the store without keybaton: 100 rows under the same names and of the same size, written again and again, one sync for all of them |
//! | `together/raw_in_server` | the same two, each row priced in the server's own time on processors | what a row costs the store, whoever else shares the machine with it |
//! | `steps/single` | 1000 tasks, each result durable before the next | one such task |
//! | `rotations_per_second` | 100 pairs of a whole node rotate again and again | nothing |
//! | `first_grant` | a pair's first credential on a node, with Postgres and Vault | one durable transaction and one read of Vault, without keybaton's actors |
//!
//! Where commits are measured, a store has 10 000 other pairs already. One whose server is not on the
//! machine is left out, and standard error says so.

mod commits;
mod grants;
mod places;
mod whole;

use std::io::Write;
use std::time::Duration;

use crate::figure::Report;
use crate::journals::places::{Place, Store};
use crate::race::median;
use crate::stage::{appends_per_second, runtime};

/// Rounds: odd, so that the median was really measured.
const ROUNDS: usize = 5;

/// Pairs that are written at the same time.
const PAIRS: usize = 100;

/// Tasks that write at the same time.
const TASKS: usize = 1000;

/// Measures all stores.
///
/// # Errors
/// When there is no disk to measure on, or a store fails.
pub fn run(report: &mut Report) -> anyhow::Result<()> {
    for store in Store::ALL {
        let name = format!("journals/{}", store.name());
        if report.wants(&name) {
            runtime()?.block_on(async {
                let Some(place) = unless_missing(Place::open(store).await)? else { return Ok(()) };
                measure(report, &name, place).await
            })?;
        }
    }
    whole::rotations(report)?;
    grants::first(report)
}

/// A place that was opened; nothing where its server is not on this machine.
fn unless_missing<T>(opened: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match opened {
        Ok(place) => Ok(Some(place)),
        Err(error) if error.is::<keybaton_servers::Missing>() => {
            // Nobody reads it when standard error is gone.
            writeln!(std::io::stderr(), "  not measured: {error}").unwrap_or(());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn measure(report: &mut Report, name: &str, mut place: Place) -> anyhow::Result<()> {
    let value = vec![0x5a; commits::record_bytes()?];
    let (mut single, mut together, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut in_server = Vec::new();
    for round in 0..ROUNDS {
        single.push(commits::per_second(&place.journal, round, 1).await?);
        let begun = place.raw.server_time()?;
        together.push(commits::per_second(&place.journal, round, PAIRS).await?);
        let between = place.raw.server_time()?;
        raw.push(place.raw.rows_per_second(PAIRS, &value).await?);
        let ended = place.raw.server_time()?;
        if let (Some(begun), Some(between), Some(ended)) = (begun, between, ended) {
            // Both sides worked for the same time.
            let row = |used: Duration, rate: f64| {
                used.as_secs_f64() * 1e6 / (rate * commits::SLICE.as_secs_f64())
            };
            in_server.push((
                row(between.saturating_sub(begun), together[round]),
                row(ended.saturating_sub(between), raw[round]),
            ));
        }
    }
    steps(report, name, &place).await?;
    let over = |these: &[f64]| {
        let ratios = together.iter().zip(these).map(|(together, this)| together / this);
        median(ratios)
    };
    report.at_least(format!("{name}/together/single"), over(&single), 5.0);
    report.at_least(format!("{name}/together/raw"), over(&raw), 0.5);
    if !in_server.is_empty() {
        let ratio = median(in_server.iter().map(|(ours, raw)| raw / ours));
        report.report(format!("{name}/together/raw_in_server"), ratio);
        let ours = median(in_server.iter().map(|(ours, _)| *ours));
        report.report(format!("{name}/together_server_us"), ours);
        report.report(format!("{name}/raw_server_us"), median(in_server.iter().map(|it| it.1)));
    }
    for (what, rates) in [("single", single), ("together", together), ("raw", raw)] {
        report.report(format!("{name}/{what}_per_second"), median(rates.into_iter()));
    }
    Ok(())
}

/// Results of tasks in a second.
async fn steps(report: &mut Report, name: &str, place: &Place) -> anyhow::Result<()> {
    let (mut single, mut together) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = round * 2 * TASKS;
        let slice = commits::SLICE;
        single.push(appends_per_second(&place.tasks, first, 1, slice).await?);
        together.push(appends_per_second(&place.tasks, first + TASKS, TASKS, slice).await?);
    }
    let ratios = together.iter().zip(&single).map(|(together, single)| together / single);
    report.report(format!("{name}/steps/single"), median(ratios));
    report.report(format!("{name}/steps_alone_per_second"), median(single.into_iter()));
    report.report(format!("{name}/steps_per_second"), median(together.into_iter()));
    Ok(())
}
