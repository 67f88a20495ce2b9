//! The same seed is the same run; whatever fails is found again by its seed.
//!
//! A run repeats only in a build with `--cfg tokio_unstable`, which seeds `select!`;
//! `.cargo/config.toml` gives it to every build. Where `RUSTFLAGS` stands in its way, the promises
//! are looked at all the same.

#[cfg(tokio_unstable)]
mod flaws;
#[cfg(tokio_unstable)]
mod liveness;
mod proof;
#[cfg(tokio_unstable)]
mod replay;
#[cfg(tokio_unstable)]
mod safety;
#[cfg(not(tokio_unstable))]
mod unseeded;

use keybaton_simulation::{Mode, seeds};

/// What the simulated world does, for the report.
#[cfg(tokio_unstable)]
const FAULTS: &str = "faults: latency, refusals, lost, late and doubled executions, unknown commits, \
    stores and vendors away, crashes at any port call and between them, kills of any actor, keys \
    that die at the vendor, bad keys, foreign ids, hints that lie; two tenants, classes A and B; \
    not covered: people who issue keys, several nodes, real stores and sockets";

#[test]
fn the_command_that_replays_a_seed_names_it_and_its_mode() {
    let command = seeds::command(Mode::Safety, 7);
    assert!(command.starts_with("KEYBATON_SEED=7 "), "{command}");
    assert!(command.ends_with(" safety"), "{command}");
}
