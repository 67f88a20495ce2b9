//! Class B: issuing voids the old key, so it is emptied first and probed when nobody knows.

use crate::script::check;

const EMPTIED: &str = "B first rotate wait:0 ready returned:v1";

#[track_caller]
fn after_emptying(script: &str, expected: &str) {
    check(&format!("{EMPTIED} {script}"), expected);
}

#[test]
fn the_old_key_is_emptied_before_anything_is_issued() {
    check(
        "B first rotate wait:0 ready",
        "emptying v1; v1 DRAINING, no active v1, gate emptying, close v1, signal v1, count v1, \
         armed hard 30, no issue v2",
    );
    check(EMPTIED, "issuing v2; guard no grants v1, issue v2, v2 INTENT, gate emptying");
}

#[test]
fn the_first_key_needs_no_emptying() {
    check("B start provision wait:0 ready", "issuing v1");
}

#[test]
fn the_new_key_replaces_the_old_one_at_once() {
    after_emptying("issued", "verifying v2; v2 STAGED, gate nocredential, v1 DRAINING");
    after_emptying(
        "issued alive",
        "complete rotated; active v2, v1 REVOKED, gate open, owed destroy v1, audit Revoked v1",
    );
}

#[test]
fn holders_that_stay_get_the_old_key_back_if_it_is_alive() {
    check("B first rotate wait:0 ready wait:30", "emptying v1; probe v1, reclaim stuck, page");
    check(
        "B first rotate wait:0 ready wait:30 alive",
        "failed drain timeout; active v1, v1 ACTIVE, gate open, audit Reopened v1, \
         armed rotate 300",
    );
    check("B first rotate wait:0 ready wait:30 dunno", "emptying v1; arms probe, reclaim stuck");
    check("B first rotate wait:0 ready wait:30 dunno returned:v1", "issuing v2; no reclaim stuck");
}

#[test]
fn holders_of_a_dead_key_are_cut_and_waited_for() {
    check(
        "B first rotate wait:0 ready wait:30 dead",
        "emptying v1; cut v1, page, gate nocredential, armed hard 60",
    );
    check("B first rotate wait:0 ready wait:30 dead returned:v1", "issuing v2; guard no grants v1");
    check("B first rotate wait:0 ready wait:30 dead abort", "emptying v1; reply refused");
}

#[test]
fn policy_may_cut_instead() {
    check(
        "B policy:cut_b first rotate wait:0 ready wait:30",
        "emptying v1; cut v1, no probe v1, armed hard 60",
    );
}

#[test]
fn a_definite_refusal_hands_the_old_key_out_again() {
    after_emptying("refused", "queued; v2 GONE, active v1, gate open, audit Reopened v1");
    after_emptying("denied", "failed admin refused; active v1, gate open");
}

#[test]
fn an_unclear_issue_is_waited_out_and_the_old_key_tells() {
    after_emptying("unknown nothing", "settling v2; v2 UNRESOLVED, owed sweep v2, armed settle 69");
    after_emptying("unknown nothing wait:68", "settling v2; gate emptying");
    after_emptying("unknown nothing wait:69", "probingold v2; probe v1");
    after_emptying(
        "unknown nothing wait:69 alive",
        "queued; v2 GONE, no owed sweep v2, active v1, gate open, armed retry 5",
    );
    after_emptying(
        "unknown nothing wait:69 dead",
        "queued; v2 UNRESOLVED, v1 DRAINING, gate nocredential, page, armed retry 5",
    );
    after_emptying("unknown nothing wait:69 dunno", "probingold v2; arms probe, gate emptying");
}

#[test]
fn the_search_for_the_label_may_end_before_the_old_key_can_be_probed() {
    after_emptying("unknown nothing wait:69 dunno wait:86400 swept:v2", "probingold v2; v2 GONE");
    after_emptying(
        "unknown nothing wait:69 dunno wait:86400 swept:v2 alive",
        "queued; v2 GONE, active v1, gate open, audit Reopened v1",
    );
}

#[test]
fn a_foreign_key_is_waited_out_too() {
    after_emptying("claimed", "settling v2; v2 UNRESOLVED, owed sweep v2, armed settle 69");
}

