//! The promises of the rules, checked in every state that a small world can reach.
//!
//! Each proof looks at its world with no fault, then with one, then with two; the long form
//! (`KEYBATON_PROVE_SECONDS`) goes on with more until its time is up. Then each mutant must be
//! refuted by the shortest way there is.

mod proof;
mod search;
mod worlds;
