//! S1 and S5: no call of a rotated pair suffers, no other tenant notices.

use serde_json::json;

use crate::history::{Call, History, acme, tool, zen};

/// A rotation whose old key dies while step 1 runs under it, repeated under the new key.
fn cut_and_repeated() -> History {
    let mut it = History::before_rotation();
    let req = it.start(acme(1, "k1"));
    it.born("acme", "k2").died("acme", "k1", "revoked").end(req, "cut", false);
    it.call(acme(1, "k2"), "ok").call(acme(2, "k2"), "ok").call(zen(1, "z1"), "ok").export();
    it
}

#[test]
fn a_rotation_under_running_calls_holds() {
    let verdict = History::held().breaks(&[]);
    assert_eq!((verdict.calls_ok, verdict.tasks, verdict.tasks_dropped), (5, 2, 0));
    assert_eq!((verdict.live_keys.expected, verdict.live_keys.found), (2, 2));
    assert!(verdict.old_key_dead);
}

#[test]
fn a_call_that_is_cut_by_its_keys_revocation_breaks_s1() {
    let verdict = cut_and_repeated().breaks(&["S1"]);
    assert_eq!((verdict.calls_interrupted, verdict.calls_repeated), (1, 1));
    let what = &verdict.violations[0].what;
    assert!(what.contains("acme/t1 step 1") && what.contains("cut when its key died"), "{what}");
}

#[test]
fn an_emergency_may_cut_a_call_that_is_repeated_under_the_new_key() {
    let mut it = cut_and_repeated();
    it.rules.allow_repeated_interruptions = true;
    let verdict = it.breaks(&[]);
    assert_eq!((verdict.calls_interrupted, verdict.calls_repeated), (1, 1));
}

#[test]
fn an_emergency_may_not_cut_a_call_that_is_never_repeated() {
    let mut it = History::before_rotation();
    it.rules.allow_repeated_interruptions = true;
    let req = it.start(acme(1, "k1"));
    it.born("acme", "k2").died("acme", "k1", "revoked").end(req, "cut", false);
    it.call(acme(2, "k2"), "ok").export();
    assert_eq!(it.breaks(&["S1"]).calls_repeated, 0);
}

#[test]
fn a_repetition_under_the_same_key_is_none() {
    let mut it = History::before_rotation();
    it.rules.allow_repeated_interruptions = true;
    it.call(acme(1, "k1"), "client_gone").call(acme(1, "k1"), "ok").born("acme", "k2");
    it.died("acme", "k1", "revoked").call(acme(2, "k2"), "ok").export();
    it.breaks(&["S1"]);
}

#[test]
fn a_repetition_that_began_before_the_cut_is_none() {
    let mut it = History::before_rotation();
    it.rules.allow_repeated_interruptions = true;
    let old = it.start(acme(1, "k1"));
    it.born("acme", "k2");
    let new = it.start(acme(1, "k2"));
    it.died("acme", "k1", "revoked").end(old, "cut", false).end(new, "ok", true).export();
    it.breaks(&["S1"]);
}

/// The caller knows at once that it dropped a call; the provider may note it after the repetition
/// began, and even after that one's end.
#[test]
fn a_dropped_call_may_be_repeated_before_the_provider_notices() {
    for is_late in [false, true] {
        let mut it = History::before_rotation();
        it.rules.allow_repeated_interruptions = true;
        let old = it.start(acme(1, "k1"));
        it.born("acme", "k2").died("acme", "k1", "revoked");
        let new = it.start(acme(1, "k2"));
        if is_late {
            it.end(new, "ok", true).end(old, "client_gone", false);
        } else {
            it.end(old, "client_gone", false).end(new, "ok", true);
        }
        it.call(acme(2, "k2"), "ok").export();
        assert_eq!(it.breaks(&[]).calls_repeated, 1, "late: {is_late}");
    }
}

#[test]
fn a_dropped_call_is_not_repeated_by_one_that_began_before_it_or_under_its_key() {
    for key in ["k2", "k1"] {
        let mut it = History::before_rotation();
        it.rules.allow_repeated_interruptions = true;
        it.born("acme", "k2");
        let first = it.start(acme(1, key));
        let dropped = it.start(acme(1, "k1"));
        let last = it.start(acme(1, "k1"));
        it.end(first, "ok", true).end(last, "ok", true).end(dropped, "client_gone", false);
        it.died("acme", "k1", "revoked").call(acme(2, "k2"), "ok").export();
        assert_eq!(it.breaks(&["S1"]).calls_repeated, 0, "{key}");
    }
}