#[test]
fn with_a_dead_old_key_it_goes_on_for_ever_and_never_opens() {
    after_emptying("unknown nothing wait:69 dead wait:5 ready", "issuing v3; gate nocredential");
    after_emptying(
        "unknown nothing wait:69 dead wait:5 ready refused",
        "queued; gate nocredential, v1 DRAINING, no active v1, armed retry 5",
    );
    after_emptying(
        "unknown nothing wait:69 dead wait:5 ready issued alive",
        "complete rotated; active v3, v1 REVOKED, v2 GONE, no owed sweep v2, owed destroy v2",
    );
    after_emptying("unknown nothing wait:69 dead abort", "queued; reply refused");
}

#[test]
fn a_bad_new_key_keeps_the_gate_shut() {
    after_emptying(
        "issued dead wait:12 dead wait:12 dead wait:12 dead wait:12 dead",
        "queued; v2 UNRESOLVED, owed revoke v2, gate nocredential, no active v1",
    );
    after_emptying("issued wait:600 dunno", "verifying v2; page, arms probe");
    after_emptying("issued wait:600 noscopes", "queued; v2 UNRESOLVED, gate nocredential");
}

#[test]
fn an_operator_aborts_only_before_the_issue() {
    check("B first rotate wait:0 ready abort", "failed aborted; active v1, gate open, v1 ACTIVE");
    check("B first rotate abort", "failed aborted; active v1");
    after_emptying("abort", "issuing v2; reply refused");
    after_emptying("issued abort", "verifying v2; reply refused");
}

#[test]
fn an_emergency_cuts_and_never_reopens() {
    check("B first emergency wait:0 ready", "emptying v1; armed hard 5, armed revokeby 60");
    check("B first emergency wait:0 ready wait:5", "emptying v1; cut v1, no probe v1");
    check("B first rotate wait:0 ready emergency", "emptying v1; armed hard 5, emergency");
}

#[test]
fn at_the_deadline_the_old_key_dies_in_every_phase() {
    check(
        "B first emergency wait:0 ready wait:60",
        "issuing v2; v1 REVOKE_PENDING, owed revoke v1, audit ForcedRevoke v1, cut v1, \
         no guard no grants v1, gate nocredential",
    );
    check("B first emergency wait:60", "preflight; v1 REVOKE_PENDING, gate nocredential, page");
    check(
        "B first emergency wait:0 ready returned:v1 wait:60",
        "issuing v2; v1 REVOKE_PENDING, owed revoke v1",
    );
    check(
        "B first emergency wait:0 ready returned:v1 unknown nothing wait:60",
        "settling v2; v1 REVOKE_PENDING",
    );
    check(
        "B first emergency wait:0 ready returned:v1 unknown nothing wait:69",
        "queued; v1 REVOKE_PENDING, no probe v1",
    );
    check(
        "B first emergency:v1:80 wait:0 ready returned:v1 unknown nothing wait:69 wait:11",
        "queued; v1 REVOKE_PENDING, v2 UNRESOLVED",
    );
    check(
        "B first emergency wait:0 ready returned:v1 issued wait:60 alive",
        "complete rotated; active v2, v1 REVOKE_PENDING, owed revoke v1, gate open",
    );
}

#[test]
fn without_leave_to_revoke_the_deadline_still_ends_the_emptying() {
    check(
        "B policy:hold first emergency wait:0 ready wait:60",
        "issuing v2; v1 DRAINING, audit ForcedRevoke v1, cut v1",
    );
}

#[test]
fn a_leak_of_the_key_being_issued_burns_the_attempt() {
    after_emptying("emergency:v2", "settling v2; v2 UNRESOLVED, owed sweep v2");
    after_emptying("issued emergency:v2", "queued; v2 UNRESOLVED, owed revoke v2");
}

#[test]
fn an_import_is_refused_while_a_key_is_active() {
    check("B first import", "complete rotated; reply refused");
    check("B start import alive", "complete rotated; active v1, audit Imported v1");
}

#[test]
fn an_imported_key_voids_nothing() {
    check(
        "B start provision wait:0 ready unknown nothing wait:69 import alive",
        "complete rotated; active v2, v1 UNRESOLVED, owed sweep v1",
    );
}
