//! The worlds that are looked at, and what is made wrong in each.

use keybaton_model::{Config, Fault, Mutant, Promise};
use keybaton_rotation::Class;

use crate::proof::{Proof, Wrong};

/// What may go wrong on one node.
const ONE_NODE: &[Fault] = &[
    Fault::Crash,
    Fault::ActorDies,
    Fault::CommitFloats,
    Fault::Abandon,
    Fault::Refuse,
    Fault::BadKey,
    Fault::ForeignKey,
    Fault::ProbeErrs,
    Fault::RevokeErrs,
    Fault::Unready,
    Fault::Doubled,
];

/// What may go wrong between nodes.
const NODES: &[Fault] = &[
    Fault::Crash,
    Fault::Cut,
    Fault::Abandon,
    Fault::CommitFloats,
    Fault::RevokeErrs,
    Fault::BadKey,
    Fault::ForeignKey,
    Fault::Doubled,
];

const S1: &[Promise] = &[Promise::HeldKeysLive];
const S2: &[Promise] = &[Promise::OneActive];
const S3: &[Promise] = &[Promise::OnlyGranted];
const S4: &[Promise] = &[Promise::NoKeyForgotten];
const S8: &[Promise] = &[Promise::Monotone];
const S9: &[Promise] = &[Promise::OneWriter];
const R8: &[Promise] = &[Promise::VerifiedFirst];
const R9: &[Promise] = &[Promise::OnlyOursRevoked];
const ENDS: &[Promise] = &[Promise::Finishes];
/// What people lose, whatever rule was broken.
const HARM: &[Promise] =
    &[Promise::HeldKeysLive, Promise::OneActive, Promise::OnlyGranted, Promise::NoKeyForgotten];

const PHASES_A: &[&str] = &[
    "Queued",
    "Preflight",
    "Issuing",
    "Locating",
    "Verifying",
    "Draining",
    "Checkpointing",
    "Overlap",
    "Revoking",
    "Complete",
    "Failed",
];
const PHASES_A_ROLLED_BACK: &[&str] =
    &["Draining", "Checkpointing", "Overlap", "Revoking", "Failed"];
const PHASES_B: &[&str] = &[
    "Queued",
    "Preflight",
    "Emptying",
    "Issuing",
    "Locating",
    "Settling",
    "ProbingOld",
    "Verifying",
    "Complete",
];

const ABSTRACT: &str = "time has no clock: every timer may ring at any moment that its meaning \
                        allows, so no bound in seconds is shown";
const PEACE: &str = "liveness is looked at as: from every reachable state one fair continuation \
                     without faults finishes";
const DEATHS: &str = "an actor or process dies before a commit, with its commit on its way, \
                      between commit and effects, and between a call and its answer";

fn world(class: Class, kinds: &'static [Fault]) -> Config {
    Config { kinds, ..Config::new(class) }
}

fn two_nodes(class: Class) -> Config {
    Config { nodes: 2, is_coarse: true, ..world(class, NODES) }
}

fn wrong(
    name: &'static str,
    mutant: Mutant,
    world: &Config,
    faults: &'static [Fault],
    harm: &'static [Promise],
) -> Wrong {
    let most = u8::from(!faults.is_empty());
    Wrong { name, mutant, world: *world, faults: most, kinds: faults, harm }
}

#[test]
fn every_promise_holds_where_keys_coexist() {
    let a = world(Class::A, ONE_NODE);
    let rollback = Config { orders: 1, ..a };
    Proof {
        claim: "model-class-a",
        statement: "On one node whose provider lets keys coexist, no interleaving of owner, \
                    broker, task, store and provider breaks S1, S2, S3, S4, S8, S9, and from \
                    every state the rotation can finish.",
        test: "every_promise_holds_where_keys_coexist",
        mutants: vec![
            wrong("no intent before the issue call", Mutant::NoIntent, &a, &[Fault::Crash], S4),
            wrong("emptiness without close", Mutant::EmptyWithoutClose, &a, &[], S1),
            wrong("the grants guard is ignored", Mutant::NoGrantsIgnored, &a, &[], S1),
            wrong(
                "the grants guard is ignored, judged by what is handed out",
                Mutant::NoGrantsIgnored,
                &a,
                &[],
                S3,
            ),
            wrong(
                "a key claim is not checked",
                Mutant::KeyUnclaimedOff,
                &rollback,
                &[Fault::ForeignKey],
                S1,
            ),
            wrong(
                "guards are evaluated before the revision",
                Mutant::GuardsBeforeRevision,
                &a,
                &[Fault::CommitFloats],
                S9,
            ),
            wrong("the store loses a record", Mutant::RecordLost, &a, &[Fault::WriteLost], S4),
            wrong("the store loses a grant", Mutant::GrantLost, &a, &[Fault::WriteLost], S1),
            wrong("promote unverified", Mutant::PromoteUnverified, &a, &[Fault::BadKey], R8),
            wrong("promote in two writes", Mutant::PromoteInTwoWrites, &a, &[], S2),
            wrong("the same label again", Mutant::SameLabelAgain, &a, &[Fault::Abandon], S4),
            wrong("no sweeper", Mutant::NoSweeper, &a, &[Fault::Abandon], ENDS),
        ],
        world: a,
        faults: 2,
        seconds: 90,
        phases: PHASES_A,
        notes: &[DEATHS, ABSTRACT, PEACE],
    }
    .demand();
}