#[test]
fn an_emergency_does_not_excuse_a_repeated_call_whose_step_has_no_result() {
    let mut it = cut_and_repeated();
    it.rules.allow_repeated_interruptions = true;
    let entries = it.tasks[0]["entries"].as_array_mut().expect("entries");
    entries.retain(|entry| entry["n"] != 1);
    let verdict = it.breaks(&["S1", "S6"]);
    assert_eq!(verdict.steps_lost, 1);
}

#[test]
fn a_refused_call_breaks_s1_and_is_forgiven_in_an_emergency_when_repeated() {
    let mut it = History::before_rotation();
    it.born("acme", "k2").died("acme", "k1", "revoked").call(acme(1, "k1"), "refused");
    it.call(acme(1, "k2"), "ok").call(acme(2, "k2"), "ok").export();
    let verdict = it.breaks(&["S1"]);
    assert_eq!((verdict.calls_refused, verdict.calls_repeated), (1, 1));
    it.rules.allow_repeated_interruptions = true;
    assert_eq!(it.breaks(&[]).calls_refused, 1);
}

#[test]
fn a_call_that_outlives_its_key_breaks_s1_too() {
    let mut it = History::before_rotation();
    let req = it.start(acme(1, "k1"));
    it.born("acme", "k2").died("acme", "k1", "revoked").end(req, "ok", true);
    it.call(acme(2, "k2"), "ok").export();
    assert_eq!(it.breaks(&["S1"]).calls_interrupted, 0);
}

#[test]
fn a_call_that_its_caller_drops_without_a_kill_is_interrupted() {
    let mut it = History::held();
    it.call(acme(2, "k2"), "client_gone");
    assert_eq!(it.breaks(&["S1"]).calls_interrupted, 1);
}

#[test]
fn a_call_that_never_ends_is_interrupted() {
    let mut it = History::held();
    it.start(acme(2, "k2"));
    assert_eq!(it.breaks(&["S1"]).calls_interrupted, 1);
}

#[test]
fn calls_that_die_with_a_killed_process_are_counted_apart() {
    let mut it = History::before_rotation();
    let (mine, theirs) = (it.start(acme(1, "k1")), it.start(zen(1, "z1")));
    it.kill().end(mine, "client_gone", false).end(theirs, "client_gone", false);
    it.pass(5_000_000).call(acme(1, "k1"), "ok").call(zen(1, "z1"), "ok").born("acme", "k2");
    it.died("acme", "k1", "revoked").call(acme(2, "k2"), "ok").export();
    let verdict = it.breaks(&[]);
    assert_eq!((verdict.calls_cut_by_kill, verdict.calls_interrupted), (2, 0));
}

#[test]
fn a_kill_excuses_no_call_that_began_long_after_it() {
    let mut it = History::held();
    it.kill().pass(5_000_000).call(acme(2, "k2"), "client_gone");
    let verdict = it.breaks(&["S1"]);
    assert_eq!((verdict.calls_cut_by_kill, verdict.calls_interrupted), (0, 1));
}

#[test]
fn a_kill_never_excuses_a_refused_call() {
    let mut it = History::held();
    it.kill().call(acme(2, "k1"), "refused");
    assert_eq!(it.breaks(&["S1"]).calls_refused, 1);
}

#[test]
fn a_key_that_dies_after_a_kill_cuts_only_calls_of_the_dead() {
    let mut it = History::before_rotation();
    let req = it.start(acme(1, "k1"));
    it.kill().born("acme", "k2").died("acme", "k1", "revoked").end(req, "cut", false);
    it.call(acme(1, "k2"), "ok").call(acme(2, "k2"), "ok").export();
    assert_eq!(it.breaks(&[]).calls_cut_by_kill, 1);
}

#[test]
fn calls_that_are_open_when_the_provider_starts_again_died_with_it() {
    let mut it = History::before_rotation();
    it.start(acme(1, "k1"));
    it.event(json!({"event": "opened", "class": "a", "pid": 8}));
    it.call(acme(1, "k1"), "ok").born("acme", "k2").died("acme", "k1", "revoked");
    it.call(acme(2, "k2"), "ok").export();
    assert_eq!(it.breaks(&[]).calls_cut_by_kill, 1);
}

#[test]
fn a_step_of_a_killed_call_must_be_made_good() {
    let mut it = History::held();
    let req = it.start(acme(3, "k2"));
    it.kill().end(req, "client_gone", false);
    let verdict = it.breaks(&["S6"]);
    assert_eq!((verdict.calls_cut_by_kill, verdict.steps_lost), (1, 1));
}

