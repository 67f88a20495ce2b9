//! OpenAI's admin API.

use keybaton_simulator::ledger::{BirthCause, Call, DeathCause, Event};
use keybaton_simulator::{Class, KeyDelete, Simulator, StartError};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Vendor, answer, issue_path, text};

#[tokio::test]
async fn an_issued_key_works_is_listed_redacted_and_dies_when_it_is_deleted() {
    let vendor = Vendor::start().await;
    let (status, issued) = vendor.issue("p", "label-1").await;
    assert_eq!(status, 200);
    assert_eq!(issued["object"], "organization.project.service_account.api_key");
    assert_eq!((&issued["name"], &issued["expires_at"]), (&json!("label-1"), &Value::Null));
    assert!(issued["created_at"].is_u64());
    let (id, secret) = (text(&issued["id"]), text(&issued["value"]));
    assert_eq!(vendor.probe(&secret).await, 200);

    let one = format!("/v1/organization/projects/p/api_keys/{id}");
    let (status, got) = vendor.admin(Method::GET, &one, None).await;
    assert_eq!(status, 200);
    assert_eq!(got["object"], "organization.project.api_key");
    assert_eq!(got["owner"]["type"], "service_account");
    assert_eq!(got["owner"]["service_account"]["id"], "svc");
    assert!(got["last_used_at"].is_u64(), "the probe used it: {got}");
    assert!(!got.to_string().contains(&secret), "only the answer to the issue shows the secret");

    let (status, gone) = vendor.revoke("p", &id).await;
    assert_eq!(status, 200);
    let said = json!({"object": "organization.project.api_key.deleted", "id": id, "deleted": true});
    assert_eq!(gone, said);
    assert_eq!(vendor.probe(&secret).await, 401);
    let (status, error) = vendor.revoke("p", &id).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("invalid_request_error")));
    assert!(vendor.labels("p").await.is_empty());
    vendor.stop().await;
}

#[tokio::test]
async fn the_ledger_names_every_key_and_call_and_no_secret() {
    let vendor = Vendor::start().await;
    let (id, secret) = vendor.key("p", "label-1").await;
    vendor.revoke("p", &id).await;
    let events = vendor.events();
    assert!(matches!(&events[0], Event::Opened { class: Class::A, pid } if *pid > 0));
    let Event::KeyCreated { project, account, key_id, name, cause, answered, .. } = &events[1]
    else {
        panic!("{:?} is a birth", events[1]);
    };
    assert_eq!((project.as_str(), account.as_deref()), ("p", Some("svc")));
    assert_eq!((key_id, name.as_str()), (&id, "label-1"));
    assert_eq!((*cause, *answered), (BirthCause::Api, true));
    let call = |call, status| Event::AdminCall {
        call,
        project: "p".into(),
        key_id: Some(id.clone()),
        fault: None,
        status,
    };
    assert_eq!(events[2], call(Call::Issue, 200));
    let died =
        Event::KeyDied { project: "p".into(), key_id: id.clone(), cause: DeathCause::Revoked };
    assert_eq!(events[3], died);
    assert_eq!(events[4], call(Call::Revoke, 200));
    let written = std::fs::read_to_string(vendor.simulator.ledger_path()).unwrap();
    assert!(!written.contains(&secret));
    vendor.stop().await;
}

#[tokio::test]
async fn an_account_comes_with_a_first_key_and_takes_its_keys_along() {
    let vendor = Vendor::start().await;
    let accounts = "/v1/organization/projects/p/service_accounts";
    let (status, made) =
        vendor.admin(Method::POST, accounts, Some(json!({"name": "label-1"}))).await;
    assert_eq!((status, &made["role"]), (200, &json!("member")));
    let (account, first) = (text(&made["id"]), text(&made["api_key"]["value"]));
    assert_eq!(vendor.probe(&first).await, 200);
    let (_, listed) = vendor.admin(Method::GET, "/v1/organization/projects/p/api_keys", None).await;
    assert_eq!(listed["data"][0]["name"], "Secret Key", "as at OpenAI");
    assert_eq!(listed["data"][0]["owner"]["service_account"]["name"], "label-1");

    let keys = format!("{accounts}/{account}/api_keys");
    let (_, second) = vendor.admin(Method::POST, &keys, Some(json!({"name": "label-2"}))).await;
    let one = format!("{accounts}/{account}");
    let (status, gone) = vendor.admin(Method::DELETE, &one, None).await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(true)));
    assert_eq!(gone["object"], "organization.project.service_account.deleted");
    for secret in [first, text(&second["value"])] {
        assert_eq!(vendor.probe(&secret).await, 401);
    }
    assert_eq!(vendor.admin(Method::DELETE, &one, None).await.0, 404);
    let (status, _) = vendor.admin(Method::POST, &keys, Some(json!({}))).await;
    assert_eq!(status, 404, "a deleted account does not come back");
    vendor.stop().await;
}

