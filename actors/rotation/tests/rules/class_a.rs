//! Class A: issue, verify, promote, drain, overlap, revoke; rollback, abort, failure.

use crate::script::{check, impossible};

#[test]
fn a_trigger_is_accepted_and_the_first_attempt_is_due_at_once() {
    check("start rotate", "queued; reply #1, audit Triggered, event Initiated, armed retry 0");
}

#[test]
fn the_first_key_is_active_without_any_drain() {
    check(
        "start provision wait:0 ready issued alive",
        "complete rotated; active v1, v1 ACTIVE, gate open, audit Promoted v1, event Complete",
    );
}

#[test]
fn before_the_first_key_nobody_is_let_in() {
    check("start provision wait:0 ready issued", "verifying v1; gate nocredential, v1 STAGED");
}

#[test]
fn an_attempt_writes_its_label_before_the_provider_is_asked() {
    check(
        "first rotate wait:0 ready",
        "issuing v2; v2 INTENT, issue v2, audit IssueIntent v2, active v1, gate open",
    );
}

#[test]
fn an_attempt_that_cannot_succeed_waits_and_says_why() {
    check("first rotate wait:0 unready", "queued; page, error no, armed retry 5");
    check("first rotate wait:0 unready wait:5 unready", "queued; no page, armed retry 10");
    check("first rotate wait:0 unready:3600", "queued; armed retry 3600");
}

#[test]
fn an_answer_to_an_older_attempt_is_a_repeat() {
    check("first rotate wait:0 ready issued dead ready", "verifying v2; repeat");
}

#[test]
fn a_key_is_tried_before_it_is_handed_out() {
    check(
        "first rotate wait:0 ready issued",
        "verifying v2; v2 STAGED, probe v2, active v1, guard unclaimed v2, audit Issued v2",
    );
}

#[test]
fn promote_is_one_decision() {
    check(
        "promoted",
        "draining v1; active v2, v1 DRAINING, v2 ACTIVE, copy v1 v2, close v1, signal v1, \
         count v1, witness, publish, audit Promoted v2, event NewKeyReady, armed soft 60, \
         armed hard 600, armed drainmax 3600, armed count 3",
    );
}

#[test]
fn holders_that_stay_are_asked_again() {
    check("promoted wait:59", "draining v1");
    check("promoted wait:60", "checkpointing v1; signal v1, event CheckpointRequested");
}

#[test]
fn grants_are_counted_every_few_seconds_while_they_are_awaited() {
    check("promoted wait:3", "draining v1; count v1, nothing written, armed count 3");
    check("promoted held:v1", "draining v1; repeat");
}

#[test]
fn emptiness_is_believed_only_under_the_guard() {
    check(
        "promoted returned:v1",
        "overlap v1; guard no grants v1, event DrainComplete, armed overlap 300, v1 DRAINING",
    );
}

#[test]
fn old_key_is_revoked_only_after_the_overlap() {
    check("promoted returned:v1 wait:299", "overlap v1");
    check(
        "promoted returned:v1 wait:300",
        "revoking v1; revoke v1, guard no grants v1, v1 REVOKE_PENDING, owed revoke v1, \
         audit RevokeIntent v1",
    );
}

#[test]
fn the_overlap_runs_from_promote_or_from_the_drain_as_policy_says() {
    check("promoted wait:100 returned:v1", "overlap v1; armed overlap 200");
    check("policy:drained promoted wait:100 returned:v1", "overlap v1; armed overlap 300");
}

#[test]
fn a_grant_that_shows_up_in_the_overlap_only_delays() {
    check("promoted returned:v1 held:v1", "overlap v1; armed overlap 300");
    check("policy:overlap0 promoted returned:v1 held:v1", "overlap v1; armed overlap 3");
}

#[test]
fn a_confirmed_revoke_completes_and_the_secret_is_destroyed() {
    check(
        "promoted returned:v1 wait:300 revoked:v1",
        "complete rotated; v1 REVOKED, destroy v1, owed destroy v1, audit Revoked v1, witness, \
         event Complete, gate open",
    );
    check(
        "promoted returned:v1 wait:300 revoked:v1 destroyed:v1",
        "complete rotated; no owed destroy v1",
    );
}

#[test]
fn a_definite_refusal_burns_no_label() {
    check(
        "first rotate wait:0 ready refused:30",
        "queued; v2 GONE, no owed sweep v2, audit IssueRejected v2, armed retry 30, error no",
    );
}

