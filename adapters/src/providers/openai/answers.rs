//! What OpenAI's answers to an issue are taken for, the bad ones above all.

use std::time::Duration;

use keybaton_messages::Timestamp;
use serde_json::{Value, json};

use super::tests::{KEY, made_key, provider};
use super::*;
use crate::providers::vendor::{Reply, Vendor, label, request, secret, settings, tenant, word};

/// How an issue ends when the vendor answers with `reply`.
async fn issue_end(reply: Reply) -> String {
    let vendor = Vendor::start([reply]).await;
    let settings = ProviderSettings {
        call_wait_max: Duration::from_millis(300),
        ..settings(vendor.base_url(), Some("svc_1"))
    };
    let provider = OpenAi::new(settings).expect("good settings");
    let end = provider.issue(&request(1)).await;
    assert_eq!(vendor.asked().len(), 1, "an issue is sent once");
    match end {
        Ok(_) => "issued".to_owned(),
        Err(refusal) => {
            assert!(!refusal.to_string().contains("canary"), "{refusal}");
            word(&refusal)
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_clear_leaves_the_outcome_unknown() {
    let name = label(1).to_string();
    let with = |field: &str, value: Value| {
        let mut key = made_key(&name);
        key[field] = value;
        Reply::Json(200, key)
    };
    let without = |field: &str| {
        let mut key = made_key(&name);
        key.as_object_mut().expect("an object").remove(field);
        Reply::Json(200, key)
    };
    let raw = |text: &str| Reply::Raw(text.to_owned());
    let huge = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{\"x\":\"{}",
        10 * 1024 * 1024,
        "x".repeat(200_000)
    );
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{}\r\n",
        "x".repeat(100_000)
    );
    for (case, reply) in [
        ("hang up", Reply::HangUp),
        ("silence", Reply::Silence),
        ("html", raw("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>hello</html>")),
        ("empty", raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        ("no content", raw("HTTP/1.1 204 No Content\r\n\r\n")),
        ("truncated", raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":\"key_1\"")),
        ("half a head", raw("HTTP/1.1 200 OK\r\ncontent-le")),
        ("not http", raw("220 smtp.example ESMTP\r\n\r\n")),
        ("huge", Reply::Raw(huge)),
        ("endless", Reply::Raw(endless)),
        ("redirect", raw("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n")),
        ("deep", raw(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "[".repeat(10_000)))),
        ("an array", Reply::Json(200, json!([]))),
        ("no id", without("id")),
        ("no value", without("value")),
        ("no name", without("name")),
        ("id null", with("id", Value::Null)),
        ("id empty", with("id", json!(""))),
        ("id climbs", with("id", json!("../../models"))),
        ("id with a slash", with("id", json!("key/1"))),
        ("another name", with("name", json!(label(2).as_str()))),
        ("key empty", with("value", json!(""))),
        ("key short", with("value", json!("sk-canary"))),
        ("key with line feed", with("value", json!("sk-canary\n0123456789abcdef"))),
        ("key with NUL", with("value", json!("sk-canary\u{0}0123456789abcdef"))),
        ("key not ASCII", with("value", json!("sk-canary-ключ-0123456789abcdef"))),
        ("key long", with("value", json!(format!("sk-canary-{}", "k".repeat(100_000))))),
        ("key of 5000", with("value", json!(format!("sk-canary-{}", "k".repeat(5000))))),
        ("key a number", with("value", json!(17))),
        ("expiry negative", with("expires_at", json!(-1))),
        ("expiry absurd", with("expires_at", json!(u64::MAX))),
        ("conflict", Reply::Json(409, json!({}))),
        ("time-out", Reply::Json(408, json!({}))),
        ("server error", Reply::Json(500, json!({"error": {"message": "sk-canary"}}))),
        ("overloaded", Reply::Json(503, json!({}))),
    ] {
        assert_eq!(issue_end(reply).await, "unknown", "{case}");
    }
}

#[tokio::test]
async fn a_clear_no_is_not_taken_for_an_unknown_outcome() {
    let error = |code: &str| json!({"error": {"message": "sk-canary", "code": code}});
    for (status, code, expected) in [
        (400, "invalid_value", "bad request"),
        (400, "api_keys_limit_reached", "quota"),
        (401, "invalid_api_key", "admin credential"),
        (403, "missing_scope", "admin credential"),
        (404, "project_not_found", "admin credential"),
        (422, "invalid_value", "bad request"),
        (429, "rate_limit_exceeded", "busy"),
    ] {
        assert_eq!(issue_end(Reply::Json(status, error(code))).await, expected, "{status} {code}");
    }
    // A definite status counts even when the rest of the answer is lost.
    let broken = "HTTP/1.1 400 X\r\ncontent-length: 500\r\n\r\n{\"err";
    assert_eq!(issue_end(Reply::Raw(broken.to_owned())).await, "bad request");
}

#[tokio::test]
async fn an_expiry_in_the_year_9999_is_an_expiry() {
    let mut key = made_key(label(1).as_str());
    key["expires_at"] = json!(253_402_300_799_u64);
    let vendor = Vendor::start([Reply::Json(200, key)]).await;
    let issued = provider(&vendor).issue(&request(1)).await.expect("issued");
    assert_eq!(issued.expires_at, Some(Timestamp(253_402_300_799_000)));
}

#[tokio::test]
async fn nothing_is_sent_when_nobody_listens() {
    let vendor = Vendor::start([]).await;
    let provider = provider(&vendor);
    let port_url = vendor.base_url();
    drop(vendor);
    // The port is free again once the listener's task is gone.
    let address = port_url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let refusal = provider.issue(&request(1)).await.err().expect("nobody there");
    assert_eq!(word(&refusal), "busy");
    assert!(!refusal.to_string().contains("127.0.0.1"), "{refusal}");
    assert_eq!(provider.probe(&tenant(), &secret(KEY)).await, Health::Unknown);
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let answer = "HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let vendor = Vendor::start([Reply::Raw(answer.to_owned())]).await;
    let refusal = provider(&vendor).issue(&request(1)).await.err().expect("limited");
    let Refusal::Busy { after, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(after, Some(Duration::from_secs(7)));
}