#[tokio::test]
async fn an_account_can_be_created_without_a_key() {
    let vendor = Vendor::with(|it| it.only_projects(["p"])).await;
    let accounts = "/v1/organization/projects/p/service_accounts";
    let body = json!({"name": "bare", "create_service_account_only": true});
    let (status, made) = vendor.admin(Method::POST, accounts, Some(body)).await;
    assert_eq!((status, &made["role"], &made["api_key"]), (200, &json!("none"), &Value::Null));
    let keys = format!("{accounts}/{}/api_keys", text(&made["id"]));
    assert_eq!(vendor.admin(Method::POST, &keys, Some(json!({}))).await.0, 200);
    let unknown = format!("{accounts}/svc_acct_unknown/api_keys");
    assert_eq!(vendor.admin(Method::POST, &unknown, Some(json!({}))).await.0, 404);
    assert_eq!(vendor.issue("q", "label").await.0, 404, "only the given projects exist");
    vendor.stop().await;
}

#[tokio::test]
async fn pages_show_every_key_once_even_when_the_last_of_a_page_is_deleted() {
    let vendor = Vendor::start().await;
    for n in 0..7 {
        vendor.key("p", &format!("label-{n}")).await;
    }
    vendor.key("q", "elsewhere").await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/organization/projects/p/api_keys?limit=3{after}");
        let (status, page) = vendor.admin(Method::GET, &path, None).await;
        assert_eq!((status, &page["object"]), (200, &json!("list")));
        let data = page["data"].as_array().unwrap();
        assert_eq!(page["first_id"], data[0]["id"]);
        assert_eq!(page["last_id"], data[data.len() - 1]["id"]);
        seen.extend(data.iter().map(|key| text(&key["name"])));
        if page["has_more"] == false {
            break;
        }
        let last = text(&page["last_id"]);
        vendor.revoke("p", &last).await;
        after = format!("&after={last}");
    }
    let all: Vec<_> = (0..7).map(|n| format!("label-{n}")).collect();
    assert_eq!(seen, all);
    vendor.stop().await;
}

#[tokio::test]
async fn a_default_listing_may_hide_keys_that_any_shows() {
    let vendor = Vendor::with(|it| it.hide_from_default_listing()).await;
    vendor.key("p", "label-0").await;
    vendor.key("p", "label-1").await;
    let (_, page) = vendor.admin(Method::GET, "/v1/organization/projects/p/api_keys", None).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(vendor.labels("p").await.len(), 2);
    vendor.stop().await;
}

#[tokio::test]
async fn the_older_vendor_refuses_to_delete_a_key_of_an_account() {
    let vendor = Vendor::with(|it| it.key_delete(KeyDelete::RefusedForAccounts)).await;
    let (id, secret) = vendor.key("p", "label").await;
    let (status, error) = vendor.revoke("p", &id).await;
    assert_eq!(status, 400);
    assert!(text(&error["error"]["message"]).contains("service account"));
    assert_eq!(vendor.probe(&secret).await, 200, "nothing changed");
    let account = "/v1/organization/projects/p/service_accounts/svc";
    assert_eq!(vendor.admin(Method::DELETE, account, None).await.0, 200);
    assert_eq!(vendor.probe(&secret).await, 401);
    let seeded = vendor.simulator.seed("p", "a person's").unwrap();
    assert_eq!(vendor.revoke("p", &seeded.key_id).await.0, 200, "it belongs to no account");
    vendor.stop().await;
}

