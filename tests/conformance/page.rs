//! `docs/conformance.md`: which implementation is held to which sentence of its port.
//!
//! The page is made from this program's own list of tests. `cargo xtask conformance` has it written
//! after all of them have passed, on real servers; here it is compared.
//!
//! **Invariant:** every test of this program stands on the page, as a clause of a port or as one of
//! those that an implementation has besides.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use keybaton_evidence::WRITE_CONFORMANCE;

const PAGE: &str = "docs/conformance.md";
const COMMAND: &str = "cargo xtask conformance";

/// A port and who is held to it. A new implementation is one line here.
struct Port {
    name: &'static str,
    /// Below `actors/ports/src`: the sentences.
    promises: &'static str,
    /// Below `tests/src/conformance`: what tries them.
    suite: &'static str,
    /// Implementations, and the modules of this program that run the suite on them.
    held: &'static [(&'static str, &'static str)],
    /// Modules with tests of an implementation's own.
    own: &'static [(&'static str, &'static [&'static str])],
}

const PORTS: &[Port] = &[
    Port {
        name: "Journal",
        promises: "journal.rs",
        suite: "journal.rs",
        held: &[
            ("fake", "fakes::journal"),
            ("redb", "embedded::journal"),
            ("Postgres", "postgres::journal"),
            ("Redis", "redis_journal::on_redis::journal"),
            ("Valkey", "redis_journal::on_valkey::journal"),
        ],
        own: &[
            ("the fakes' switches for faults", &["fakes"]),
            (
                "the embedded store, which holds all of its ports",
                &["store_disk", "store_opening", "store_rows", "store_segments"],
            ),
            (
                "Postgres",
                &[
                    "postgres::failover",
                    "postgres::faults",
                    "postgres::nodes",
                    "postgres::opening",
                    "postgres::remembered",
                    "postgres::reservation",
                    "postgres::tls",
                ],
            ),
            (
                "Redis and Valkey",
                &[
                    "redis_journal::faults",
                    "redis_journal::nodes",
                    "redis_journal::opening",
                    "redis_journal::remembered",
                    "redis_journal::reservation",
                ],
            ),
        ],
    },
    Port {
        name: "TaskJournal",
        promises: "tasks.rs",
        suite: "tasks.rs",
        held: &[
            ("fake", "fakes::tasks"),
            ("redb", "embedded::tasks"),
            ("Postgres", "postgres::tasks"),
            ("Redis", "redis_journal::on_redis::tasks"),
            ("Valkey", "redis_journal::on_valkey::tasks"),
        ],
        own: &[("Postgres", &["postgres::appends"])],
    },
    Port {
        name: "SecretStore",
        promises: "secrets.rs",
        suite: "secrets.rs",
        held: &[
            ("fake", "fakes::secrets"),
            ("redb", "embedded::secrets"),
            ("Vault", "vault::secrets"),
        ],
        own: &[(
            "Vault",
            &[
                "vault::access",
                "vault::faults",
                "vault::restored",
                "vault::rotations",
                "vault::tokens",
                "vault::versions",
            ],
        )],
    },
    Port {
        name: "CheckpointStore",
        promises: "checkpoints.rs",
        suite: "checkpoints.rs",
        held: &[
            ("fake", "fakes::checkpoints"),
            ("in the journal's row", "embedded::checkpoints"),
            ("Postgres", "postgres::checkpoints"),
        ],
        own: &[("Postgres", &["postgres::leftovers", "postgres::tenants"])],
    },
    Port {
        name: "Provider",
        promises: "provider.rs",
        suite: "provider.rs",
        held: &[
            ("fake", "provider::fake"),
            ("OpenAI", "provider::openai"),
            ("OpenAI, an account for each key", "provider::openai_with_an_account_per_key"),
            ("OpenRouter", "provider::openrouter"),
        ],
        // Leases have neither labels nor a listing, which most of the suite is about.
        own: &[("leases of Vault, which have no suite", &["vault::leases"])],
    },
    Port {
        name: "EventBus",
        promises: "bus.rs",
        suite: "bus.rs",
        held: &[("in process", "embedded::bus"), ("Redis Streams", "redis::bus")],
        own: &[(
            "Redis Streams",
            &[
                "redis",
                "redis::access",
                "redis::faults",
                "redis::groups",
                "redis::program",
                "redis::rotations",
            ],
        )],
    },
    Port {
        name: "AuditSink",
        promises: "audit.rs",
        suite: "audit.rs",
        held: &[("file", "embedded::audit")],
        own: &[("file", &["audit_file"])],
    },
    Port {
        name: "Clock",
        promises: "clock.rs",
        suite: "clock.rs",
        held: &[("system", "embedded::clock")],
        own: &[],
    },
    Port {
        name: "Entropy",
        promises: "clock.rs",
        suite: "clock.rs",
        held: &[("system", "embedded::entropy")],
        own: &[],
    },
];

/// This file's own tests are about the page and about no implementation.
const OURSELVES: &str = "page";

