//! Does the whole do what people are told? One story, one file; a test's name says what it proves.

mod actors_die;
mod audit;
mod audit_tamper;
mod bad_input;
mod bench_drain;
mod bus_off;
mod examples;
mod faults;
mod kill_and_restart;
mod naive;
mod redis_journal;
mod rotation;
mod secret_types;
mod secrets_do_not_spill;
mod stores;
mod stores_away;
mod storm;
mod tasks;
mod triggers;