#[test]
fn a_refused_admin_credential_fails_the_rotation_and_leaves_the_old_key() {
    check(
        "first rotate wait:0 ready denied",
        "failed admin refused; v2 GONE, active v1, gate open, page, armed rotate 300",
    );
    check("start provision wait:0 ready denied", "queued; page, armed retry 5");
}

#[test]
fn an_unclear_answer_is_looked_up_and_then_burned() {
    check("first rotate wait:0 ready unknown", "locating v2; locate v2, v2 INTENT");
    check("first rotate wait:0 ready unknown located", "verifying v2; v2 STAGED, probe v2");
    check(
        "first rotate wait:0 ready unknown nothing",
        "queued; v2 UNRESOLVED, owed sweep v2, audit Burned v2, armed retry 5, armed owed 5",
    );
    check("first rotate wait:0 ready unknown nothing wait:5 ready", "issuing v3; issue v3");
}

#[test]
fn a_late_answer_still_brings_the_key_home() {
    check("first rotate wait:0 ready unknown issued:v2", "verifying v2; v2 STAGED");
    check("first rotate wait:0 ready unknown nothing issued:v2", "queued; repeat, v2 UNRESOLVED");
}

#[test]
fn a_key_that_somebody_else_has_is_never_revoked() {
    check(
        "first rotate wait:0 ready claimed",
        "queued; v2 UNRESOLVED, owed sweep v2, no owed revoke v2, page, audit ForeignKey v2",
    );
}

#[test]
fn a_key_that_never_works_is_revoked_and_another_one_issued() {
    check(
        "first rotate wait:0 ready issued dead wait:12 dead wait:12 dead wait:12 dead",
        "verifying v2; arms probe",
    );
    check(
        "first rotate wait:0 ready issued dead wait:12 dead wait:12 dead wait:12 dead wait:12 dead",
        "queued; v2 UNRESOLVED, owed revoke v2, owed destroy v2, revoke v2, audit VerifyFailed v2",
    );
}

#[test]
fn not_knowing_is_never_bad_until_it_lasts() {
    check("first rotate wait:0 ready issued dunno", "verifying v2; nothing written, arms probe");
    check("first rotate wait:0 ready issued wait:600 dunno", "queued; v2 UNRESOLVED");
    check("first rotate wait:0 ready issued wait:600 noscopes", "queued; v2 UNRESOLVED");
}

#[test]
fn eight_burned_labels_fail_the_rotation_while_a_key_is_active() {
    let burn = " ready unknown nothing wait:5".repeat(8);
    check(&format!("first rotate wait:0{burn} ready"), "failed labels exhausted; active v1, page");
    check(&format!("start provision wait:0{burn} ready"), "issuing v9");
}

#[test]
fn the_hard_deadline_pages_and_waits_unless_policy_says_otherwise() {
    check("promoted wait:600", "checkpointing v1; page, no cut v1");
    check("policy:cut promoted wait:600", "checkpointing v1; page, cut v1, armed hard 60");
    check("policy:rollback promoted wait:600", "checkpointing v1; probe v1, reclaim stuck");
}

#[test]
fn a_drain_that_lasts_too_long_is_rolled_back() {
    check("promoted wait:3600", "checkpointing v1; probe v1, reclaim stuck, armed drainmax 60");
    check("promoted wait:3600 alive", "draining v2; active v1, v1 ACTIVE, v2 DRAINING, copy v2 v1");
    check("promoted wait:3600 dead", "checkpointing v1; cut v1, page, no reclaim stuck");
    check("promoted wait:3600 dunno", "checkpointing v1; arms probe, reclaim stuck");
    check("promoted wait:3600 returned:v1", "overlap v1; no reclaim stuck");
}

#[test]
fn an_operator_rolls_back_to_a_key_that_was_probed() {
    check("promoted rollback", "draining v1; reply done, probe v1, reclaim ordered");
    check(
        "promoted rollback alive",
        "draining v2; active v1, gate open, copy v2 v1, audit RolledBack v1, page",
    );
    check("promoted returned:v1 rollback alive", "draining v2; active v1");
    check("promoted rollback returned:v1 wait:300", "overlap v1; reclaim ordered, no revoke v1");
}

#[test]
fn a_rolled_back_rotation_revokes_the_new_key_and_fails() {
    check(
        "promoted rollback alive returned:v2 wait:300 revoked:v2",
        "failed rolled back; active v1, v2 REVOKED, gate open, armed rotate 300",
    );
}

