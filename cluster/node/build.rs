//! Tells the program which compiler built it: a benchmark without it cannot be repeated.

use std::io::{Result, Write};
use std::process::Command;

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "cargo:rerun-if-changed=build.rs")?;
    // Cargo names the compiler; a newer one is another build anyway.
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(compiler).arg("--version").output()?;
    writeln!(
        out,
        "cargo:rustc-env=KEYBATON_COMPILER={}",
        String::from_utf8_lossy(&said.stdout).trim()
    )
}
