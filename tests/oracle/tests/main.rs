//! Every rule of the oracle, with a small history that keeps it and one that breaks it.

mod audit;
mod calls;
mod evidence;
mod history;
mod keys;
mod tasks;