#[test]
fn the_page_is_what_these_tests_are() {
    let made = page(&tests()).unwrap_or_else(|strays| {
        panic!(
            "these belong to no implementation; give their module a line in {}:\n  {}",
            file!(),
            strays.join("\n  ")
        )
    });
    let path = root().join(PAGE);
    if std::env::var_os(WRITE_CONFORMANCE).is_some() {
        std::fs::write(&path, made).expect("the page can be written");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "{PAGE} is not what these tests are; run `{COMMAND}`; {differing:?}");
}

#[test]
fn a_clause_that_nobody_tries_and_a_test_without_a_place_are_seen() {
    let mut all = tests();
    let clause = "postgres::journal::a_pair_that_was_never_written_is_absent";
    let row = |page: &str| {
        let sentence = "| a pair that was never written is absent |";
        page.lines().find(|line| line.starts_with(sentence)).expect("a row").to_owned()
    };
    let whole = row(&page(&all).expect("all have their place"));
    assert!(!whole.contains(NOT_HELD), "{whole}");
    assert!(all.remove(clause), "it is tried");
    let with_a_hole = row(&page(&all).expect("all have their place"));
    assert_eq!(with_a_hole.matches(NOT_HELD).count(), 1, "{with_a_hole}");
    all.insert("somewhere::else_entirely".to_owned());
    assert_eq!(page(&all), Err(vec!["somewhere::else_entirely".to_owned()]));
}

const HELD: &str = "✓";
const NOT_HELD: &str = "–";

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the crate lies in the repository").to_owned()
}

/// The tests of this program, by their whole names.
fn tests() -> BTreeSet<String> {
    let program = std::env::current_exe().expect("this program has a place");
    let listed = Command::new(program).args(["--list", "--format", "terse"]).output();
    let listed = listed.expect("it lists its tests");
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8(listed.stdout).expect("names are text");
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The page, or the tests that have no place on it.
fn page(tests: &BTreeSet<String>) -> Result<String, Vec<String>> {
    let mut placed = BTreeSet::new();
    let mut text = HEAD.to_owned();
    for port in PORTS {
        section(port, tests, &mut placed, &mut text).expect("a string takes whatever it is given");
    }
    placed.extend(own_tests(tests, OURSELVES));
    let strays: Vec<_> = tests.iter().filter(|test| !placed.contains(test.as_str())).collect();
    if strays.is_empty() { Ok(text) } else { Err(strays.into_iter().cloned().collect()) }
}

fn section<'a>(
    port: &Port,
    tests: &'a BTreeSet<String>,
    placed: &mut BTreeSet<&'a str>,
    text: &mut String,
) -> std::fmt::Result {
    let Port { name, promises, suite, held, own } = port;
    let clauses: BTreeSet<&str> =
        held.iter().flat_map(|(_, module)| own_tests(tests, module)).map(last).collect();
    writeln!(text, "\n## {name}\n")?;
    writeln!(
        text,
        "Promised in [`{promises}`](../actors/ports/src/{promises}), tried by \
         [`{suite}`](../tests/src/conformance/{suite}): {} clauses.\n",
        clauses.len()
    )?;
    let names: Vec<_> = held.iter().map(|(implementation, _)| *implementation).collect();
    writeln!(text, "| clause | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", ":-:|".repeat(names.len()))?;
    for clause in clauses {
        write!(text, "| {} |", clause.replace('_', " "))?;
        for (_, module) in *held {
            let found = tests.get(&format!("{module}::{clause}"));
            placed.extend(found.map(String::as_str));
            write!(text, " {} |", if found.is_some() { HELD } else { NOT_HELD })?;
        }
        writeln!(text)?;
    }
    if !own.is_empty() {
        writeln!(text, "\nTests of an implementation's own:\n")?;
    }
    for (whose, modules) in *own {
        let found: Vec<_> = modules.iter().flat_map(|module| own_tests(tests, module)).collect();
        let files: Vec<_> = modules.iter().map(|module| link(module)).collect();
        writeln!(text, "- {whose}: {} more, in {}", found.len(), files.join(", "))?;
        placed.extend(found);
    }
    Ok(())
}

/// The tests that stand in this very module, and not below it.
fn own_tests<'a>(tests: &'a BTreeSet<String>, module: &str) -> Vec<&'a str> {
    let is_own = |test: &&str| {
        let name = test.strip_prefix(module).and_then(|rest| rest.strip_prefix("::"));
        name.is_some_and(|name| !name.contains("::"))
    };
    tests.iter().map(String::as_str).filter(is_own).collect()
}

fn last(test: &str) -> &str {
    test.rsplit("::").next().unwrap_or(test)
}

/// The file of a module.
fn link(module: &str) -> String {
    let path = module.replace("::", "/");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let file = [format!("{path}.rs"), format!("{path}/mod.rs")]
        .into_iter()
        .find(|file| folder.join(file).is_file())
        .unwrap_or(path);
    format!("[`{file}`](../tests/conformance/{file})")
}

const HEAD: &str = "\
# Conformance

Which implementation is held to which sentence of its port. Written by `cargo xtask conformance`
after every test below has passed, those of servers on the real server; `cargo xtask test` fails
when this page is not what the tests are.

A clause is a sentence of the port's comments, and a test of its own for each implementation, the
fakes of other tests included: a fake that promises less than the real thing proves nothing about
who uses it.
";
