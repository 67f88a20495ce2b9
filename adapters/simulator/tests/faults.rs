//! Every fault: what the caller sees and what is true.

use std::time::Duration;

use keybaton_simulator::ledger::{BirthCause, Event, Outcome};
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Fault, Op, Script};
use reqwest::Method;
use serde_json::json;

use crate::support::{Vendor, answer, end, issue_path, text, until};

#[tokio::test]
async fn ack_lost_executes_and_says_nothing() {
    let vendor = Vendor::struck("issue:1=ack-lost").await;
    let error = vendor.issue_lost("p", "label-1").await;
    assert!(error.status().is_none(), "not even a status: {error}");
    assert_eq!(vendor.labels("p").await, ["label-1"]);
    assert_eq!(births(&vendor), [("label-1".into(), BirthCause::Api, false)]);
    assert_eq!(last_call(&vendor, "ack-lost"), Some(200));
    assert_eq!(vendor.issue("p", "label-2").await.0, 200, "once");
    vendor.stop().await;
}

#[tokio::test]
async fn ack_lost_on_a_revoke_kills_the_key() {
    let vendor = Vendor::struck("revoke:1=ack-lost").await;
    let (id, secret) = vendor.key("p", "label").await;
    let path = format!("/v1/organization/projects/p/api_keys/{id}");
    let sent = vendor.send(Method::DELETE, &path, ADMIN_KEY_DEFAULT, None).await;
    sent.expect_err("no answer");
    assert_eq!(vendor.probe(&secret).await, 401);
    vendor.stop().await;
}

#[tokio::test]
async fn dropped_executes_nothing_and_says_nothing() {
    let vendor = Vendor::struck("issue:1=dropped").await;
    vendor.issue_lost("p", "label").await;
    assert!(births(&vendor).is_empty());
    assert_eq!(last_call(&vendor, "dropped"), Some(0));
    vendor.stop().await;
}

#[tokio::test]
async fn late_says_nothing_and_executes_afterwards() {
    let vendor = Vendor::struck("issue:1=late:100").await;
    vendor.issue_lost("p", "label").await;
    vendor.until(|state| state.keys_alive == 1).await;
    assert_eq!(vendor.labels("p").await, ["label"]);
    assert_eq!(births(&vendor), [("label".into(), BirthCause::Api, false)]);
    let birth = moment(&vendor, |it| matches!(it, Event::KeyCreated { .. }));
    assert!(birth >= call_moment(&vendor, "late") + 100_000);
    vendor.stop().await;
}

#[tokio::test]
async fn late_on_a_revoke_kills_afterwards() {
    let vendor = Vendor::struck("revoke:1=late:100").await;
    let (id, secret) = vendor.key("p", "label").await;
    let path = format!("/v1/organization/projects/p/api_keys/{id}");
    let sent = vendor.send(Method::DELETE, &path, ADMIN_KEY_DEFAULT, None).await;
    sent.expect_err("no answer");
    vendor.until(|state| state.keys_alive == 0).await;
    assert_eq!(vendor.probe(&secret).await, 401);
    let death = moment(&vendor, |it| matches!(it, Event::KeyDied { .. }));
    assert!(death >= call_moment(&vendor, "late") + 100_000);
    vendor.stop().await;
}

#[tokio::test]
async fn late_has_no_effect_before_its_time() {
    let vendor = Vendor::struck("issue:1=late:3600000").await;
    vendor.issue_lost("p", "label").await;
    assert!(vendor.labels("p").await.is_empty());
    assert_eq!(vendor.simulator.snapshot().deadlines, 1);
    vendor.stop().await;
}

#[tokio::test]
async fn stall_answers_late_and_does_nothing_for_a_caller_that_left() {
    let vendor = Vendor::struck("issue:1=stall:200").await;
    assert_eq!(vendor.issue("p", "label").await.0, 200);
    vendor.simulator.arm("issue:1=stall:3600000".parse().unwrap()).unwrap();
    let waiting = vendor.issue("p", "too long");
    tokio::select! {
        answer = waiting => panic!("it stalls: {answer:?}"),
        () = vendor.until(|state| state.scripts.is_empty()) => {}
    }
    assert_eq!(vendor.labels("p").await, ["label"]);
    vendor.stop().await;
}