#[test]
fn nobody_rolls_back_twice_or_too_late_or_too_early() {
    check("promoted rollback alive rollback", "draining v2; reply refused");
    check("promoted returned:v1 wait:300 rollback", "revoking v1; reply refused");
    check("first rotate rollback", "queued; reply refused");
    check("promoted rollback alive wait:3600", "checkpointing v2; cut v2, no probe v1");
}

#[test]
fn reports_that_the_new_key_is_dead_roll_back_while_that_is_possible() {
    check("promoted keydead:v2", "draining v1; probe v1, reclaim keydead");
    check("promoted keydead:v2 alive", "draining v2; active v1");
    check("promoted keydead:v2 dead", "queued; emergency, #3, owed retire v1, active v2");
    check("promoted keydead:v1", "draining v1; repeat");
    check("first keydead:v1", "queued; emergency, #2");
    check("promoted rollback alive keydead:v1", "queued; emergency, owed retire v2");
}

#[test]
fn an_operator_aborts_until_promote() {
    check("first rotate abort", "failed aborted; reply done, active v1, no armed rotate");
    check("first rotate wait:0 abort", "failed aborted");
    check("first rotate wait:0 ready abort", "failed aborted; v2 UNRESOLVED, owed sweep v2");
    check("first rotate wait:0 ready unknown abort", "failed aborted; owed sweep v2");
    check(
        "first rotate wait:0 ready issued abort",
        "failed aborted; v2 UNRESOLVED, owed revoke v2, owed destroy v2",
    );
    check("promoted abort", "draining v1; reply refused");
    check("start provision wait:0 ready abort", "issuing v1; reply refused");
}

#[test]
fn orders_without_an_object_are_refused() {
    check("first cut", "complete rotated; reply refused");
    check("first retry", "complete rotated; reply refused");
    check("first rotate extend:60", "queued; reply refused");
    check("promoted extend:99999999", "draining v1; reply refused");
}

#[test]
fn calls_are_cut_and_deadlines_moved_on_order() {
    check("promoted cut", "draining v1; cut v1, reply done, audit Ordered");
    check("promoted extend:60", "draining v1; reply done, armed hard 660");
    check("promoted extend:7200", "draining v1; armed hard 7800, armed drainmax 7800");
}

#[test]
fn a_retry_on_order_does_not_wait() {
    check("first rotate wait:0 unready retry", "preflight; reply done, preflight");
    check("first rotate wait:0 ready denied retry", "queued; reply #3, armed retry 0");
    check("promoted returned:v1 wait:300 retry", "revoking v1; reply done, armed owed 0");
}

#[test]
fn a_failed_rotation_is_tried_again_ever_later() {
    check("first rotate wait:0 ready denied wait:300", "preflight; #3");
    check(
        "first rotate wait:0 ready denied wait:300 ready denied",
        "failed admin refused; armed rotate 600",
    );
}

#[test]
fn a_rotation_comes_by_time() {
    check("policy:interval first", "complete rotated; armed rotate 7776000");
    check("policy:interval first wait:7776000", "preflight; #2, active v1");
}

#[test]
fn what_contradicts_the_record_stops_the_pair() {
    impossible("first issued:v7");
    impossible("first returned:v2");
    impossible("first rotate wait:0 person issued:v2");
}

#[test]
fn what_comes_from_outside_may_be_nonsense() {
    check("first keydead:v9", "complete rotated; repeat");
    check("first submitted:v9", "complete rotated; repeat");
    check("first emergency:v9", "complete rotated; reply refused");
    check("first rotate:v9", "complete rotated; reply refused");
}

#[test]
fn every_answer_may_come_twice_and_late() {
    let story = "promoted returned:v1 wait:300 revoked:v1 destroyed:v1";
    let words: Vec<&str> = story.split(' ').collect();
    for late in [
        "issued:v2",
        "refused",
        "unknown:v2",
        "nothing:v2",
        "claimed:v2",
        "alive",
        "dead",
        "returned:v1",
        "held:v1",
        "revoked:v1",
        "unrevoked:v1",
        "destroyed:v1",
        "swept:v2",
    ] {
        check(&format!("{story} {late}"), "complete rotated; active v2, nothing written");
    }
    for end in 2..=words.len() {
        let script = words[..end].join(" ");
        let last = words[end - 1];
        if !last.starts_with("wait") {
            let once = crate::script::Bench::play(&script);
            let twice = crate::script::Bench::play(&format!("{script} {last}"));
            assert_eq!(once.record, twice.record, "{script} {last}");
        }
    }
}
