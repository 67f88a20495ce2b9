//! What is sent to OpenAI, compared with its specification of 2026-08-21.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::providers::vendor::{
    Asked, Reply, Vendor, label, request, secret, settings, tenant, word,
};

pub(super) const KEY: &str = "sk-svcacct-canary0123456789abcdef";

/// Of the specification: `ServiceAccountApiKeyBody`.
pub(super) fn made_key(name: &str) -> Value {
    json!({
        "object": "organization.project.service_account.api_key",
        "id": "key_1", "name": name, "value": KEY, "created_at": 1_711_471_533, "expires_at": null,
    })
}

/// Of the specification: `ProjectApiKey`.
fn row(id: &str, name: &str, account_name: &str) -> Value {
    json!({
        "object": "organization.project.api_key", "id": id, "name": name,
        "redacted_value": "sk-abc...def", "created_at": 1_711_471_533, "last_used_at": null,
        "owner_project_access": "active",
        "owner": {"type": "service_account", "service_account": {
            "id": "svc_1", "name": account_name, "created_at": 1_711_471_533, "role": "member"}},
    })
}

/// Of the specification: `ProjectApiKeyListResponse`.
fn page(rows: &[Value], has_more: bool) -> Value {
    json!({
        "object": "list", "data": rows, "has_more": has_more,
        "first_id": rows.first().map(|row| &row["id"]),
        "last_id": rows.last().map(|row| &row["id"]),
    })
}

pub(super) fn provider(vendor: &Vendor) -> OpenAi {
    OpenAi::new(settings(vendor.base_url(), Some("svc_1"))).expect("good settings")
}

fn id(text: &str) -> ProviderKeyId {
    ProviderKeyId::new(text).expect("an id")
}

/// One request, checked for what all calls with the admin key have in common.
fn only(asked: Vec<Asked>) -> Asked {
    let [asked] = <[Asked; 1]>::try_from(asked).ok().expect("exactly one request");
    assert_eq!(asked.headers["authorization"], "Bearer sk-admin-0123456789abcdef");
    assert!(!asked.headers.contains_key("cookie"));
    asked
}

#[tokio::test]
async fn a_key_is_asked_for_as_the_specification_says() {
    let name = label(1).to_string();
    let vendor = Vendor::start([Reply::Json(200, made_key(&name))]).await;
    let settings = ProviderSettings {
        scopes: Some(vec!["api.model.request".to_owned()]),
        ..settings(vendor.base_url(), Some("svc_1"))
    };
    let provider = OpenAi::new(settings).expect("good settings");
    let lifetime = Some(Duration::from_secs(2_592_000));
    let issued = provider.issue(&IssueRequest { lifetime, ..request(1) }).await.ok();
    let issued = issued.expect("issued");
    assert_eq!(issued.key_id.as_str(), "proj_1/svc_1/key_1");
    assert!(issued.secret.is_same(&secret(KEY)));
    assert_eq!(issued.expires_at, None);

    let asked = only(vendor.asked());
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.path, "/v1/organization/projects/proj_1/service_accounts/svc_1/api_keys");
    assert!(asked.query.is_empty());
    assert_eq!(asked.headers["content-type"], "application/json");
    let body = json!({
        "name": name, "scopes": ["api.model.request"], "expires_in_seconds": 2_592_000,
    });
    assert_eq!(asked.body, Some(body));
}

#[tokio::test]
async fn what_is_not_set_is_not_sent_and_a_lifetime_stays_within_a_year() {
    let name = label(1).to_string();
    let key = made_key(&name);
    let replies = [Reply::Json(200, key.clone()), Reply::Json(200, key)];
    let vendor = Vendor::start(replies).await;
    assert!(provider(&vendor).issue(&request(1)).await.is_ok());
    assert_eq!(only(vendor.asked()).body, Some(json!({"name": name})));

    let lifetime = Some(Duration::from_secs(u64::MAX));
    assert!(provider(&vendor).issue(&IssueRequest { lifetime, ..request(1) }).await.is_ok());
    let body = only(vendor.asked()).body.expect("a body");
    assert_eq!(body["expires_in_seconds"], 31_536_000);
}

