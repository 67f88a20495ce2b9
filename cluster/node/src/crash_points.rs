//! The program with its crash points: the same sources, started by tests alone.

#[path = "main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
