//! What stays owed: nothing is forgotten, nothing of others is touched.

use crate::script::{Bench, check};

const BURNED: &str = "first rotate wait:0 ready unknown nothing";

#[track_caller]
fn after_burning(script: &str, expected: &str) {
    check(&format!("{BURNED} {script}"), expected);
}

#[test]
fn a_burned_label_is_looked_for_ever_more_rarely() {
    let mut asked = Vec::new();
    let mut bench = Bench::play(&format!("{BURNED} abort"));
    for second in 1..=8000 {
        bench.say("wait:1");
        if bench.did("sweep") {
            asked.push(second);
        }
    }
    assert_eq!(asked, [5, 15, 60, 300, 3900, 7500]);
}

#[test]
fn a_label_ends_only_by_a_listing_begun_after_the_horizon() {
    after_burning("abort swept:v2", "failed aborted; v2 UNRESOLVED, owed sweep v2, repeat");
    after_burning("abort wait:86399 swept:v2", "failed aborted; v2 UNRESOLVED");
    after_burning(
        "abort wait:86400 swept:v2",
        "failed aborted; v2 GONE, no owed sweep v2, destroy v2, owed destroy v2",
    );
}

#[test]
fn a_key_under_a_burned_label_is_revoked_if_nobody_claims_it() {
    after_burning(
        "found:v2:lost-key",
        "queued; owed revoke v2, revoke v2, guard unclaimed v2, audit Reconciled v2, owed sweep v2",
    );
    after_burning("found:v2:lost-key revoked:v2", "queued; v2 UNRESOLVED, audit Revoked v2");
    after_burning(
        "abort found:v2:lost-key revoked:v2 wait:86400 swept:v2",
        "failed aborted; v2 GONE",
    );
    after_burning(
        "abort found:v2:lost-key wait:86400 swept:v2 revoked:v2",
        "failed aborted; v2 GONE",
    );
}

#[test]
fn a_key_that_is_listed_after_its_death_is_not_counted_twice() {
    after_burning(
        "found:v2:lost-key revoked:v2 found:v2:lost-key",
        "queued; revoke v2, no owed revoke v2, nothing written",
    );
}

#[test]
fn a_foreign_key_under_our_label_is_left_alone() {
    after_burning("found:v2:key-v1", "queued; no owed revoke v2, page, no revoke v2");
    after_burning("claimed:v2", "queued; no owed revoke v2, page, audit ForeignKey");
    after_burning("claimed:v2 claimed:v2", "queued; no page, nothing written");
    after_burning("abort wait:86400 claimed:v2", "failed aborted; v2 GONE");
}

#[test]
fn a_refused_revoke_is_asked_again_and_pages_in_the_end() {
    let revoking = "promoted returned:v1 wait:300";
    check(&format!("{revoking} unrevoked:v1"), "revoking v1; error no, no page, armed owed 5");
    check(&format!("{revoking} wait:5"), "revoking v1; revoke v1, armed owed 10");
    check(&format!("{revoking} wait:15"), "revoking v1; revoke v1, armed owed 20");
    check(&format!("{revoking} wait:100000"), "revoking v1; v1 REVOKE_PENDING, active v2");
}

#[test]
fn a_careful_policy_has_the_death_confirmed() {
    check("policy:confirm promoted returned:v1 wait:300", "revoking v1; revoke v1 surely");
}

#[test]
fn a_secret_outlives_the_question_whether_its_key_is_dead() {
    let tried = "dead wait:12 dead wait:12 dead wait:12 dead wait:12 dead";
    let bad = format!("policy:confirm first rotate wait:0 ready issued {tried}");
    check(&bad, "queued; revoke v2 surely, owed destroy v2, no destroy v2");
    check(&format!("{bad} restart wait:0"), "queued; revoke v2 surely, no destroy v2");
    check(&format!("{bad} revoked:v2"), "queued; v2 GONE, destroy v2, owed destroy v2");
    check(&format!("{bad} revoked:v2 destroyed:v2"), "queued; no owed destroy v2");
}

#[test]
fn an_unconfirmed_destruction_stays_owed() {
    let done = "promoted returned:v1 wait:300 revoked:v1";
    check(&format!("{done} wait:5"), "complete rotated; destroy v1, owed destroy v1");
    check(
        &format!("{done} wait:5 destroyed:v1"),
        "complete rotated; no owed destroy v1, no armed owed 5",
    );
}

#[test]
fn old_versions_are_forgotten_but_never_with_their_debts() {
    let round = " rotate wait:0 ready issued alive returned:OLD wait:300 revoked:OLD destroyed:OLD";
    let mut script = "first rotate wait:0 ready unknown nothing abort".to_owned();
    for new in 3..30 {
        let old = if new == 3 { 1 } else { new - 1 };
        script.push_str(&round.replace("OLD", &format!("v{old}")));
    }
    let bench = Bench::play(&script);
    let ended = bench.record.versions.len() - 2;
    assert_eq!(ended, keybaton_rotation::limits::ENDED_VERSIONS_KEPT);
    check(&script, "complete rotated; v2 UNRESOLVED, active v29, no v3 REVOKED, owed sweep v2");
}
