//! S7-S9: the audit chain says of every key when it began and ended, in one order, by one writer.

use serde_json::{Value, json};

use crate::history::{History, acme};

/// A record as it is sealed, behind those that are there.
fn record(chain: &[Value], tenant: &str, kind: &str, key: Option<&str>, epoch: u64) -> Value {
    let of_pair: Vec<_> = chain.iter().filter(|line| line["tenant"] == tenant).collect();
    let prev = of_pair.last().map_or_else(|| json!("00"), |last| last["hash"].clone());
    let seq = of_pair.len() + 1;
    let body = json!({"at_ms": 5, "node": "n1", "incarnation": epoch, "epoch": epoch,
        "rev": seq, "key_id": key.map(|key| format!("{tenant}/agents/{key}")), "note": ""});
    json!({"tenant": tenant, "provider": "openai", "seq": seq, "prev": prev,
        "hash": format!("{tenant}{seq}"), "kind": kind, "dedupe": key.unwrap_or("x"),
        "body": body.to_string()})
}

/// The run that holds, with its audit.
fn audited() -> History {
    let mut it = History::held();
    let facts = [
        ("acme", "ISSUED", Some("k1")),
        ("zen", "ISSUED", Some("z1")),
        ("acme", "ISSUED", Some("k2")),
        ("acme", "PROMOTED", Some("k2")),
        ("acme", "REVOKE_INTENT", Some("k1")),
        ("acme", "REVOKED", Some("k1")),
        ("acme", "ROTATION_COMPLETE", None),
    ];
    let mut chain = Vec::new();
    for (tenant, kind, key) in facts {
        chain.push(record(&chain, tenant, kind, key, 1));
    }
    it.audit = Some(chain);
    it
}

fn chain(it: &mut History) -> &mut Vec<Value> {
    it.audit.as_mut().expect("audited")
}

/// Changes what a record's body says.
fn say(it: &mut History, at: usize, change: impl FnOnce(&mut Value)) {
    let line = &mut chain(it)[at];
    let mut body = serde_json::from_str(line["body"].as_str().expect("text")).expect("JSON");
    change(&mut body);
    line["body"] = json!(body.to_string());
}

fn add(it: &mut History, kind: &str, key: Option<&str>, epoch: u64) {
    let next = record(chain(it), "acme", kind, key, epoch);
    chain(it).push(next);
}

#[test]
fn a_whole_audit_holds() {
    audited().breaks(&[]);
}

#[test]
fn a_key_without_a_beginning_or_with_two_breaks_s7() {
    for kind in ["ISSUED", "RECONCILED", "IMPORTED"] {
        let mut it = audited();
        add(&mut it, kind, Some("k2"), 1);
        it.breaks(&["S7"]);
    }
    let mut it = audited();
    chain(&mut it)[0]["kind"] = json!("PROMOTED");
    it.breaks(&["S7"]);
}

#[test]
fn a_dead_key_without_an_end_a_live_one_with_one_and_two_ends_break_s7() {
    let mut it = audited();
    chain(&mut it)[5]["kind"] = json!("REVOKE_INTENT");
    it.breaks(&["S7"]);
    for key in ["k1", "k2"] {
        let mut it = audited();
        add(&mut it, "REVOKED", Some(key), 1);
        it.breaks(&["S7"]);
    }
}

#[test]
fn what_is_still_owed_need_not_be_told_yet() {
    let mut it = audited();
    it.born("acme", "k3").died("acme", "k3", "revoked");
    it.breaks(&["S7"]);
    it.pairs[0]["obligations"] = json!([{}]);
    it.breaks(&[]);
}

#[test]
fn a_key_that_was_voided_unseen_needs_no_record() {
    let mut it = audited();
    it.born("acme", "k3").died("acme", "k3", "voided");
    it.breaks(&[]);
}

#[test]
fn a_key_that_the_provider_never_had_breaks_s7() {
    let mut it = audited();
    add(&mut it, "REVOKED", Some("k9"), 1);
    it.breaks(&["S7"]);
}

#[test]
fn a_record_taken_out_or_put_in_elsewhere_breaks_s7() {
    let mut it = audited();
    chain(&mut it).remove(3);
    it.breaks(&["S7"]);
    let mut it = audited();
    chain(&mut it).swap(3, 4);
    it.breaks(&["S7", "S8"]);
    let mut it = audited();
    chain(&mut it)[4]["prev"] = json!("somebody else's");
    it.breaks(&["S7"]);
}

#[test]
fn a_pair_without_an_audit_breaks_s7() {
    let mut it = audited();
    chain(&mut it).retain(|line| line["tenant"] == "acme");
    it.breaks(&["S7"]);
}

#[test]
fn a_revision_an_epoch_or_an_incarnation_that_goes_back_breaks_s8() {
    let mut it = audited();
    say(&mut it, 5, |body| body["rev"] = json!(2));
    it.breaks(&["S8"]);
    let mut it = audited();
    add(&mut it, "TRIGGERED", None, 2);
    it.pairs[0]["epoch"] = json!(2);
    it.breaks(&[]);
    add(&mut it, "TRIGGERED", None, 1);
    it.breaks(&["S8"]);
}

#[test]
fn a_record_that_is_behind_its_audit_breaks_s8() {
    let mut it = audited();
    it.pairs[0]["rev"] = json!(3);
    it.breaks(&["S8"]);
    let mut it = audited();
    it.pairs[0]["epoch"] = json!(0);
    it.breaks(&["S8"]);
}

#[test]
fn two_writers_under_one_epoch_break_s9() {
    let mut it = audited();
    say(&mut it, 6, |body| body["node"] = json!("n2"));
    it.breaks(&["S9"]);
    let mut it = audited();
    say(&mut it, 6, |body| body["incarnation"] = json!(2));
    it.breaks(&["S9"]);
}

#[test]
fn an_audit_record_whose_body_is_no_json_is_no_evidence() {
    let mut it = audited();
    chain(&mut it)[2]["body"] = json!("{\"rev\":");
    let error = it.try_judge().expect_err("half a body").to_string();
    assert_eq!(error, "line 3 of the audit file is malformed: export it again");
    let mut it = History::held();
    it.audit = Some(Vec::new());
    it.call(acme(3, "k2"), "ok");
    it.tasks[0] = crate::history::task("acme", "t1", 4);
    it.breaks(&["S7"]);
}