#[tokio::test]
async fn refusals_execute_nothing_and_look_like_the_vendors() {
    let vendor = Vendor::start().await;
    for (fault, status, code) in [
        ("rate-limited:1500", 429, "rate_limit_exceeded"),
        ("server-error", 500, "server_error"),
        ("quota", 400, "api_keys_limit_reached"),
        ("forbidden", 403, "missing_scope"),
    ] {
        vendor.simulator.arm(format!("issue:1={fault}").parse().unwrap()).unwrap();
        let body = Some(json!({"name": "label"}));
        let sent =
            vendor.send(Method::POST, &issue_path("p"), ADMIN_KEY_DEFAULT, body).await.unwrap();
        let headers = sent.headers().clone();
        let (answered, error) = answer(sent).await;
        assert_eq!((answered, &error["error"]["code"]), (status, &json!(code)));
        if status == 429 {
            assert_eq!(headers["retry-after"], "2", "rounded up");
            assert_eq!(headers["retry-after-ms"], "1500");
        }
    }
    assert!(births(&vendor).is_empty());
    vendor.stop().await;
}

#[tokio::test]
async fn truncated_executes_and_breaks_the_answer_off() {
    let vendor = Vendor::struck("issue:1=truncated").await;
    let body = Some(json!({"name": "label"}));
    let sent = vendor.send(Method::POST, &issue_path("p"), ADMIN_KEY_DEFAULT, body).await.unwrap();
    assert_eq!(sent.status(), 200, "the status arrives");
    let announced = sent.content_length().unwrap();
    assert!(announced > 0);
    sent.bytes().await.expect_err("the body does not");
    assert_eq!(births(&vendor), [("label".into(), BirthCause::Api, false)]);
    vendor.stop().await;
}

#[tokio::test]
async fn a_useless_body_comes_with_200_after_the_key_was_made() {
    let vendor = Vendor::start().await;
    for (fault, content_type, bytes) in [
        ("html-body", "text/html; charset=utf-8", 1..1000),
        ("empty-body", "application/json", 0..1),
        ("huge-body", "application/json", 10 * 1024 * 1024..11 * 1024 * 1024),
    ] {
        vendor.simulator.arm(format!("issue:1={fault}").parse().unwrap()).unwrap();
        let body = Some(json!({"name": fault}));
        let sent =
            vendor.send(Method::POST, &issue_path("p"), ADMIN_KEY_DEFAULT, body).await.unwrap();
        assert_eq!(sent.status(), 200);
        assert_eq!(sent.headers()["content-type"], content_type);
        let length = sent.bytes().await.unwrap().len();
        assert!(bytes.contains(&length), "{fault}: {length}");
    }
    let unanswered = |name: &str| (name.to_owned(), BirthCause::Api, false);
    assert_eq!(births(&vendor), ["html-body", "empty-body", "huge-body"].map(unanswered));
    vendor.stop().await;
}

#[tokio::test]
async fn bad_key_answers_a_secret_that_opens_nothing_while_the_key_exists() {
    let vendor = Vendor::struck("issue:1=bad-key").await;
    let (id, secret) = vendor.key("p", "label").await;
    assert_eq!(vendor.probe(&secret).await, 401);
    assert_eq!(vendor.labels("p").await, ["label"]);
    assert_eq!(vendor.revoke("p", &id).await.0, 200, "the id is the real one");
    vendor.stop().await;
}

#[tokio::test]
async fn foreign_key_answers_another_projects_key_and_makes_none() {
    let vendor = Vendor::struck("issue@p:2=foreign-key").await;
    let (own_id, _) = vendor.key("p", "own").await;
    let (foreign_id, foreign) = vendor.key("q", "foreign").await;
    let (id, secret) = vendor.key("p", "asked").await;
    assert_eq!((&id, &secret), (&foreign_id, &foreign));
    assert_ne!(id, own_id);
    assert_eq!(births(&vendor).len(), 2);
    vendor.stop().await;
}

#[tokio::test]
async fn foreign_key_makes_one_elsewhere_when_there_is_no_other() {
    let vendor = Vendor::struck("issue:1=foreign-key").await;
    let (_, secret) = vendor.key("p", "asked").await;
    assert_eq!(vendor.probe(&secret).await, 200);
    assert!(vendor.labels("p").await.is_empty());
    assert_eq!(births(&vendor), [("foreign".into(), BirthCause::Fault, true)]);
    vendor.stop().await;
}

