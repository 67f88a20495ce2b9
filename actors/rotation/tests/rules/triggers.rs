//! Triggers are levels: they collapse, queue, or replace.

use crate::script::check;

#[test]
fn the_same_trigger_is_the_same_rotation() {
    check("first rotate again", "queued; reply #2, nothing written");
    check("promoted again", "draining v1; reply #2, nothing written");
    check(
        "promoted returned:v1 wait:300 revoked:v1 again",
        "complete rotated; reply #2, nothing written",
    );
}

#[test]
fn a_trigger_for_a_version_that_was_left_already_does_nothing() {
    check(
        "promoted returned:v1 wait:300 revoked:v1 rotate:v1",
        "complete rotated; reply alreadydone",
    );
    check("first provision", "complete rotated; reply alreadydone");
}

#[test]
fn a_running_rotation_absorbs_what_it_will_fulfil() {
    check("first rotate rotate", "queued; reply #2, no queued #3, audit Triggered");
    check("first rotate wait:0 ready rotate:v1", "issuing v2; reply #2");
    check("first rotate wait:0 ready issued rotate", "verifying v2; reply #2, no queued #3");
    check("promoted rotate:v1", "draining v1; reply #2, no queued #3");
    check("promoted provision", "draining v1; reply #2");
    check("start provision provision", "queued; reply #1");
}

#[test]
fn what_it_will_not_fulfil_is_queued_once() {
    check("promoted rotate:v2", "draining v1; reply #3, queued #3");
    check("promoted rotate rotate", "draining v1; reply #3, queued #3");
    check("promoted returned:v1 wait:300 rotate", "revoking v1; reply #3, queued #3");
}

#[test]
fn a_queued_trigger_starts_when_the_rotation_ends() {
    check(
        "promoted rotate returned:v1 wait:300 revoked:v1",
        "queued; #3, no queued #3, active v2, event Complete, event Initiated, armed retry 0",
    );
    check(
        "promoted rotate rollback alive returned:v2 wait:300 revoked:v2",
        "queued; #3, active v1",
    );
}

#[test]
fn an_emergency_takes_the_place_of_the_queued_trigger() {
    check("promoted rotate emergency:v2", "queued; #3, no queued #3, emergency, reply #3");
}

#[test]
fn an_imported_key_is_tried_and_handed_out() {
    check("start import", "verifying v1; v1 STAGED, guard unclaimed v1, probe v1, reply #1");
    check(
        "start import alive",
        "complete rotated; active v1, audit Imported v1, audit Promoted v1",
    );
    check("first import alive", "draining v1; active v2");
}

#[test]
fn a_bad_import_is_forgotten_and_never_revoked() {
    let dead = "dead wait:12 dead wait:12 dead wait:12 dead wait:12 dead";
    check(
        &format!("first import {dead}"),
        "failed verify failed; v2 GONE, destroy v2, no owed revoke v2, active v1, no armed rotate",
    );
    check(&format!("start import {dead}"), "queued; v1 GONE, no owed revoke v1, gate nocredential");
    check("first import abort", "failed aborted; v2 GONE, no owed revoke v2");
}

#[test]
fn an_import_that_the_commit_refuses_leaves_no_trace() {
    check("first claimed:v2", "complete rotated; repeat");
}

#[test]
fn an_import_waits_for_nobody() {
    check("first rotate import", "queued; reply refused");
    check("promoted import", "draining v1; reply refused");
}

#[test]
fn a_key_may_be_brought_in_while_none_can_be_had() {
    check("start provision wait:0 unready import", "verifying v1; reply #1");
    check("start provision wait:0 unready import alive", "complete rotated; active v1");
}

#[test]
fn a_thousand_triggers_are_one_rotation() {
    let many = " rotate".repeat(1000);
    check(&format!("first{many}"), "queued; reply #2, no queued #3");
}
