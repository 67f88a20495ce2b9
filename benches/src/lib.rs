//! The costs: what the parts of keybaton take, always beside something that everybody knows.
//!
//! A number alone says more about the machine than about the code. So each figure is a ratio of
//! two measurements of the same run, taken in turns, with the bound that it has to keep.
//!
//! `keybaton-benches [GROUP]` prints them; `cargo bench` gives criterion's view of the hottest.

pub mod figure;
pub mod groups;
pub mod journals;
pub mod memory;
pub mod race;
pub mod registry;
pub mod rotation;
pub mod stage;
pub mod throughput;