#[tokio::test]
async fn void_on_issue_kills_the_older_keys_once() {
    let vendor = Vendor::struck("issue:2=void-on-issue").await;
    let (_, first) = vendor.key("p", "label-1").await;
    let (_, second) = vendor.key("p", "label-2").await;
    let (_, third) = vendor.key("p", "label-3").await;
    assert_eq!(vendor.probe(&first).await, 401);
    assert_eq!(vendor.probe(&second).await, 200);
    assert_eq!(vendor.probe(&third).await, 200);
    vendor.stop().await;
}

#[tokio::test]
async fn eventual_list_hides_a_fresh_key_that_works() {
    let vendor = Vendor::struck("issue:1=eventual-list:3600000").await;
    let (id, secret) = vendor.key("p", "hidden").await;
    assert!(vendor.labels("p").await.is_empty());
    assert_eq!(vendor.probe(&secret).await, 200);
    let one = format!("/v1/organization/projects/p/api_keys/{id}");
    assert_eq!(vendor.admin(Method::GET, &one, None).await.0, 200, "only listings lag");
    vendor.simulator.arm("issue:1=eventual-list:50".parse().unwrap()).unwrap();
    vendor.key("p", "shown").await;
    let listing = async { while vendor.labels("p").await != ["shown"] {} };
    tokio::time::timeout(Duration::from_secs(20), listing).await.expect("it is listed in the end");
    vendor.stop().await;
}

#[tokio::test]
async fn slow_revoke_says_done_and_the_key_lives_on() {
    let vendor = Vendor::struck("revoke:1=slow-revoke:3600000").await;
    let (id, secret) = vendor.key("p", "label").await;
    assert_eq!(vendor.revoke("p", &id).await.0, 200);
    assert_eq!(vendor.probe(&secret).await, 200, "still alive");
    assert!(vendor.labels("p").await.is_empty(), "but not listed");
    assert_eq!(vendor.revoke("p", &id).await.0, 404);
    vendor.stop().await;
}

#[tokio::test]
async fn slow_revoke_kills_in_the_end() {
    let vendor = Vendor::struck("revoke:1=slow-revoke:100").await;
    let (id, secret) = vendor.key("p", "label").await;
    assert_eq!(vendor.revoke("p", &id).await.0, 200);
    vendor.until(|state| state.keys_alive == 0).await;
    assert_eq!(vendor.probe(&secret).await, 401);
    let death = moment(&vendor, |it| matches!(it, Event::KeyDied { .. }));
    assert!(death > call_moment(&vendor, "slow-revoke"), "the promise came first");
    vendor.stop().await;
}

#[tokio::test]
async fn a_mangled_secret_comes_with_the_id_of_a_real_key() {
    let vendor = Vendor::start().await;
    type Mangled = fn(&str) -> bool;
    let cases: [(&str, Mangled); 5] = [
        ("key-newline", |secret| secret.contains('\n')),
        ("key-nul", |secret| secret.contains('\0')),
        ("key-non-ascii", |secret| !secret.is_ascii()),
        ("key-empty", str::is_empty),
        ("key-long", |secret| secret.len() > 100_000),
    ];
    for (fault, is_mangled) in cases {
        vendor.simulator.arm(format!("issue:1={fault}").parse().unwrap()).unwrap();
        let (id, secret) = vendor.key("p", fault).await;
        assert!(is_mangled(&secret), "{fault}");
        assert_eq!(vendor.revoke("p", &id).await.0, 200, "{fault}");
    }
    vendor.stop().await;
}

#[tokio::test]
async fn the_id_may_be_missing_or_another_keys() {
    let vendor = Vendor::struck("issue:2=id-missing").await;
    let (first, _) = vendor.key("p", "label-1").await;
    let (status, nameless) = vendor.issue("p", "label-2").await;
    assert_eq!((status, nameless.get("id")), (200, None));
    assert_eq!(vendor.probe(&text(&nameless["value"])).await, 200);
    vendor.simulator.arm("issue:1=duplicate-id".parse().unwrap()).unwrap();
    let (_, twin) = vendor.issue("p", "label-3").await;
    assert_ne!(twin["id"], json!(null));
    let known = vendor.simulator.snapshot().keys;
    assert!(known[..2].iter().any(|key| twin["id"] == json!(key.key_id)));
    assert!(known.iter().any(|key| key.key_id == first));
    assert_eq!(known.len(), 3);
    vendor.stop().await;
}

