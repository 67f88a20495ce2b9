//! Who may know whom: the table in ARCHITECTURE.md against the manifests.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::{demand_none, read, root};

/// One row of the table.
struct Row {
    folder: String,
    may_know: Known,
}

/// The last cell of a row.
enum Known {
    Everyone,
    These(BTreeSet<String>),
}

/// The workspace's own packages as cargo sees them.
pub fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo reads the manifests")
}

/// Reads `| crate | folder | may know |` and what stands below it, by full package name.
fn table(page: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut lines =
        page.lines().skip_while(|line| *line != "| crate | folder | may know |").skip(2);
    for line in lines.by_ref().take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, folder, known] = cells[..] else { panic!("three cells in: {line}") };
        let may_know = match known {
            "everyone" => Known::Everyone,
            "nobody" => Known::These(BTreeSet::new()),
            names => {
                Known::These(names.split(", ").map(|short| format!("keybaton-{short}")).collect())
            }
        };
        let folder = folder.to_owned();
        assert!(rows.insert(name.to_owned(), Row { folder, may_know }).is_none(), "{name} twice");
    }
    assert!(!rows.is_empty(), "ARCHITECTURE.md has the table `| crate | folder | may know |`");
    rows
}

/// Everything in which `table` and the manifests differ.
fn differences(table: &BTreeMap<String, Row>, metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    let ours: BTreeSet<_> = metadata.packages.iter().map(|it| it.name.to_string()).collect();
    for name in table.keys().filter(|name| !ours.contains(*name)) {
        found.push(format!("{name} stands in the table and is no crate: remove the row"));
    }
    for package in &metadata.packages {
        let name = package.name.to_string();
        let Some(row) = table.get(&name) else {
            found.push(format!("{name} is missing from the table: add a row"));
            continue;
        };
        let folder = package.manifest_path.parent().and_then(|it| it.strip_prefix(root()).ok());
        if folder.is_none_or(|folder| folder.as_str() != row.folder) {
            found.push(format!("{name} does not lie in {}: correct the row", row.folder));
        }
        let Known::These(may_know) = &row.may_know else {
            continue;
        };
        let known = package.dependencies.iter().filter(|it| ours.contains(&it.name));
        for other in known.filter(|it| !may_know.contains(&it.name)) {
            found.push(format!("{name} may not know {}: remove the dependency", other.name));
        }
    }
    found
}

#[test]
fn nobody_knows_more_than_the_table_allows() {
    let found = differences(&table(&read("ARCHITECTURE.md")), &metadata());
    demand_none("the table in ARCHITECTURE.md and the manifests differ", &found);
}

#[test]
fn a_table_that_is_not_true_is_noticed() {
    let page = read("ARCHITECTURE.md");
    let forbid = |from: &str, to: &str| {
        assert!(page.contains(from), "{from}");
        differences(&table(&page.replace(from, to)), &metadata())
    };
    let narrowed = forbid(
        "| keybaton-ports | actors/ports | messages, rotation |",
        "| keybaton-ports | actors/ports | messages |",
    );
    assert_eq!(narrowed, ["keybaton-ports may not know keybaton-rotation: remove the dependency"]);
    let moved =
        forbid("| xtask | xtask | evidence, servers |", "| xtask | tasks | evidence, servers |");
    assert_eq!(moved, ["xtask does not lie in tasks: correct the row"]);
    let gone = forbid(
        "| xtask | xtask | evidence, servers |\n",
        "| ytask | ytask | evidence, servers |\n",
    );
    assert_eq!(gone.len(), 2, "{gone:?}");
}
