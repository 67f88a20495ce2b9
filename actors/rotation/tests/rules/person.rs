//! Providers where a person creates the key.

use crate::script::check;

#[test]
fn a_person_is_asked_under_a_label_of_ours() {
    check(
        "first rotate wait:0 person",
        "awaitingperson v2; ask v2, v2 INTENT, armed person 86400, active v1",
    );
}

#[test]
fn what_the_person_submits_is_verified_like_any_key() {
    check(
        "first rotate wait:0 person submitted",
        "verifying v2; v2 STAGED, guard unclaimed v2, probe v2",
    );
    check("first rotate wait:0 person submitted alive", "draining v1; active v2");
}

#[test]
fn a_key_that_is_known_already_is_not_taken() {
    check("first rotate wait:0 person claimed", "awaitingperson v2; repeat, v2 INTENT");
}

#[test]
fn a_person_who_does_not_answer_ends_the_rotation() {
    check(
        "first rotate wait:0 person wait:86400",
        "failed human timeout; v2 UNRESOLVED, owed sweep v2, page, active v1",
    );
    check("first rotate wait:0 person expired", "failed human timeout");
    check("first rotate wait:0 person abort", "failed aborted; owed sweep v2, reply done");
    check("start provision wait:0 person expired", "queued; page, armed retry 5");
    check("start provision wait:0 person abort", "queued; reply done");
}

#[test]
fn a_late_submission_changes_nothing() {
    check("first rotate wait:0 person expired submitted:v2", "failed human timeout; repeat");
}

#[test]
fn at_a_provider_that_voids_a_person_cannot_replace_a_key_in_use() {
    check("B first rotate wait:0 person", "queued; page, active v1, gate open");
    check("B start provision wait:0 person", "awaitingperson v1");
}