#[tokio::test]
async fn a_probe_is_struck_after_its_key_was_checked() {
    let vendor = Vendor::struck("probe:1=server-error").await;
    assert_eq!(vendor.probe("sk-unknown").await, 401, "no key, no fault");
    let (_, secret) = vendor.key("p", "label").await;
    assert_eq!(vendor.probe(&secret).await, 500);
    assert_eq!(vendor.probe(&secret).await, 200);
    let ends: Vec<_> = vendor.events().into_iter().filter_map(end).collect();
    assert_eq!(ends[1], (Outcome::Failed, 500, false));
    vendor.stop().await;
}

#[tokio::test]
async fn a_tool_may_be_executed_although_its_answer_is_lost() {
    let vendor = Vendor::struck("tool:1=ack-lost").await;
    let (_, secret) = vendor.key("p", "label").await;
    let sent = vendor.send(Method::POST, "/v1/tools/mail", &secret, Some(json!({}))).await;
    sent.expect_err("no answer");
    assert_eq!(vendor.only_end(), (Outcome::Failed, 200, true));
    vendor.stop().await;
}

#[tokio::test]
async fn a_stream_may_break_off_by_itself() {
    let vendor = Vendor::struck("chat:1=truncated").await;
    let (_, secret) = vendor.key("p", "label").await;
    let pace = json!({"latency_ms": 0, "chunks": 6, "chunk_interval_ms": 1});
    let mut stream = vendor.chat(&secret, true, pace).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let rest = async {
        while stream.chunk().await?.is_some() {}
        Ok::<(), reqwest::Error>(())
    };
    rest.await.expect_err("it breaks off");
    assert_eq!(vendor.only_end(), (Outcome::Failed, 200, true));
    assert_eq!(vendor.probe(&secret).await, 200, "the key lives on");
    vendor.stop().await;
}

#[tokio::test]
async fn a_listing_may_fail_for_as_long_as_it_likes() {
    let vendor = Vendor::struck("list:1x20=server-error").await;
    let list = "/v1/organization/projects/p/api_keys";
    for _ in 0..20 {
        assert_eq!(vendor.admin(Method::GET, list, None).await.0, 500);
    }
    assert_eq!(vendor.admin(Method::GET, list, None).await.0, 200);
    vendor.stop().await;
}

#[tokio::test]
async fn a_script_is_built_in_code_too() {
    let script = Script::next(Op::Issue, Fault::ServerError).unwrap().of("p");
    let script = script.from_nth(2, 2).unwrap();
    let vendor = Vendor::with(|it| it.fault(script)).await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(vendor.issue("p", &format!("label-{n}")).await.0);
    }
    assert_eq!(statuses, [200, 500, 500, 200]);
    assert!(Script::next(Op::List, Fault::BadKey).is_err());
    until("the ledger names both", || {
        let struck = |event: &Event| matches!(event, Event::AdminCall { fault: Some(_), .. });
        vendor.events().iter().filter(|event| struck(event)).count() == 2
    })
    .await;
    vendor.stop().await;
}

/// Labels, causes and whether each birth was answered.
fn births(vendor: &Vendor) -> Vec<(String, BirthCause, bool)> {
    let births = vendor.events().into_iter().filter_map(|event| match event {
        Event::KeyCreated { name, cause, answered, .. } => Some((name, cause, answered)),
        _ => None,
    });
    births.collect()
}

/// The status of the last admin call that `fault` struck.
fn last_call(vendor: &Vendor, fault: &str) -> Option<u16> {
    let mut calls = vendor.events().into_iter().filter_map(|event| match event {
        Event::AdminCall { fault: Some(struck), status, .. } if struck == fault => Some(status),
        _ => None,
    });
    calls.next_back()
}

/// When the first such event was, in microseconds.
fn moment(vendor: &Vendor, is_it: impl Fn(&Event) -> bool) -> u64 {
    let lines = vendor.lines();
    lines.iter().find(|line| is_it(&line.event)).expect("it happened").at_us
}

/// When the admin call that `fault` struck was decided.
fn call_moment(vendor: &Vendor, fault: &str) -> u64 {
    let is_it = |event: &Event| match event {
        Event::AdminCall { fault: Some(struck), .. } => struck == fault,
        _ => false,
    };
    moment(vendor, is_it)
}
