//! Files that are no evidence are refused with the line that says why.

use keybaton_oracle::{Files, Held, OracleError, Rules, judge, judge_files};
use serde_json::json;

use crate::history::{History, acme, text};

const NO_AUDIT: Option<&[u8]> = None;

#[test]
fn a_torn_last_line_is_left_out_and_counted() {
    let it = History::held();
    let ledger = text(&it.ledger) + r#"{"schema":1,"seq":99,"at_us":5,"ev"#;
    let (tasks, pairs) = (text(&it.tasks), text(&it.pairs));
    let verdict = judge(ledger.as_bytes(), tasks.as_bytes(), pairs.as_bytes(), NO_AUDIT, &it.rules)
        .expect("a kill may tear the last line");
    assert_eq!((verdict.verdict, verdict.lines_truncated), (Held::Held, 1));
}

#[test]
fn a_whole_last_line_without_its_line_feed_counts() {
    let it = History::held();
    let (ledger, tasks, pairs) = (text(&it.ledger), text(&it.tasks), text(&it.pairs));
    let bare = |text: &str| text.trim_end().as_bytes().to_vec();
    let verdict = judge(&*bare(&ledger), &*bare(&tasks), &*bare(&pairs), NO_AUDIT, &it.rules)
        .expect("all there");
    assert_eq!((verdict.verdict, verdict.lines_truncated), (Held::Held, 0));
}

#[test]
fn a_malformed_line_is_named() {
    let it = History::held();
    let mut lines: Vec<_> = text(&it.ledger).lines().map(str::to_owned).collect();
    lines[3].truncate(20);
    let (ledger, tasks, pairs) = (lines.join("\n"), text(&it.tasks), text(&it.pairs));
    let error = judge(ledger.as_bytes(), tasks.as_bytes(), pairs.as_bytes(), NO_AUDIT, &it.rules)
        .expect_err("half a line in the middle");
    assert!(matches!(error, OracleError::Malformed { file: "ledger", line: 4, .. }), "{error}");
}

#[test]
fn a_ledger_with_a_hole_is_refused() {
    let mut it = History::held();
    it.ledger.remove(5);
    let error = it.try_judge().expect_err("a line is missing");
    assert!(matches!(error, OracleError::Gap { line: 6, expected: 6, found: 7 }), "{error}");
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    let refused = |change: &dyn Fn(&mut History)| {
        let mut it = History::held();
        change(&mut it);
        it.try_judge().expect_err("senseless").to_string()
    };
    let odd = |event: serde_json::Value| {
        refused(&|it| {
            it.event(event.clone());
        })
    };
    assert!(odd(json!({"event": "key_eaten"})).contains("`key_eaten` is no known event"));
    assert!(odd(json!({"event": "key_died"})).contains("`project` is missing"));
    assert!(
        refused(&|it| {
            it.died("acme", "k1", "revoked");
        })
        .contains("was not alive")
    );
    assert!(
        refused(&|it| {
            it.died("acme", "k9", "revoked");
        })
        .contains("was not alive")
    );
    assert!(
        refused(&|it| {
            it.died("acme", "k2", "bored");
        })
        .contains("no known cause")
    );
    assert!(
        refused(&|it| {
            it.born("acme", "k1");
        })
        .contains("a second time")
    );
    assert!(
        refused(&|it| {
            it.end(1, "ok", true);
        })
        .contains("was not open")
    );
    assert!(refused(&|it| it.tasks.push(it.tasks[0].clone())).contains("stands there twice"));
    assert!(refused(&|it| it.pairs.push(it.pairs[0].clone())).contains("stands there twice"));
    assert!(refused(&|it| it.pairs[1]["project"] = json!("acme")).contains("of its own"));
    assert!(refused(&|it| it.pairs[1]["schema"] = json!(2)).contains("schema 2"));
}

#[test]
fn request_numbers_may_begin_again_with_the_provider() {
    let mut it = History::before_rotation();
    it.event(json!({"event": "opened", "class": "a", "pid": 8}));
    for req in 1..=2 {
        it.event(json!({"event": "request_started", "req": req, "path": "/v1/chat/completions",
            "project": "acme", "key_id": "k1", "tenant": "acme", "task": "t1", "step": 1,
            "idem": null, "streaming": true, "stage": null}));
    }
    it.end(1, "ok", true).end(2, "ok", true).born("acme", "k2");
    it.died("acme", "k1", "revoked").export();
    it.breaks(&[]);
}

#[test]
fn texts_with_escapes_are_read() {
    let mut it = History::held();
    it.call(crate::history::Call { path: "/v1/chat/\"q\"\n", ..acme(2, "k2") }, "failed");
    assert_eq!(it.breaks(&[]).calls_failed, 1);
}

#[test]
fn files_are_read_and_a_missing_one_is_named() {
    let it = History::held();
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, lines| {
        let path = dir.path().join(name);
        std::fs::write(&path, text(lines)).expect("a small file");
        path
    };
    let ledger = file("ledger.jsonl", &it.ledger);
    let (tasks, pairs) = (file("tasks.jsonl", &it.tasks), file("pairs.jsonl", &it.pairs));
    let files = Files { ledger, tasks, pairs, audit: None };
    let verdict = judge_files(&files, &it.rules).expect("three files");
    assert_eq!(verdict.verdict, Held::Held);
    let gone = dir.path().join("gone");
    for files in
        [Files { ledger: gone.clone(), ..files.clone() }, Files { audit: Some(gone), ..files }]
    {
        let error = judge_files(&files, &Rules::default()).expect_err("no such file");
        assert!(matches!(error, OracleError::Open { .. }), "{error}");
    }
}

#[test]
fn the_verdict_prints_the_agreed_words() {
    let shown = serde_json::to_value(History::held().judge()).expect("plain data");
    assert_eq!(shown["verdict"], "held");
    assert_eq!(shown["live_keys"], json!({"expected": 2, "found": 2}));
    for field in [
        "tasks",
        "tasks_dropped",
        "calls_interrupted",
        "calls_refused",
        "steps_lost",
        "other_tenants_touched",
        "steps_doubled",
        "calls_cut_by_kill",
    ] {
        assert!(shown[field].is_u64(), "{field}");
    }
    let mut broken = History::held();
    broken.tasks[0]["state"] = json!("failed");
    let shown = serde_json::to_value(broken.judge()).expect("plain data");
    assert_eq!(
        (&shown["verdict"], &shown["violations"][0]["rule"]),
        (&json!("broken"), &json!("S6"))
    );
}
