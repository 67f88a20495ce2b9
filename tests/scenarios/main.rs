//! Does the whole do what people are told? One story, one file; a test's name says what it proves.

mod actors_die;
mod examples;
mod faults;
mod rotation;
mod tasks;
mod triggers;