#[tokio::test]
async fn an_account_per_key_is_made_named_listed_and_deleted_as_one() {
    let name = label(1).to_string();
    let account = json!({
        "object": "organization.project.service_account", "id": "svc_9", "name": name,
        "role": "member", "created_at": 1_711_471_533, "api_key": made_key("Secret Key"),
    });
    let mut own = row("key_1", "Secret Key", &name);
    own["owner"]["service_account"]["id"] = json!("svc_9");
    let vendor = Vendor::start([
        Reply::Json(200, account),
        Reply::Json(200, page(&[own], false)),
        Reply::Json(200, json!({"object": "x", "id": "svc_9", "deleted": true})),
        Reply::Json(200, page(&[], false)),
    ])
    .await;
    let settings = settings(vendor.base_url(), None);
    let provider = OpenAi::new(settings).expect("good settings");

    let issued = provider.issue(&request(1)).await.expect("issued");
    let asked = only(vendor.asked());
    assert_eq!(asked.path, "/v1/organization/projects/proj_1/service_accounts");
    assert_eq!(asked.body, Some(json!({"name": name})));

    let listed = provider.list(&tenant(), "kb1-").await.expect("listed");
    assert_eq!(listed, [ListedKey { key_id: issued.key_id.clone(), name }]);
    vendor.asked();

    provider.revoke(&tenant(), &issued.key_id).await.expect("revoked");
    let asked = vendor.asked();
    assert_eq!(asked[0].method, "DELETE");
    assert_eq!(asked[0].path, "/v1/organization/projects/proj_1/service_accounts/svc_9");
    assert_eq!(asked[1].path, "/v1/organization/projects/proj_1/api_keys");
}

#[tokio::test]
async fn a_shared_account_is_never_deleted() {
    let error = json!({"error": {"message": "The API key belongs to a service account.",
        "type": "invalid_request_error", "param": null, "code": null}});
    let vendor = Vendor::start([Reply::Json(400, error)]).await;
    let refusal = provider(&vendor).revoke(&tenant(), &id("proj_1/svc_1/key_1")).await;
    assert_eq!(word(&refusal.expect_err("cannot")), "bad request");
    let asked = only(vendor.asked());
    assert_eq!(asked.path, "/v1/organization/projects/proj_1/api_keys/key_1");
}

#[tokio::test]
async fn a_listing_follows_all_pages_of_keys_with_any_access() {
    let label = label(1).to_string();
    let vendor = Vendor::start([
        Reply::Json(200, page(&[row("key_1", &label, "rot"), row("key_2", "mine", "rot")], true)),
        Reply::Json(200, page(&[row("key_3", &label, "rot")], false)),
    ])
    .await;
    let listed = provider(&vendor).list(&tenant(), "kb1-").await.expect("listed");
    let ids: Vec<&str> = listed.iter().map(|key| key.key_id.as_str()).collect();
    assert_eq!(ids, ["proj_1/svc_1/key_1", "proj_1/svc_1/key_3"]);

    let asked = vendor.asked();
    for asked in &asked {
        assert_eq!((asked.method.as_str(), asked.body.is_none()), ("GET", true));
        assert_eq!(asked.path, "/v1/organization/projects/proj_1/api_keys");
        assert_eq!(asked.query["owner_project_access"], "any");
        assert_eq!(asked.query["limit"], "100");
    }
    assert_eq!(asked[0].query.get("after"), None);
    assert_eq!(asked[1].query["after"], "key_2");
}

#[tokio::test]
async fn a_listing_that_does_not_go_forward_is_not_a_listing() {
    let stuck = || Reply::Json(200, page(&[row("key_1", "a", "rot")], true));
    let vendor = Vendor::start([stuck(), stuck()]).await;
    let refusal = provider(&vendor).list(&tenant(), "").await.expect_err("stuck");
    assert_eq!(word(&refusal), "unknown");

    let vendor = Vendor::start([Reply::Json(200, page(&[], true))]).await;
    let refusal = provider(&vendor).list(&tenant(), "").await.expect_err("stuck");
    assert_eq!(word(&refusal), "unknown");

    let climbing = page(&[row("../../key_1", "a", "rot")], false);
    let vendor = Vendor::start([Reply::Json(200, climbing)]).await;
    let refusal = provider(&vendor).list(&tenant(), "").await.expect_err("foreign id");
    assert_eq!(word(&refusal), "unknown");
}