#[test]
fn a_failed_call_of_a_rotated_tenant_is_shown_and_one_of_another_breaks_s5() {
    let mut it = History::held();
    it.call(acme(2, "k2"), "failed");
    assert_eq!(it.breaks(&[]).calls_failed, 1);
    it.call(zen(1, "z1"), "failed");
    assert_eq!(it.breaks(&["S5"]).other_tenants_touched, 1);
}

#[test]
fn a_refused_call_of_a_tenant_that_was_not_rotated_breaks_s5() {
    let mut it = History::held();
    it.call(zen(1, "z1"), "refused").call(zen(1, "z1"), "ok");
    let verdict = it.breaks(&["S5"]);
    assert_eq!((verdict.other_tenants_touched, verdict.calls_refused), (1, 1));
}

#[test]
fn a_call_under_another_tenants_key_breaks_s5() {
    let mut it = History::held();
    it.call(Call { key: "z1", ..acme(2, "k2") }, "ok");
    let verdict = it.breaks(&["S5"]);
    assert!(verdict.violations[0].what.contains("of acme used a key of zen"));
}

#[test]
fn a_probe_of_the_system_is_no_agents_call() {
    let mut it = History::held();
    it.event(json!({"event": "request_started", "req": 90, "path": "/v1/models",
        "project": "acme", "key_id": "k1", "tenant": null, "task": null, "step": null,
        "idem": null, "streaming": false, "stage": null}));
    it.end(90, "refused", false);
    assert_eq!(it.breaks(&[]).calls_refused, 0);
}

#[test]
fn a_chat_call_without_any_header_is_an_agents_call() {
    let mut it = History::held();
    it.event(json!({"event": "request_started", "req": 90, "path": "/v1/chat/completions",
        "project": "acme", "key_id": "k1", "tenant": null, "task": null, "step": null,
        "idem": null, "streaming": false, "stage": null}));
    it.end(90, "refused", false);
    assert_eq!(it.breaks(&["S1"]).calls_refused, 1);
}

#[test]
fn a_call_under_a_key_that_nobody_knows_belongs_to_the_tenant_it_names() {
    let mut it = History::held();
    for (req, tenant) in [(90, "acme"), (91, "zen")] {
        it.event(json!({"event": "request_started", "req": req, "path": "/v1/chat/completions",
            "project": null, "key_id": null, "tenant": tenant, "task": "x", "step": 0,
            "idem": null, "streaming": false, "stage": null}));
        it.end(req, "refused", false);
    }
    it.tasks.push(crate::history::task("acme", "x", 0));
    it.tasks.push(crate::history::task("zen", "x", 0));
    assert_eq!(it.breaks(&["S1", "S5"]).other_tenants_touched, 1);
}

#[test]
fn a_side_effect_happens_once_under_one_idempotency_key() {
    let mut it = History::held();
    it.call(tool(2, "k2", "a"), "ok");
    // A repeat that the tool recognises is not executed.
    let repeat = it.start(tool(2, "k2", "a"));
    it.end(repeat, "ok", false);
    assert_eq!(it.breaks(&[]).steps_doubled, 0);
    it.call(tool(2, "k2", "a"), "ok");
    let verdict = it.breaks(&["S6"]);
    assert_eq!(verdict.steps_doubled, 1);
    assert!(verdict.violations[0].what.contains("the same idempotency key"));
}

#[test]
fn a_side_effect_under_a_second_idempotency_key_of_its_step_is_doubled() {
    let mut it = History::held();
    it.call(tool(1, "k2", "a"), "ok").call(tool(2, "k2", "b"), "ok");
    it.breaks(&[]);
    it.call(tool(2, "k2", "c"), "ok");
    let verdict = it.breaks(&["S6"]);
    assert_eq!(verdict.steps_doubled, 1);
    assert!(verdict.violations[0].what.contains("another idempotency key"));
}

#[test]
fn a_side_effect_that_was_executed_before_its_call_was_cut_counts() {
    let mut it = cut_and_repeated();
    it.rules.allow_repeated_interruptions = true;
    let req = it.start(tool(2, "k2", "a"));
    it.kill().end(req, "client_gone", true).call(tool(2, "k2", "a"), "ok");
    assert_eq!(it.breaks(&["S6"]).steps_doubled, 1);
}

#[test]
fn a_run_without_any_call_proves_nothing() {
    let mut it = History::empty();
    it.born("acme", "k1").born("acme", "k2").born("zen", "z1").died("acme", "k1", "revoked");
    it.export();
    it.breaks(&["S1"]);
}