#[test]
fn every_promise_holds_where_issuing_voids_the_old_key() {
    let b = world(Class::B, ONE_NODE);
    Proof {
        claim: "model-class-b",
        statement: "On one node whose provider voids the old key with each issue, no interleaving \
                    breaks S1, S2, S3, S4, S8, S9, and from every state the rotation can finish.",
        test: "every_promise_holds_where_issuing_voids_the_old_key",
        mutants: vec![
            wrong("emptiness without close", Mutant::EmptyWithoutClose, &b, &[], S1),
            wrong("the grants guard is ignored", Mutant::NoGrantsIgnored, &b, &[], S1),
            wrong("no settle wait", Mutant::NoSettle, &b, &[Fault::Abandon], S1),
            wrong(
                "the store loses a record, judged by secrets",
                Mutant::RecordLost,
                &b,
                &[Fault::WriteLost],
                &[Promise::SecretsKept],
            ),
        ],
        world: b,
        faults: 3,
        seconds: 90,
        phases: PHASES_B,
        notes: &[
            DEATHS,
            ABSTRACT,
            PEACE,
            "assumed: an abandoned issue call executes within the settle wait or never",
        ],
    }
    .demand();
}

#[test]
fn every_promise_holds_on_two_nodes() {
    let a = two_nodes(Class::A);
    Proof {
        claim: "model-two-nodes-a",
        statement: "On two nodes with leases, fences, take-over and deposed owners, where keys \
                    coexist, no interleaving breaks S1, S2, S3, S4, S8, S9, and from every state \
                    the rotation can finish.",
        test: "every_promise_holds_on_two_nodes",
        mutants: vec![
            wrong("no fencing of deposed owners", Mutant::NoFencing, &a, &[Fault::Cut], HARM),
            wrong("reap without waiting", Mutant::ReapWithoutWaiting, &a, &[Fault::Cut], S1),
            wrong("reap not tied to its fence", Mutant::ReapUntied, &a, &[Fault::Cut], S1),
        ],
        world: a,
        faults: 2,
        seconds: 150,
        phases: &[
            "Issuing",
            "Locating",
            "Verifying",
            "Draining",
            "Overlap",
            "Revoking",
            "Complete",
        ],
        notes: &[DEATHS, ABSTRACT, PEACE],
    }
    .demand();
}

#[test]
fn every_promise_holds_on_two_nodes_where_issuing_voids_the_old_key() {
    let b = two_nodes(Class::B);
    Proof {
        claim: "model-two-nodes-b",
        statement: "On two nodes with leases, fences, take-over and deposed owners, where issuing \
                    voids the old key, no interleaving breaks S1, S2, S3, S4, S8, S9, and from \
                    every state the rotation can finish.",
        test: "every_promise_holds_on_two_nodes_where_issuing_voids_the_old_key",
        mutants: vec![
            wrong("reap without waiting", Mutant::ReapWithoutWaiting, &b, &[Fault::Cut], S1),
            wrong("no settle wait", Mutant::NoSettle, &b, &[Fault::Cut], S1),
        ],
        world: b,
        faults: 2,
        seconds: 60,
        phases: PHASES_B,
        notes: &[
            DEATHS,
            ABSTRACT,
            PEACE,
            "assumed: an abandoned issue call executes within the settle wait or never",
        ],
    }
    .demand();
}

