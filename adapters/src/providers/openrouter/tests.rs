//! What is sent to OpenRouter, compared with its specification of 2026-08, and what its answers
//! are taken for.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::providers::vendor::{
    Asked, Reply, Vendor, label, request, secret, settings, tenant, word,
};

const KEY: &str = "sk-or-v1-canary0123456789abcdef";

fn row(hash: &str, name: &str) -> Value {
    json!({
        "hash": hash, "name": name, "label": "sk-or-v1-0e6...1c96", "disabled": false,
        "limit": null, "usage": 0, "created_at": "2026-08-24T10:30:00Z", "updated_at": null,
        "expires_at": null, "workspace_id": "proj_1",
    })
}

fn page(rows: &[Value]) -> Reply {
    Reply::Json(200, json!({"data": rows}))
}

fn provider(vendor: &Vendor) -> OpenRouter {
    OpenRouter::new(settings(vendor.base_url(), None)).expect("good settings")
}

fn id(text: &str) -> ProviderKeyId {
    ProviderKeyId::new(text).expect("an id")
}

#[tokio::test]
async fn a_key_is_asked_for_as_the_specification_says() {
    let name = label(1).to_string();
    let mut data = row("f01d", &name);
    data["expires_at"] = json!("2027-12-31T23:59:59Z");
    let vendor = Vendor::start([Reply::Json(201, json!({"key": KEY, "data": data}))]).await;
    let lifetime = Some(Duration::from_secs(3600));
    let issued = provider(&vendor).issue(&IssueRequest { lifetime, ..request(1) }).await;
    let issued = issued.expect("issued");
    assert_eq!(issued.key_id.as_str(), "proj_1/f01d");
    assert!(issued.secret.is_same(&secret(KEY)));
    assert_eq!(issued.expires_at, Some(Timestamp(1_830_297_599_000)));

    let [asked] = <[Asked; 1]>::try_from(vendor.asked()).ok().expect("one request");
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/keys"));
    let body = asked.body.expect("a body");
    assert_eq!((&body["name"], &body["workspace_id"]), (&json!(name), &json!("proj_1")));
    let end = body["expires_at"].as_str().expect("a text");
    assert!(end.len() == 20 && end.ends_with('Z') && end.parse::<Moment>().is_ok(), "{end}");
    assert_eq!(body.as_object().expect("an object").len(), 3);
}

#[tokio::test]
async fn an_answer_that_is_not_clear_leaves_the_outcome_unknown() {
    let name = label(1).to_string();
    let made = |key: Value, data: Value| Reply::Json(201, json!({"key": key, "data": data}));
    let mut no_hash = row("f01d", &name);
    no_hash.as_object_mut().expect("an object").remove("hash");
    let mut no_date = row("f01d", &name);
    no_date["expires_at"] = json!("soon");
    for (case, reply) in [
        ("no hash", made(json!(KEY), no_hash)),
        ("hash climbs", made(json!(KEY), row("../key", &name))),
        ("no key", Reply::Json(201, json!({"data": row("f01d", &name)}))),
        ("key empty", made(json!(""), row("f01d", &name))),
        ("key with line feed", made(json!(format!("{KEY}\n")), row("f01d", &name))),
        ("another name", made(json!(KEY), row("f01d", "kb1-other"))),
        ("no date", made(json!(KEY), no_date)),
        ("hang up", Reply::HangUp),
        ("conflict", Reply::Json(409, json!({}))),
    ] {
        let vendor = Vendor::start([reply]).await;
        let refusal = provider(&vendor).issue(&request(1)).await.err().expect(case);
        assert_eq!(word(&refusal), "unknown", "{case}");
        assert!(!refusal.to_string().contains("canary"), "{refusal}");
    }
}

#[tokio::test]
async fn a_listing_overlaps_its_pages_and_ends_when_nothing_is_new() {
    let rows: Vec<Value> = (0..150).map(|no| row(&format!("h{no}"), "kb1-a")).collect();
    // Five keys are deleted between the first page and the second.
    let vendor = Vendor::start([page(&rows[..100]), page(&rows[95..]), page(&rows[145..])]).await;
    let listed = provider(&vendor).list(&tenant(), "kb1-").await.expect("listed");
    assert_eq!(listed.len(), 150);
    let asked = vendor.asked();
    let offsets: Vec<&str> = asked.iter().map(|it| it.query["offset"].as_str()).collect();
    assert_eq!(offsets, ["0", "90", "135"]);
    for asked in &asked {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/keys"));
        assert_eq!(asked.query["workspace_id"], "proj_1");
        assert_eq!(asked.query["include_disabled"], "true");
    }
}

#[tokio::test]
async fn a_key_is_revoked_only_when_neither_list_nor_name_finds_it() {
    let missing = || Reply::Json(404, json!({"error": {"code": 404, "message": "no"}}));
    let deleted = || Reply::Json(200, json!({"deleted": true}));
    let found = || Reply::Json(200, json!({"data": row("f01d", "a")}));
    let denied = || Reply::Json(401, json!({"error": {"code": 401, "message": "no"}}));
    for (replies, expected) in [
        (vec![deleted(), page(&[]), missing()], "revoked"),
        (vec![missing(), page(&[]), missing()], "revoked"),
        (vec![deleted(), page(&[]), found()], "unknown"),
        (vec![deleted(), page(&[row("f01d", "a")]), page(&[]), missing()], "unknown"),
        (vec![deleted(), denied()], "unknown"),
        (vec![missing(), denied()], "admin credential"),
        (vec![denied()], "admin credential"),
        (vec![Reply::HangUp], "unknown"),
    ] {
        let vendor = Vendor::start(replies).await;
        let end = provider(&vendor).revoke(&tenant(), &id("proj_1/f01d")).await;
        let end = end.map_or_else(|refusal| word(&refusal), |()| "revoked".to_owned());
        assert_eq!(end, expected);
        let asked = vendor.asked();
        assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("DELETE", "/v1/keys/f01d"));
    }
}

#[tokio::test]
async fn a_key_of_another_workspace_is_not_touched() {
    let vendor = Vendor::start([]).await;
    for (key, expected) in
        [("proj_2/f01d", "wrong tenant"), ("f01d", "bad request"), ("proj_1/..", "bad request")]
    {
        let refusal = provider(&vendor).revoke(&tenant(), &id(key)).await.expect_err(key);
        assert_eq!(word(&refusal), expected, "{key}");
    }
    assert!(vendor.asked().is_empty());
}

#[tokio::test]
async fn a_key_is_probed_by_asking_it_about_itself() {
    let vendor = Vendor::start([
        Reply::Json(200, json!({"data": {"label": "sk-or-v1-au7...890", "usage": 25.5}})),
        Reply::Json(401, json!({"error": {"code": 401, "message": "User not found."}})),
        Reply::Json(200, json!({"ok": true})),
    ])
    .await;
    for expected in [Health::Alive, Health::Dead, Health::Unknown] {
        assert_eq!(provider(&vendor).probe(&tenant(), &secret(KEY)).await, expected);
        let [asked] = <[Asked; 1]>::try_from(vendor.asked()).ok().expect("one request");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/key"));
        assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    }
}
