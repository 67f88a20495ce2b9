//! S2-S5, L1, L2 and L4: the keys at the provider are those that the records hand out.

use keybaton_oracle::PairName;
use serde_json::{Value, json};

use crate::history::{History, acme, pair, zen};

#[test]
fn an_old_key_that_still_lives_breaks_l2_and_s4() {
    let mut it = History::before_rotation();
    it.born("acme", "k2").call(acme(1, "k2"), "ok").export();
    let verdict = it.breaks(&["L2", "S4"]);
    assert!(!verdict.old_key_dead);
    assert_eq!((verdict.live_keys.expected, verdict.live_keys.found), (2, 3));
}

#[test]
fn a_pair_that_kept_its_first_key_was_not_rotated() {
    let mut it = History::before_rotation();
    it.export();
    it.pairs[0] = pair("acme", 1, &[(1, "ACTIVE", "k1")]);
    assert!(!it.breaks(&["L2"]).old_key_dead);
}

#[test]
fn a_dead_attempt_that_was_never_in_use_is_no_old_key() {
    let mut it = History::empty();
    it.born("acme", "k0").died("acme", "k0", "revoked").born("acme", "k1").born("zen", "z1");
    it.call(acme(0, "k1"), "ok").export();
    it.pairs[0] = pair("acme", 2, &[(1, "GONE", "k0"), (2, "ACTIVE", "k1")]);
    it.pairs[0]["versions"][0]["promoted_at_ms"] = Value::Null;
    assert!(!it.breaks(&["L2"]).old_key_dead);
}

#[test]
fn an_orphan_under_our_label_breaks_s4() {
    let mut it = History::held();
    it.born("acme", "k9");
    let verdict = it.breaks(&["L2", "S4"]);
    assert_eq!(verdict.live_keys.found, 3);
    it.died("acme", "k9", "revoked").breaks(&[]);
}

#[test]
fn a_key_of_somebody_else_is_not_ours() {
    let mut it = History::held();
    it.born_as("acme", "k8", "ci of the web shop", "api");
    it.born_as("acme", "k9", "kb1-dep-acme-x", "fault");
    assert_eq!(it.breaks(&[]).live_keys.found, 2);
}

#[test]
fn an_imported_key_without_our_label_counts_once_it_is_handed_out() {
    let mut it = History::empty();
    it.born_as("acme", "k1", "made by hand", "seed").born("zen", "z1");
    it.call(acme(0, "k1"), "ok").born("acme", "k2").call(acme(1, "k2"), "ok").export();
    assert!(!it.breaks(&["L2"]).old_key_dead);
    it.died("acme", "k1", "revoked");
    assert!(it.breaks(&[]).old_key_dead);
}

#[test]
fn an_active_version_whose_key_is_dead_breaks_s4() {
    let mut it = History::held();
    it.died("acme", "k2", "fault");
    let verdict = it.breaks(&["S4"]);
    assert_eq!((verdict.live_keys.expected, verdict.live_keys.found), (2, 1));
}

#[test]
fn a_label_that_was_used_for_two_keys_breaks_s4() {
    let mut it = History::held();
    it.born_as("acme", "k8", "kb1-twice", "api").died("acme", "k8", "revoked");
    it.breaks(&[]);
    it.born_as("acme", "k9", "kb1-twice", "api").died("acme", "k9", "revoked");
    it.breaks(&["S4"]);
}

#[test]
fn two_active_versions_break_s2() {
    let mut it = History::held();
    it.pairs[0]["versions"][0]["status"] = json!("ACTIVE");
    it.breaks(&["S2"]);
}

#[test]
fn an_active_that_points_elsewhere_breaks_s2() {
    let mut it = History::held();
    it.pairs[1]["versions"].as_array_mut().expect("versions").push(
        json!({"v": 2, "status": "GONE", "label": "l", "key_id": null, "promoted_at_ms": null}),
    );
    it.breaks(&[]);
    it.pairs[1]["active"] = json!(2);
    it.breaks(&["S2", "S4"]);
}

#[test]
fn a_version_that_stands_twice_breaks_s2() {
    let mut it = History::held();
    let mut again = it.pairs[0]["versions"][0].clone();
    again["key_id"] = Value::Null;
    it.pairs[0]["versions"].as_array_mut().expect("versions").push(again);
    it.breaks(&["S2"]);
}

#[test]
fn a_key_that_was_used_without_being_promoted_breaks_s3() {
    let mut it = History::held();
    it.pairs[0]["versions"][1]["promoted_at_ms"] = Value::Null;
    it.breaks(&["S3"]);
}

#[test]
fn a_key_that_two_versions_claim_breaks_s5() {
    let mut it = History::held();
    it.pairs[0]["versions"][0]["key_id"] = json!("k2");
    it.breaks(&["S5"]);
}

#[test]
fn a_tenant_that_was_not_rotated_keeps_its_key() {
    let mut it = History::held();
    it.born("zen", "z2").call(zen(1, "z2"), "ok").died("zen", "z1", "revoked");
    it.pairs[1] = pair("zen", 2, &[(1, "REVOKED", "z1"), (2, "ACTIVE", "z2")]);
    let verdict = it.breaks(&["S5"]);
    assert_eq!((verdict.other_tenants_touched, verdict.violations.len()), (1, 2));
    it.rules.rotated.push(PairName::new("zen", "openai"));
    assert!(it.breaks(&[]).old_key_dead);
}

#[test]
fn a_first_attempt_that_came_to_nothing_does_not_touch_a_tenant() {
    let mut it = History::held();
    it.born("zen", "z0").died("zen", "z0", "revoked");
    assert_eq!(it.breaks(&[]).other_tenants_touched, 0);
}

#[test]
fn a_rotation_that_has_not_ended_breaks_l1() {
    let mut it = History::held();
    it.pairs[0]["rotation"]["phase"] = json!("DRAINING");
    it.breaks(&["L1"]);
    it.pairs[0]["rotation"] = Value::Null;
    it.breaks(&[]);
}

#[test]
fn a_pair_that_was_to_be_rotated_and_has_no_record_breaks_l1() {
    let mut it = History::held();
    it.rules.rotated.push(PairName::new("acme", "mistral"));
    assert!(!it.breaks(&["L1"]).old_key_dead);
}

#[test]
fn a_version_that_is_left_draining_breaks_l2() {
    let mut it = History::held();
    it.pairs[0]["versions"][0]["status"] = json!("REVOKE_PENDING");
    it.breaks(&["L2"]);
}

#[test]
fn a_gate_that_stays_shut_breaks_l4() {
    let mut it = History::held();
    it.pairs[0]["gate"] = json!({"paused": "no_credential"});
    it.breaks(&["L4"]);
}
