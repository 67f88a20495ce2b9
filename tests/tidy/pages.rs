//! What the pages say exists, exists.

use crate::{demand_none, read, root};

/// Paths of this repository that `page` names in backticks.
fn paths(page: &str) -> Vec<&str> {
    let is_path = |text: &&str| {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        text.contains('/') && is_plain
    };
    let mut paths: Vec<_> = page.split('`').skip(1).step_by(2).filter(is_path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Every page that tells people where things are.
fn pages() -> Vec<String> {
    let mut pages = vec!["ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let decisions = std::fs::read_dir(root().join("docs/decisions")).expect("the decisions");
    for entry in decisions {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        pages.push(format!("docs/decisions/{name}"));
    }
    pages.sort();
    pages
}

#[test]
fn every_path_on_a_page_leads_somewhere() {
    let mut found = Vec::new();
    for page in pages() {
        for path in paths(&read(&page)) {
            if !root().join(path).exists() {
                found.push(format!("{page} names {path}, which is not there"));
            }
        }
    }
    demand_none("pages", &found);
    assert_eq!(paths("`a/b.rs` and `step`, `x y/z`, `a/b.rs`"), ["a/b.rs"]);
}

#[test]
fn decisions_are_numbered_without_a_gap() {
    let pages = pages();
    let decisions: Vec<_> =
        pages.iter().filter_map(|page| page.strip_prefix("docs/decisions/")).collect();
    for (place, name) in decisions.iter().enumerate() {
        let number = place + 1;
        assert!(name.starts_with(&format!("{number:04}-")), "{name} is not number {number}");
        let text = read(&format!("docs/decisions/{name}"));
        assert!(text.starts_with(&format!("# {number}. ")), "{name} opens with `# {number}. `");
    }
    assert!(!decisions.is_empty(), "there are decisions");
}

#[test]
fn ci_runs_the_commands_of_the_readme() {
    let (readme, script) = (read("README.md"), read(".ci/run"));
    // CI judges the same demo without the optimizer: that build is needed for the tests anyway.
    for (named, run) in [
        ("cargo run --release -- demo", "target/debug/keybaton demo"),
        ("cargo xtask test", "cargo xtask test"),
    ] {
        assert!(readme.contains(named), "README.md does not name `{named}`");
        assert!(script.contains(run), ".ci/run does not run `{run}`");
    }
}
