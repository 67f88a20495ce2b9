//! A random world around the real `step`: what have we not thought of?
//!
//! Everything comes from one seed: provider, secret store, journal with unknown outcomes, two
//! brokers, crashes between any two lines, late and doubled answers, operators, emergencies, clocks
//! that jump. Every promise is checked after every event. Then everything is healed, and the world
//! **demands that it finishes**.
//!
//! A failure prints its seed. Replay it with
//! `KEYBATON_SEED=<seed> cargo test -p keybaton-rotation --test world`; run more of them with
//! `KEYBATON_SEEDS=<count>`, longer ones with `KEYBATON_EVENTS=<count>`. Mutants are worlds that
//! break one rule each: the checks must find every one of them, or they prove nothing.

mod actor;
mod broker;
mod chaos;
mod check;
mod diagram;
mod jobs;
mod journal;
mod mutants;
mod nodes;
mod provider;
mod seeds;
mod world;

/// The one rule that a world breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Every rule holds.
    None,
    /// The commit does not look at grants; what a count says is believed.
    NoGrantsIgnored,
    /// The commit does not look at key claims.
    KeyUnclaimedOff,
    /// Class B issues again without waiting out the abandoned call.
    SettleZero,
    /// Nobody looks for burned labels.
    NoSweeper,
    /// The commit looks at guards first, also for what is already written.
    GuardsBeforeRevision,
    /// First the new version becomes ACTIVE, then, in another write, the old one DRAINING.
    PromoteInTwoWrites,
    /// A new key is promoted without having been tried.
    PromoteUnverified,
    /// An old key is handed out again although it is being revoked.
    RollBackAfterRevokePending,
    /// Effects run before their record is written.
    ActFirst,
    /// A label is sent twice.
    LabelSentTwice,
    /// A broker returns its grant while somebody still holds the version.
    GrantReturnedEarly,
    /// Acknowledged writes may be lost.
    WritesLost,
}
