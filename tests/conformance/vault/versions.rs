//! Versions, their bounds, and what people write beside them.

use std::collections::BTreeSet;

use keybaton_messages::{Epoch, Rev, SecretVersion, Version};
use keybaton_ports::{Denial, Generation, SecretStore, Witness};
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use serde_json::json;

use super::{ask, given, is_busy, is_denied, must, new_prefix, path, shared, store, why};

const ACME: &str = "acme";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_held_outlives_any_number_of_others() {
    const OTHERS: u32 = 70;
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let secrets = store(server, &prefix, given(server.root_token()));
    let held = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&held, &secret("sk-held")).await.expect("stored");
    for n in 2..OTHERS + 2 {
        let meta = meta(&pair(ACME), Some(label(n)), &format!("key_{n}"));
        let version = secrets.put(&meta, &secret("sk-other")).await.expect("stored");
        secrets.destroy(&pair(ACME), version).await.expect("destroyed");
    }
    let read = secrets.read(&pair(ACME), first).await.expect("still there");
    assert!(read.secret.is_same(&secret("sk-held")));
    let said = must(server, "GET", &path("metadata", &prefix, ACME), None);
    assert_eq!(said["data"]["max_versions"], 128, "more room was made, since 64 were not enough");
    assert_eq!(said["data"]["current_version"], u64::from(OTHERS) + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_that_do_not_know_each_other_lose_nothing() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let writers: Vec<_> = (1..=6)
        .map(|n| {
            let secrets = store(server, &prefix, given(server.root_token()));
            tokio::spawn(async move {
                let meta = meta(&pair(ACME), Some(label(n)), &format!("key_{n}"));
                secrets.put(&meta, &secret(&format!("sk-{n}"))).await.expect("stored")
            })
        })
        .collect();
    let mut versions = BTreeSet::new();
    for writer in writers {
        versions.insert(writer.await.expect("no panic").0);
    }
    assert_eq!(versions, (1..=6).collect(), "every write got a number of its own");
    let secrets = store(server, &prefix, given(server.root_token()));
    assert_eq!(secrets.list(&pair(ACME)).await.expect("read").len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_writes_beside_ours_is_neither_ours_nor_in_the_way() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let secrets = store(server, &prefix, given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    let foreign = json!({ "data": { "value": "sk-foreign", "n": 1 }, "options": { "cas": 1 } });
    must(server, "POST", &path("data", &prefix, ACME), Some(foreign));
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    let third = secrets.put(&two, &secret("sk-two")).await.expect("stored");
    assert_eq!((first.0, third.0), (1, 3));
    assert_eq!(secrets.list(&pair(ACME)).await, Ok(vec![(first, one), (third, two)]));
    assert!(is_denied(&secrets.read(&pair(ACME), SecretVersion(2)).await, Denial::Corrupt));
    assert_eq!(
        secrets.find(&pair(ACME), &label(1)).await.map(|it| it.map(|it| it.0)),
        Ok(Some(first))
    );
    assert!(secrets.find(&pair(ACME), &label(9)).await.is_ok_and(|found| found.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_another_pair_is_corrupt_where_it_does_not_belong() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let secrets = store(server, &prefix, given(server.root_token()));
    let theirs = meta(&pair("umbrella"), Some(label(1)), "key_1");
    secrets.put(&theirs, &secret("sk-theirs")).await.expect("stored");
    let said = must(server, "GET", &path("data", &prefix, "umbrella"), None);
    let copied = json!({ "data": said["data"]["data"], "options": { "cas": 0 } });
    must(server, "POST", &path("data", &prefix, ACME), Some(copied));
    let read = secrets.read(&pair(ACME), SecretVersion(1)).await;
    assert!(is_denied(&read, Denial::Corrupt), "{}", why(read));
    let found = secrets.find(&pair(ACME), &label(1)).await;
    assert!(is_denied(&found, Denial::Corrupt), "{}", why(found));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_a_person_deleted_is_not_called_destroyed() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let secrets = store(server, &prefix, given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let version = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    let versions = || Some(json!({ "versions": [1] }));
    must(server, "POST", &path("delete", &prefix, ACME), versions());
    let read = secrets.read(&pair(ACME), version).await;
    assert!(is_busy(&read), "it is not destroyed: somebody could bring it back");
    let text = why(read);
    assert!(text.contains("vault kv undelete"), "{text}");
    assert_eq!(secrets.list(&pair(ACME)).await, Ok(Vec::new()));
    must(server, "POST", &path("undelete", &prefix, ACME), versions());
    assert!(secrets.read(&pair(ACME), version).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_takes_no_write_without_a_check_and_keeps_what_people_noted() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let secrets = store(server, &prefix, given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    secrets.put(&one, &secret("sk-one")).await.expect("stored");
    let blind = json!({ "data": { "value": "sk-blind" } });
    let (status, _) =
        ask(server, server.root_token(), "POST", &path("data", &prefix, ACME), Some(blind));
    assert_eq!(status, 400, "a write without a check is refused");
    let noted = json!({ "custom_metadata": { "owner": "team a" } });
    must(server, "POST", &path("metadata", &prefix, ACME), Some(noted));
    let (active, journal) = (Some(Version(7)), Generation::parse("abcdefg2"));
    let witness = Witness { rev: Rev(30), epoch: Epoch(3), active, journal };
    secrets.put_witness(&pair(ACME), witness).await.expect("written");
    let said = must(server, "GET", &path("metadata", &prefix, ACME), None);
    let expected = json!({
        "kb_rev": "30", "kb_epoch": "3", "kb_active_v": "7", "kb_store_gen": "abcdefg2",
        "owner": "team a",
    });
    assert_eq!(said["data"]["custom_metadata"], expected);
    assert_eq!(said["data"]["max_versions"], 64);
    assert_eq!(said["data"]["cas_required"], true);
    let said = must(server, "GET", &path("data", &prefix, ACME), None);
    let data = said["data"]["data"].as_object().expect("an object");
    for (name, value) in [("tenant_id", "acme"), ("provider_key_id", "key_1"), ("value", "sk-one")]
    {
        assert_eq!(data[name], value);
    }
    assert!(data.contains_key("issued_at") && data.contains_key("expires_at"));
    assert!(!data.keys().any(|name| name.contains("status")), "a status would be old at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_ends_versions_by_the_clock_is_refused_before_a_key_is_issued() {
    let Some(server) = shared() else { return };
    server.mount_kv("ending").expect("mounted");
    let ending = json!({ "delete_version_after": "720h" });
    must(server, "POST", "ending/config", Some(ending));
    let mut settings = super::settings(server, "p", given(server.root_token()));
    "ending".clone_into(&mut settings.mount);
    let secrets = keybaton_adapters::secrets::vault::VaultSecrets::new(settings).expect("fits");
    let text = why(secrets.preflight(&pair(ACME)).await);
    assert!(text.contains("delete_version_after"), "{text}");
}
