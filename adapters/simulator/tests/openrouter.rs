//! OpenRouter's shape over the same keys.

use reqwest::Method;
use serde_json::json;

use crate::support::{Vendor, answer, text};

#[tokio::test]
async fn a_key_is_issued_probed_listed_and_deleted() {
    let vendor = Vendor::start().await;
    let body = json!({
        "name": "label-1", "workspace_id": "w", "expires_at": "2199-01-01T00:00:00Z",
    });
    let (status, made) = vendor.admin(Method::POST, "/api/v1/keys", Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let (hash, secret) = (text(&made["data"]["hash"]), text(&made["key"]));
    assert_eq!(made["data"]["name"], "label-1");

    let probe = vendor.send(Method::GET, "/api/v1/key", &secret, None).await.unwrap();
    let (status, own) = answer(probe).await;
    assert_eq!((status, &own["data"]["is_management_key"]), (200, &json!(false)));
    assert!(own["data"]["expires_at"].is_string());

    let listed = vendor.admin(Method::GET, "/api/v1/keys?workspace_id=w", None).await.1;
    assert_eq!(listed["data"][0]["hash"], json!(hash));
    assert!(!listed.to_string().contains(&secret));
    let behind = vendor.admin(Method::GET, "/api/v1/keys?workspace_id=w&offset=1", None).await.1;
    assert_eq!(behind["data"], json!([]));
    let default = vendor.admin(Method::GET, "/api/v1/keys", None).await.1;
    assert_eq!(default["data"], json!([]), "another workspace");

    let one = format!("/api/v1/keys/{hash}");
    assert_eq!(vendor.admin(Method::GET, &one, None).await.0, 200);
    assert_eq!(vendor.admin(Method::DELETE, &one, None).await, (200, json!({"deleted": true})));
    let (status, error) = vendor.admin(Method::DELETE, &one, None).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!(404)));
    let probe = vendor.send(Method::GET, "/api/v1/key", &secret, None).await.unwrap();
    let (status, error) = answer(probe).await;
    assert_eq!((status, &error["error"]["code"]), (401, &json!(401)));
    vendor.stop().await;
}

#[tokio::test]
async fn its_calls_are_struck_like_any_other() {
    let vendor = Vendor::struck("issue@w:1=id-missing").await;
    let body = json!({"name": "label-1", "workspace_id": "w"});
    let (status, made) = vendor.admin(Method::POST, "/api/v1/keys", Some(body)).await;
    assert_eq!((status, made["data"].get("hash")), (201, None));
    let past = json!({"name": "label-2", "expires_at": "2001-01-01T00:00:00Z"});
    let (status, _) = vendor.admin(Method::POST, "/api/v1/keys", Some(past)).await;
    assert_eq!(status, 400, "it would be dead at birth");
    vendor.stop().await;
}
