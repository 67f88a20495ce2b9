//! A new life finds every phase and goes on; clocks may have been set meanwhile.

use keybaton_messages::{Epoch, Incarnation, Rev};

use crate::script::{Bench, check};

#[test]
fn every_start_is_one_more_epoch() {
    let before = Bench::play("first").record.epoch;
    assert_eq!(Bench::play("first restart").record.epoch, before.next());
    assert_eq!(Bench::play("start").record.epoch, Epoch(1));
}

#[test]
fn every_phase_asks_its_question_again() {
    check("first rotate restart", "queued; arms retry, armed retry 0");
    check("first rotate wait:0 restart", "preflight; preflight");
    check("first rotate wait:0 person restart", "awaitingperson v2; ask v2, armed person 86400");
    check("first rotate wait:0 ready unknown restart", "locating v2; locate v2");
    check("first rotate wait:0 ready issued restart", "verifying v2; probe v2");
    check(
        "promoted restart",
        "draining v1; count v1, armed soft 60, armed hard 600, armed drainmax 3600",
    );
    check("promoted wait:60 restart", "checkpointing v1; signal v1, count v1, armed hard 540");
    check("promoted returned:v1 restart", "overlap v1; armed overlap 300");
    check("promoted returned:v1 wait:300 restart wait:0", "revoking v1; revoke v1");
    check(
        "promoted returned:v1 wait:300 revoked:v1 restart wait:0",
        "complete rotated; destroy v1",
    );
    check(
        "B first rotate wait:0 ready restart",
        "emptying v1; count v1, armed hard 30, gate emptying",
    );
    check("first emergency restart", "queued; armed revokeby 60");
    check("policy:interval first restart", "complete rotated; armed rotate 7776000");
}

#[test]
fn a_label_that_may_have_been_sent_is_never_sent_again() {
    check("first rotate wait:0 ready restart", "locating v2; locate v2, no issue v2");
    check("first rotate wait:0 ready restart nothing", "queued; v2 UNRESOLVED");
    check("first rotate wait:0 ready restart located", "verifying v2; v2 STAGED");
}

#[test]
fn the_overlap_goes_on_where_it_was() {
    check("promoted returned:v1 wait:200 restart wait:99", "overlap v1");
    check("promoted returned:v1 wait:200 restart wait:100", "revoking v1");
}

#[test]
fn a_clock_set_back_cannot_stretch_a_wait() {
    check("promoted returned:v1 wait:200 clock:-3600 restart", "overlap v1; armed overlap 300");
    check(
        "promoted returned:v1 wait:200 clock:-3600 restart wait:300",
        "revoking v1; guard no grants v1",
    );
    check("promoted clock:-3600 restart wait:60", "checkpointing v1");
    check(
        "first rotate wait:0 ready unknown nothing clock:-99999 restart wait:5",
        "preflight; sweep",
    );
}

#[test]
fn a_clock_set_back_during_a_life_does_not_stop_it() {
    check("promoted returned:v1 clock:-3600 wait:300", "revoking v1");
    check("first rotate wait:0 ready unknown nothing clock:-3600 wait:5", "preflight; sweep");
}

#[test]
fn a_clock_set_forward_during_a_life_holds_up_no_new_debt() {
    // The label of v2 is looked for hourly by now; the revoke of v1 must not wait for that.
    let burned = "first rotate wait:0 ready unknown nothing wait:400 ready issued alive";
    check(&format!("{burned} returned:v1 clock:7200 wait:300 wait:5"), "revoking v1; revoke v1");
}

#[test]
fn a_clock_set_forward_shortens_grace_but_nothing_that_is_safe() {
    check("promoted clock:3600 restart wait:0", "checkpointing v1; v1 DRAINING");
    check("promoted returned:v1 clock:3600 restart wait:0", "revoking v1; guard no grants v1");
    check(
        "B first rotate wait:0 ready returned:v1 unknown nothing clock:3600 restart wait:68",
        "settling v2",
    );
}

#[test]
fn settling_starts_from_the_beginning_in_every_life() {
    let settling = "B first rotate wait:0 ready returned:v1 unknown nothing";
    check(&format!("{settling} wait:60 restart"), "settling v2; armed settle 69");
    check(&format!("{settling} wait:60 restart wait:68"), "settling v2");
    check(&format!("{settling} wait:60 restart wait:69"), "probingold v2");
    check(&format!("{settling} wait:69 restart"), "probingold v2; probe v1");
}

#[test]
fn a_wish_for_the_old_key_survives() {
    check("promoted rollback restart", "draining v1; probe v1, reclaim ordered");
    check("promoted rollback restart alive", "draining v2; active v1");
    check("B first rotate wait:0 ready wait:30 restart", "emptying v1; probe v1, reclaim stuck");
}

#[test]
fn starts_that_follow_one_another_change_nothing_but_the_epoch() {
    for story in
        ["promoted", "promoted returned:v1", "first rotate wait:0 ready", "first emergency"]
    {
        let mut once = Bench::play(&format!("{story} restart")).record;
        let twice = Bench::play(&format!("{story} restart restart")).record;
        once.rev = twice.rev;
        once.epoch = twice.epoch;
        assert_eq!(once, twice, "{story}");
    }
}

#[test]
fn a_record_is_behind_a_later_revision_and_a_version_that_it_has_not_made() {
    let record = Bench::play("promoted").record;
    assert!(!record.is_behind(record.rev, record.active), "what it says itself");
    assert!(!record.is_behind(Rev(0), None), "what was seen before its first key");
    assert!(record.is_behind(record.rev.next(), record.active), "a later revision");
    assert!(record.is_behind(record.rev, Some(record.next_version)), "a version of another life");
}

#[test]
fn a_refused_write_is_a_twin_of_the_same_life_or_another_owner() {
    let (before, after) = (Bench::play("first").record, Bench::play("first restart").record);
    let me = after.owner.clone();
    assert!(!after.is_taken_from(&me, &before), "an earlier actor of this life came later");
    let mut elsewhere = after;
    elsewhere.owner.incarnation = Incarnation(me.incarnation.0 + 1);
    assert!(elsewhere.is_taken_from(&me, &before), "another life owns it");
    assert!(before.is_taken_from(&me, &before), "nobody began, and yet the write was refused");
}
