//! A leaked key: dead by its deadline, with or without a replacement.

use crate::script::check;

const LEAKED: &str = "first emergency wait:0 ready issued alive";

#[track_caller]
fn after_promote(script: &str, expected: &str) {
    check(&format!("{LEAKED} {script}"), expected);
}

#[test]
fn an_emergency_goes_straight_to_its_last_grace() {
    check(
        LEAKED,
        "checkpointing v1; active v2, armed hard 5, armed revokeby 60, signal v1, close v1, \
         event CheckpointRequested, emergency",
    );
}

#[test]
fn calls_are_cut_after_the_grace_and_there_is_no_overlap() {
    after_promote("wait:5", "checkpointing v1; cut v1");
    after_promote("wait:10", "checkpointing v1; cut v1");
    after_promote(
        "returned:v1",
        "revoking v1; guard no grants v1, revoke v1 surely, v1 REVOKE_PENDING, no armed overlap",
    );
    after_promote("returned:v1 revoked:v1", "complete rotated; v1 REVOKED");
}

#[test]
fn at_the_deadline_the_key_dies_whoever_holds_it() {
    after_promote("wait:59", "checkpointing v1");
    after_promote(
        "wait:60",
        "revoking v1 forced; audit ForcedRevoke v1, revoke v1 surely, cut v1, \
         no guard no grants v1",
    );
}

#[test]
fn without_a_replacement_everybody_waits() {
    check(
        "first emergency wait:0 ready wait:60",
        "issuing v2; v1 REVOKE_PENDING, no active v1, gate nocredential, owed revoke v1, \
         audit ForcedRevoke v1, cut v1, page",
    );
    check(
        "first emergency wait:0 ready wait:60 issued alive",
        "complete rotated; active v2, gate open",
    );
    check("first emergency wait:0 ready wait:60 unknown nothing", "queued; armed retry 5");
    check("first emergency wait:0 ready wait:60 abort", "issuing v2; reply refused");
    check("first emergency wait:0 ready wait:60 denied", "queued; page");
}

#[test]
fn policy_may_keep_the_key_until_a_replacement_is_there() {
    check("policy:hold first emergency wait:0 ready wait:60", "issuing v2; active v1, page");
    check(
        "policy:hold first emergency wait:0 ready wait:60 issued alive",
        "checkpointing v1; active v2, armed revokeby 5",
    );
    check(
        "policy:hold first emergency wait:0 ready wait:60 issued alive wait:5",
        "revoking v1 forced",
    );
}

#[test]
fn a_running_rotation_gets_more_urgent() {
    check(
        "first rotate wait:0 unready:3600 emergency",
        "queued; emergency, reply #2, armed retry 0",
    );
    check("first rotate wait:0 emergency", "preflight; emergency, armed revokeby 60");
    check("first rotate wait:0 ready emergency", "issuing v2; emergency, armed revokeby 60");
    check("first rotate wait:0 ready issued emergency alive", "checkpointing v1; emergency");
    check("promoted emergency:v1", "checkpointing v1; emergency, armed hard 5, armed revokeby 60");
    check("promoted wait:60 emergency:v1", "checkpointing v1; emergency, armed hard 5");
    check("promoted returned:v1 emergency:v1", "overlap v1; armed overlap 0");
    check("promoted returned:v1 emergency:v1 wait:0", "revoking v1; guard no grants v1");
    check("promoted returned:v1 emergency:v1 wait:0 held:v1", "revoking v1");
}

#[test]
fn the_earlier_of_two_deadlines_counts() {
    check("first emergency:v1:30 emergency:v1:90", "queued; armed revokeby 30");
    check("first emergency:v1:90 emergency:v1:30", "queued; armed revokeby 30");
}

#[test]
fn a_leak_of_the_key_being_issued_burns_the_attempt() {
    check(
        "first rotate wait:0 ready emergency:v2",
        "queued; v2 UNRESOLVED, owed sweep v2, reply #2",
    );
    check("first rotate wait:0 ready issued emergency:v2", "queued; owed revoke v2, active v1");
    check("first rotate wait:0 person emergency:v2", "queued; v2 UNRESOLVED, owed sweep v2");
}

#[test]
fn a_leak_of_the_new_active_key_starts_another_rotation_at_once() {
    check(
        "promoted emergency:v2",
        "queued; #3, emergency, active v2, owed retire v1, v1 DRAINING, reply #3, event Complete",
    );
    check("promoted returned:v1 wait:300 emergency", "queued; #3, owed revoke v1, emergency");
    check(
        "promoted emergency:v2 wait:0 ready issued alive",
        "checkpointing v2; active v3, v1 DRAINING",
    );
}

#[test]
fn a_retired_version_is_drained_and_revoked_beside_the_other_rotation() {
    check("promoted emergency:v2 wait:3", "preflight; count v1, armed count 3");
    check(
        "promoted emergency:v2 returned:v1",
        "queued; guard no grants v1, v1 REVOKE_PENDING, owed revoke v1, no owed retire v1",
    );
    check("promoted emergency:v2 emergency:v1", "queued; v1 REVOKE_PENDING, cut v1, reply done");
    check("promoted emergency:v2:3600 wait:0 wait:3600", "preflight; cut v1");
}

#[test]
fn a_leaked_key_that_is_left_behind_dies_at_once() {
    check(
        &format!("{LEAKED} emergency:v2"),
        "queued; #3, v1 REVOKE_PENDING, owed revoke v1, no owed retire v1, audit ForcedRevoke v1",
    );
    check(&format!("{LEAKED} keydead:v2"), "queued; #3, v1 REVOKE_PENDING, emergency");
}

#[test]
fn a_leaked_key_is_never_handed_out_again() {
    after_promote("rollback", "checkpointing v1; reply refused");
    check("promoted rollback emergency:v1 alive", "checkpointing v1; active v2");
}

#[test]
fn an_emergency_about_a_dead_key_is_done() {
    check(
        "promoted returned:v1 wait:300 revoked:v1 emergency:v1",
        "complete rotated; reply alreadydone",
    );
    check("promoted returned:v1 wait:300 emergency:v1", "revoking v1; reply alreadydone");
    check("start emergency", "none; reply refused");
}

#[test]
fn a_revoke_that_is_refused_is_asked_every_few_seconds_and_pages() {
    after_promote("returned:v1 unrevoked:v1", "revoking v1; page, error no, armed owed 5");
    after_promote("returned:v1 unrevoked:v1 wait:5", "revoking v1; revoke v1 surely, armed owed 5");
}

#[test]
fn burned_labels_do_not_save_a_leaked_key() {
    let burn = " ready unknown nothing wait:5".repeat(8);
    check(&format!("first emergency wait:0{burn} ready"), "queued; emergency, active v1");
    check(&format!("first emergency wait:0{burn} ready wait:20"), "preflight; v1 REVOKE_PENDING");
    check(&format!("first emergency wait:0{burn} ready wait:20 ready"), "issuing v10");
}
