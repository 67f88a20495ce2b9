//! S6: every step exactly once, no task dropped.

use keybaton_oracle::TaskName;
use serde_json::{Value, json};

use crate::history::{Call, History, acme, entry, task};

fn entries(it: &mut History) -> &mut Vec<Value> {
    it.tasks[0]["entries"].as_array_mut().expect("a task has entries")
}

#[test]
fn a_task_that_is_not_done_is_dropped() {
    for state in ["running", "parked", "failed", "cancelled"] {
        let mut it = History::held();
        it.tasks[0]["state"] = json!(state);
        assert_eq!(it.breaks(&["S6"]).tasks_dropped, 1, "{state}");
    }
}

#[test]
fn a_task_that_was_cancelled_on_purpose_is_not_dropped() {
    let mut it = History::held();
    it.tasks[0]["state"] = json!("cancelled");
    entries(&mut it).truncate(3);
    it.rules.cancelled.push(TaskName { tenant: "acme".into(), task: "t1".into() });
    assert_eq!(it.breaks(&[]).tasks_dropped, 0);
}

#[test]
fn a_task_that_made_calls_and_has_no_journal_is_dropped() {
    let mut it = History::held();
    it.call(Call { task: "t2", ..acme(0, "k2") }, "ok");
    let verdict = it.breaks(&["S6"]);
    assert_eq!((verdict.tasks, verdict.tasks_dropped), (3, 1));
}

#[test]
fn a_spawned_task_without_any_trace_is_dropped() {
    let mut it = History::held();
    it.rules.tasks_expected = Some(2);
    it.breaks(&[]);
    it.rules.tasks_expected = Some(5);
    let verdict = it.breaks(&["S6"]);
    assert_eq!((verdict.tasks, verdict.tasks_dropped), (5, 3));
}

#[test]
fn a_step_without_a_result_is_lost() {
    let mut it = History::held();
    entries(&mut it).retain(|entry| entry["n"] != 1);
    assert_eq!(it.breaks(&["S6"]).steps_lost, 1);
    it.tasks[0]["steps_expected"] = json!(9);
    assert_eq!(it.breaks(&["S6"]).steps_lost, 7);
}

#[test]
fn an_intent_without_its_result_is_a_lost_step_of_an_open_ended_task() {
    let mut it = History::held();
    it.tasks[0]["steps_expected"] = Value::Null;
    it.breaks(&[]);
    entries(&mut it).push(entry("intent", 3));
    assert_eq!(it.breaks(&["S6"]).steps_lost, 1);
}

#[test]
fn two_results_of_one_step_are_doubled() {
    let mut it = History::held();
    entries(&mut it).push(entry("result", 2));
    assert_eq!(it.breaks(&["S6"]).steps_doubled, 1);
}

#[test]
fn a_step_that_begins_again_after_its_result_is_doubled() {
    let mut it = History::held();
    entries(&mut it).push(entry("intent", 2));
    assert_eq!(it.breaks(&["S6"]).steps_doubled, 1);
}

#[test]
fn an_intent_that_is_repeated_before_its_result_is_how_a_step_resumes() {
    let mut it = History::held();
    entries(&mut it).insert(2, entry("intent", 1));
    assert_eq!(it.breaks(&[]).steps_doubled, 0);
}

#[test]
fn two_idempotency_keys_for_one_step_are_doubled() {
    let mut it = History::held();
    entries(&mut it)[5]["idem"] = json!("ff");
    assert_eq!(it.breaks(&["S6"]).steps_doubled, 1);
}

#[test]
fn results_out_of_order_and_beyond_the_program_break_s6() {
    let mut it = History::held();
    entries(&mut it).swap(1, 5);
    it.breaks(&["S6"]);
    let mut it = History::held();
    it.tasks[0]["steps_expected"] = json!(2);
    it.breaks(&["S6"]);
}

#[test]
fn steps_before_the_first_kept_checkpoint_are_counted_as_compacted() {
    let mut it = History::held();
    let checkpoint = json!({"entry": "checkpoint", "n": 2, "at_ms": 5});
    entries(&mut it).drain(..4);
    entries(&mut it).insert(0, checkpoint.clone());
    assert_eq!(it.breaks(&[]).steps_compacted, 2);
    // One in the middle proves nothing.
    let mut it = History::held();
    entries(&mut it).drain(2..4);
    entries(&mut it).insert(2, checkpoint);
    assert_eq!(it.breaks(&["S6"]).steps_lost, 1);
}

#[test]
fn state_entries_have_no_step() {
    let mut it = History::held();
    entries(&mut it).push(json!({"entry": "state", "idem": null, "at_ms": 5}));
    it.breaks(&[]);
}

#[test]
fn long_lists_of_violations_are_cut_short_with_a_count() {
    let mut it = History::held();
    for number in 0..50 {
        let mut more = task("acme", &format!("many-{number}"), 1);
        more["state"] = json!("failed");
        it.tasks.push(more);
    }
    let verdict = it.judge();
    assert_eq!(verdict.tasks_dropped, 50);
    assert_eq!(verdict.violations.len(), 21);
    assert_eq!(verdict.violations[20].what, "and 30 more of this rule");
}