#[tokio::test]
async fn only_the_admin_key_opens_the_admin_api_and_it_opens_nothing_else() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let list = "/v1/organization/projects/p/api_keys";
    let (status, error) =
        answer(vendor.send(Method::GET, list, "sk-wrong", None).await.unwrap()).await;
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(vendor.send(Method::GET, list, &secret, None).await.unwrap().status(), 403);
    let state = vendor.send(Method::GET, "/_simulator/state", &secret, None).await.unwrap();
    assert_eq!(state.status(), 403);
    assert_eq!(vendor.probe(keybaton_simulator::ADMIN_KEY_DEFAULT).await, 401);
    vendor.stop().await;
}

#[tokio::test]
async fn a_wrong_request_is_refused_and_makes_no_key() {
    let vendor = Vendor::start().await;
    let issue = issue_path("p");
    let long = "x".repeat(513);
    for body in [
        json!({"expires_in_seconds": 0}),
        json!({"expires_in_seconds": 31_536_001}),
        json!({"expires_in_seconds": -1}),
        json!({"name": ""}),
        json!({"name": long}),
        json!({"name": 7}),
        json!([]),
    ] {
        let (status, answer) = vendor.admin(Method::POST, &issue, Some(body.clone())).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    for query in
        ["limit=0", "limit=101", "limit=ten", "owner_project_access=some", "after=key_unknown"]
    {
        let path = format!("/v1/organization/projects/p/api_keys?{query}");
        assert_eq!(vendor.admin(Method::GET, &path, None).await.0, 400, "{query}");
    }
    assert_eq!(vendor.simulator.snapshot().keys_made, 0);
    vendor.stop().await;
}

#[tokio::test]
async fn a_key_with_an_expiry_dies_by_itself() {
    let vendor = Vendor::start().await;
    let body = json!({"name": "label", "expires_in_seconds": 1});
    let (status, issued) = vendor.admin(Method::POST, &issue_path("p"), Some(body)).await;
    assert_eq!(status, 200);
    assert_eq!(issued["expires_at"].as_u64().unwrap(), issued["created_at"].as_u64().unwrap() + 1);
    vendor.until(|state| state.keys_alive == 0).await;
    assert_eq!(vendor.probe(&text(&issued["value"])).await, 401);
    let is_expiry =
        |event: &Event| matches!(event, Event::KeyDied { cause: DeathCause::Expired, .. });
    assert!(vendor.events().iter().any(is_expiry));
    vendor.stop().await;
}

#[tokio::test]
async fn issuing_at_class_b_voids_the_older_keys_of_that_project_only() {
    let vendor = Vendor::with(|it| it.class(Class::B).project_class("gentle", Class::A)).await;
    let (first_id, first) = vendor.key("p", "label-1").await;
    let (_, elsewhere) = vendor.key("q", "label-1").await;
    let (_, second) = vendor.key("p", "label-2").await;
    assert_eq!(vendor.probe(&first).await, 401);
    assert_eq!(vendor.probe(&second).await, 200);
    assert_eq!(vendor.probe(&elsewhere).await, 200);
    let died = Event::KeyDied { project: "p".into(), key_id: first_id, cause: DeathCause::Voided };
    assert!(vendor.events().contains(&died));

    let (_, older) = vendor.key("gentle", "label-1").await;
    vendor.key("gentle", "label-2").await;
    assert_eq!(vendor.probe(&older).await, 200, "its class is A");
    vendor.stop().await;
}

#[tokio::test]
async fn a_simulator_does_not_start_on_a_wrong_configuration() {
    let vendor = Vendor::start().await;
    let elsewhere = tempfile::TempDir::new().unwrap();
    let on = |dir: &tempfile::TempDir| Simulator::builder().dir(dir.path());
    let taken = on(&elsewhere).bind(vendor.simulator.addr()).start().await;
    assert!(matches!(taken, Err(StartError::Bind { .. })), "{taken:?}");
    let in_use = on(&vendor.dir).start().await;
    assert!(matches!(in_use, Err(StartError::Ledger(_))), "{in_use:?}");
    let unsendable = on(&elsewhere).admin_key("with space").start().await;
    assert!(matches!(unsendable, Err(StartError::AdminKey)), "{unsendable:?}");
    vendor.stop().await;
}