#[test]
fn every_promise_holds_when_a_person_answers_late_or_wrongly() {
    let person = Config { person: true, ..world(Class::A, ONE_NODE) };
    Proof {
        claim: "model-person",
        statement: "Where a person creates the keys, late, wrongly or never, no interleaving \
                    breaks S1, S2, S3, S4, S8, S9, and from every state the rotation can finish.",
        test: "every_promise_holds_when_a_person_answers_late_or_wrongly",
        mutants: vec![
            wrong("no sweeper", Mutant::NoSweeper, &person, &[], ENDS),
            wrong(
                "a key claim is not checked",
                Mutant::KeyUnclaimedOff,
                &Config { orders: 1, ..person },
                &[Fault::ForeignKey],
                S1,
            ),
        ],
        world: person,
        faults: 3,
        seconds: 30,
        phases: &["AwaitingPerson", "Verifying", "Draining", "Complete", "Failed"],
        notes: &[DEATHS, ABSTRACT, PEACE],
    }
    .demand();
}

#[test]
fn every_promise_holds_when_the_new_key_is_given_up() {
    const KINDS: &[Fault] = &[
        Fault::Crash,
        Fault::CommitFloats,
        Fault::ProbeErrs,
        Fault::RevokeErrs,
        Fault::VendorKills,
    ];
    let rollback = Config { orders: 1, ..world(Class::A, KINDS) };
    Proof {
        claim: "model-rollback",
        statement: "When an operator rolls back, or the provider ends the new key by itself, no \
                    interleaving breaks S1, S2, S3, S4, S8, S9, and from every state the rotation \
                    can finish.",
        test: "every_promise_holds_when_the_new_key_is_given_up",
        mutants: vec![
            wrong(
                "rollback after REVOKE_PENDING",
                Mutant::RollBackAfterRevokePending,
                &rollback,
                &[],
                S1,
            ),
            wrong(
                "rollback after REVOKE_PENDING, judged by the order of statuses",
                Mutant::RollBackAfterRevokePending,
                &rollback,
                &[],
                S8,
            ),
            wrong(
                "promote in two writes, judged by what the rules hear next",
                Mutant::PromoteInTwoWrites,
                &rollback,
                &[],
                &[Promise::NothingImpossible],
            ),
            wrong(
                "a key claim is not checked, judged by what is sent",
                Mutant::KeyUnclaimedOff,
                &rollback,
                &[Fault::ForeignKey],
                R9,
            ),
        ],
        world: rollback,
        faults: 1,
        seconds: 30,
        phases: PHASES_A_ROLLED_BACK,
        notes: &[DEATHS, ABSTRACT, PEACE],
    }
    .demand();
}

#[test]
fn every_promise_holds_in_an_emergency() {
    let leak = Config { triggers: 0, emergencies: 1, ..world(Class::A, ONE_NODE) };
    Proof {
        claim: "model-emergency-a",
        statement: "When the active key has leaked, a key that somebody holds dies only with a \
                    forced revoke on record, and the other promises hold in every interleaving.",
        test: "every_promise_holds_in_an_emergency",
        mutants: vec![wrong(
            "a forced revoke is not written down as one",
            Mutant::ForcedInSilence,
            &leak,
            &[],
            S1,
        )],
        world: leak,
        faults: 2,
        seconds: 60,
        phases: &["Checkpointing", "Revoking", "Complete"],
        notes: &[DEATHS, ABSTRACT, PEACE],
    }
    .demand();
}

#[test]
fn every_promise_holds_in_an_emergency_where_issuing_voids_the_old_key() {
    let leak = Config { triggers: 0, emergencies: 1, ..world(Class::B, ONE_NODE) };
    Proof {
        claim: "model-emergency-b",
        statement: "When the active key has leaked where issuing voids it, it is taken from its \
                    holders only with a forced revoke on record, and the other promises hold in \
                    every interleaving.",
        test: "every_promise_holds_in_an_emergency_where_issuing_voids_the_old_key",
        mutants: vec![wrong(
            "a forced revoke is not written down as one",
            Mutant::ForcedInSilence,
            &leak,
            &[],
            S1,
        )],
        world: leak,
        faults: 2,
        seconds: 60,
        phases: PHASES_B,
        notes: &[
            DEATHS,
            ABSTRACT,
            PEACE,
            "assumed: an abandoned issue call executes within the settle wait or never",
        ],
    }
    .demand();
}