#[tokio::test]
async fn a_key_is_revoked_only_when_a_listing_without_it_succeeded() {
    let deleted = || json!({"object": "x", "id": "key_1", "deleted": true});
    let missing = || json!({"error": {"message": "No such API key", "code": "not_found"}});
    let without = || page(&[row("key_2", "a", "rot")], false);
    let with = || page(&[row("key_1", "a", "rot")], false);
    for (delete, list, expected) in [
        (Reply::Json(200, deleted()), Reply::Json(200, without()), "revoked"),
        (Reply::Json(404, missing()), Reply::Json(200, without()), "revoked"),
        (Reply::Json(200, deleted()), Reply::Json(200, with()), "unknown"),
        (Reply::Json(404, missing()), Reply::Json(200, with()), "unknown"),
        (Reply::Json(200, deleted()), Reply::Json(403, missing()), "unknown"),
        (Reply::Json(200, deleted()), Reply::Json(429, missing()), "unknown"),
        (Reply::Json(404, missing()), Reply::Json(404, missing()), "admin credential"),
        (Reply::Json(404, missing()), Reply::Json(429, missing()), "busy"),
        (Reply::Json(404, missing()), Reply::HangUp, "unknown"),
    ] {
        let vendor = Vendor::start([delete, list]).await;
        let end = provider(&vendor).revoke(&tenant(), &id("proj_1/svc_1/key_1")).await;
        let end = end.map_or_else(|refusal| word(&refusal), |()| "revoked".to_owned());
        assert_eq!(end, expected);
        let asked = vendor.asked();
        assert_eq!(asked[0].method, "DELETE");
        assert_eq!(asked[0].path, "/v1/organization/projects/proj_1/api_keys/key_1");
    }
}

#[tokio::test]
async fn a_key_of_another_project_is_not_touched() {
    let vendor = Vendor::start([]).await;
    for (key, expected) in [
        ("proj_2/svc_1/key_1", "wrong tenant"),
        ("proj_1/../key_1", "bad request"),
        ("proj_1/svc_1/..", "bad request"),
        ("proj_1/svc_1/key_1?x=1", "bad request"),
        ("proj_1/svc_1/key_1/more", "bad request"),
        ("key_1", "bad request"),
    ] {
        let refusal = provider(&vendor).revoke(&tenant(), &id(key)).await.expect_err(key);
        assert_eq!(word(&refusal), expected, "{key}");
    }
    assert!(vendor.asked().is_empty());
}

#[tokio::test]
async fn preflight_asks_for_one_key_of_the_project_and_changes_nothing() {
    let vendor = Vendor::start([
        Reply::Json(200, page(&[], false)),
        Reply::Json(403, json!({"error": {"code": "missing_scope"}})),
    ])
    .await;
    provider(&vendor).preflight(&tenant()).await.expect("fine");
    let asked = only(vendor.asked());
    assert_eq!((asked.method.as_str(), asked.query["limit"].as_str()), ("GET", "1"));
    let refusal = provider(&vendor).preflight(&tenant()).await.expect_err("refused");
    assert_eq!(word(&refusal), "admin credential");
}

#[tokio::test]
async fn a_probe_shows_the_tenants_key_and_never_the_admins() {
    let models = json!({"object": "list", "data": [{"id": "gpt-5", "object": "model"}]});
    let vendor = Vendor::start([Reply::Json(200, models)]).await;
    let health = provider(&vendor).probe(&tenant(), &secret(KEY)).await;
    assert_eq!(health, Health::Alive);
    let [asked] = <[Asked; 1]>::try_from(vendor.asked()).ok().expect("one request");
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    assert!(asked.body.is_none() && asked.query.is_empty());

    let line_feed = secret("sk-svcacct-\n0123456789");
    assert_eq!(provider(&vendor).probe(&tenant(), &line_feed).await, Health::Dead);
    assert!(vendor.asked().is_empty());
}

#[tokio::test]
async fn an_unlisted_tenant_reaches_nobody() {
    let vendor = Vendor::start([]).await;
    let stranger = TenantId::new("t2").expect("a tenant");
    let refusal = provider(&vendor).list(&stranger, "").await.expect_err("not listed");
    assert_eq!(word(&refusal), "bad request");
    assert!(vendor.asked().is_empty());
}
