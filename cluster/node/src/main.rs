//! The program: what an operator or a newcomer types.
//!
//! Results go to standard output, everything else to standard error. Exit code 2: the program
//! could not do what it was asked; the line says what to do next.

mod bench;
mod cli;
mod demo;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// A step's bytes are allocated by the thread that takes the step and freed by the one that commits
/// it. The system's allocator makes the two wait for each other; with this one a node takes half as
/// many steps again.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

pub(crate) fn main() -> ExitCode {
    let args = cli::Cli::parse();
    match cli::run(args) {
        Ok(code) => code,
        Err(error) => {
            // Standard error that is closed cannot be told so.
            let _ = writeln!(std::io::stderr(), "keybaton: {error:#}");
            ExitCode::from(2)
        }
    }
}
