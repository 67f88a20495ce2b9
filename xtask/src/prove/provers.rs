//! Who proves what, and how much of the time each one gets.

/// A test that leaves evidence.
pub struct Prover {
    /// Its name, as a person would choose it.
    pub name: &'static str,
    /// How it is started.
    pub how: How,
    /// Only these tests, by their full names; none means all of the binary.
    pub tests: &'static [&'static str],
    /// Its share of the time, against the others'.
    pub weight: u32,
    /// How many claims take their time one after the other.
    pub in_turn: u64,
    /// The claims it must leave evidence of.
    pub claims: &'static [&'static str],
}

/// How a prover is started.
pub enum How {
    /// What cargo is told. The whole workspace is named: with any other choice cargo gives the
    /// libraries other features, and builds most of them once more.
    Cargo(&'static str),
    /// What `cargo xtask loom` does.
    Registry,
}

/// All provers, the quick ones first.
pub const PROVERS: &[Prover] = &[
    Prover {
        name: "random world",
        how: How::Cargo("test --workspace --test world"),
        tests: &[
            "seeds::every_promise_holds_where_keys_coexist",
            "seeds::every_promise_holds_where_issuing_voids_the_old_key",
        ],
        weight: 4,
        in_turn: 1,
        claims: &["rules-random-world-a", "rules-random-world-b"],
    },
    Prover {
        name: "model",
        how: How::Cargo("test --workspace --test model"),
        tests: &[],
        weight: 20,
        in_turn: 8,
        claims: &[
            "model-class-a",
            "model-class-b",
            "model-two-nodes-a",
            "model-two-nodes-b",
            "model-person",
            "model-rollback",
            "model-emergency-a",
            "model-emergency-b",
        ],
    },
    Prover {
        name: "registry",
        how: How::Registry,
        tests: &[],
        weight: 1,
        in_turn: 1,
        claims: &["registry-loom", "registry-shuttle"],
    },
    Prover {
        name: "simulation",
        how: How::Cargo("test --workspace --test simulation"),
        tests: &[],
        weight: 8,
        in_turn: 2,
        claims: &["simulation-replays", "simulation-safety", "simulation-liveness"],
    },
    Prover {
        name: "reference models",
        how: How::Cargo("test --workspace --test reference"),
        tests: &[
            "journal::reference_journal",
            "secrets::reference_secrets",
            "checkpoints::reference_checkpoints",
        ],
        weight: 4,
        in_turn: 3,
        claims: &["reference-journal", "reference-secrets", "reference-checkpoints"],
    },
    Prover {
        name: "fuzzing",
        how: How::Cargo("test --workspace --test fuzz"),
        tests: &["hunt::fuzz"],
        weight: 3,
        in_turn: 1,
        claims: &["fuzz"],
    },
    Prover {
        name: "canary",
        how: How::Cargo("test --workspace --test scenarios"),
        tests: &["secrets_do_not_spill::canary"],
        weight: 1,
        in_turn: 1,
        claims: &["canary"],
    },
    Prover {
        name: "bus off",
        how: How::Cargo("test --workspace --test scenarios"),
        tests: &["bus_off::bus_off"],
        weight: 1,
        in_turn: 1,
        claims: &["bus-off"],
    },
    Prover {
        name: "audit tampering",
        how: How::Cargo("test --workspace --test scenarios"),
        tests: &["audit_tamper::audit_tamper"],
        weight: 2,
        in_turn: 1,
        claims: &["audit-tamper"],
    },
    Prover {
        name: "ambiguity storm",
        how: How::Cargo("test --workspace --test scenarios"),
        tests: &["storm::an_ambiguity_storm_leaves_one_live_key_for_each_pair"],
        weight: 6,
        in_turn: 1,
        claims: &["ambiguity-storm"],
    },
    Prover {
        name: "crash points",
        how: How::Cargo("test --workspace --test crash_points"),
        tests: &["proof::every_point_is_survived"],
        weight: 10,
        in_turn: 1,
        claims: &["crash-points"],
    },
    Prover {
        name: "crash points on every choice of stores",
        how: How::Cargo("test --workspace --test crash_points"),
        tests: &["matrix::every_choice_of_stores_survives_its_kills"],
        weight: 4,
        in_turn: 1,
        claims: &["crash-points-stores"],
    },
];
