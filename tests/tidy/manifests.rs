//! What the manifests promise beyond the direction of knowledge.

use std::collections::BTreeSet;

use cargo_metadata::DependencyKind;

use crate::{demand_none, direction, read};

/// All that the rules of a rotation may use: none of it waits, reads a clock, draws a random
/// number, logs or does I/O.
const ROTATION_USES: [&str; 3] = ["keybaton-messages", "serde", "thiserror"];

#[test]
fn the_rules_of_a_rotation_depend_on_nothing_that_could_act() {
    let metadata = direction::metadata();
    let rotation = metadata.packages.iter().find(|it| it.name.as_str() == "keybaton-rotation");
    let rotation = rotation.expect("the crate keybaton-rotation is in the workspace");
    let normal = rotation.dependencies.iter().filter(|it| it.kind == DependencyKind::Normal);
    let uses: BTreeSet<_> = normal.map(|it| it.name.as_str()).collect();
    assert_eq!(uses, BTreeSet::from(ROTATION_USES));
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_is_not_published() {
    let mut found = Vec::new();
    for package in direction::metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{}: add `[lints]` with `workspace = true`", package.name));
        }
        if package.publish.as_ref().is_none_or(|registries| !registries.is_empty()) {
            found.push(format!("{}: add `publish.workspace = true`", package.name));
        }
        if package.license.as_deref() != Some("Apache-2.0 OR MIT") {
            found.push(format!("{}: add `license.workspace = true`", package.name));
        }
    }
    demand_none("manifests", &found);
}

#[test]
fn no_code_of_ours_is_unsafe() {
    // Forbidden once for the workspace, and every crate takes the workspace's lints. What is
    // forbidden cannot be allowed again further down.
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""), "forbid it again");
    let mut found = Vec::new();
    for package in direction::metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        if manifest.contains("unsafe_code") {
            found.push(format!("{}: leave the lint to the workspace", package.name));
        }
    }
    demand_none("manifests", &found);
}

/// Lint lines of a manifest without a comment above their group.
fn lints_without_a_reason(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut is_in_lints, mut has_reason) = (false, false);
    for line in manifest.lines().map(str::trim) {
        match line {
            line if line.starts_with('[') => {
                (is_in_lints, has_reason) = (line.starts_with("[workspace.lints"), false);
            }
            "" => has_reason = false,
            line if line.starts_with('#') => has_reason = true,
            line if is_in_lints && !has_reason => found.push(line.to_owned()),
            _ => {}
        }
    }
    found
}

#[test]
fn every_lint_of_the_workspace_says_why() {
    let found = lints_without_a_reason(&read("Cargo.toml"));
    demand_none("lints in Cargo.toml without a comment above them", &found);
    let bare =
        "[workspace.lints.rust]\n# Why.\na = \"deny\"\n\nb = \"warn\"\n[profile.dev]\nc = 1\n";
    assert_eq!(lints_without_a_reason(bare), ["b = \"warn\""]);
}
