//! Is the architecture still true? Compares the manifests with the table in ARCHITECTURE.md, and
//! holds the sources to the rules of CONTRIBUTING.md that a compiler does not check.
//!
//! A failure lists everything that is wrong at once, with the file and what to do.

mod direction;
mod manifests;
mod pages;
mod sources;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate lies in the repository").to_owned()
}

/// A file of the repository as text.
fn read(path: &str) -> String {
    let full = root().join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// Fails with all that was found.
#[track_caller]
fn demand_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}
