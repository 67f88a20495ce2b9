//! What the port `SecretStore` promises.

use keybaton_messages::{Epoch, Label, PairId, Rev, SecretVersion, Timestamp, Version};
use keybaton_ports::{Denial, Generation, Refusal, Secret, SecretMeta, SecretStore, Witness};

use crate::conformance::Has;
use crate::conformance::records::{key_id, label, pair};

/// Runs every case of the port `SecretStore`.
#[macro_export]
macro_rules! secrets_conformance {
    ($open:path $(, $if_there:ident)?) => {
        $crate::conformance_cases! { secrets, $open $(, $if_there)? =>
            a_secret_reads_back_under_its_pinned_version
            a_secret_under_a_known_label_is_stored_once
            one_label_of_two_pairs_is_two_secrets
            a_secret_is_found_by_its_label
            a_secret_without_a_label_is_stored
            a_version_that_never_was_is_not_found
            a_pair_reads_only_its_own_secrets
            a_destroyed_secret_is_gone_and_may_be_destroyed_again
            a_version_number_is_never_given_twice
            a_list_has_what_is_stored_oldest_first
            an_older_witness_is_ignored
            a_preflight_changes_nothing
        }
    };
}

/// Secret bytes.
#[must_use]
pub fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).expect("a key")
}

/// What is stored beside the secret of the pair's n-th version.
#[must_use]
pub fn meta(pair: &PairId, label: Option<Label>, key: &str) -> SecretMeta {
    SecretMeta {
        pair: pair.clone(),
        label,
        key_id: key_id(key),
        issued_at: Timestamp(5),
        expires_at: Some(Timestamp(6)),
    }
}

async fn put(secrets: &dyn SecretStore, tenant: &str, n: u32, text: &str) -> SecretVersion {
    let meta = meta(&pair(tenant), Some(label(n)), &format!("key_{n}"));
    secrets.put(&meta, &secret(text)).await.expect("stored")
}

async fn text_of(secrets: &dyn SecretStore, tenant: &str, version: SecretVersion) -> String {
    let stored = secrets.read(&pair(tenant), version).await;
    let bytes = stored.expect("stored").secret.expose().to_vec();
    String::from_utf8(bytes).expect("text")
}

async fn is_missing(secrets: &dyn SecretStore, tenant: &str, version: SecretVersion) -> bool {
    matches!(
        secrets.read(&pair(tenant), version).await.err(),
        Some(Refusal::Denied { denial: Denial::NotFound, .. })
    )
}

/// `put`, `read`: under the next version number, with what is known of it.
pub async fn a_secret_reads_back_under_its_pinned_version(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let first = put(&*secrets, "acme", 1, "sk-one").await;
    let second = put(&*secrets, "acme", 2, "sk-two").await;
    assert!(second > first);
    assert_eq!(text_of(&*secrets, "acme", first).await, "sk-one");
    assert_eq!(text_of(&*secrets, "acme", second).await, "sk-two");
    let stored = secrets.read(&pair("acme"), first).await;
    let expected = meta(&pair("acme"), Some(label(1)), "key_1");
    assert_eq!(stored.expect("stored").meta, expected);
}

/// `put`: under a known label it answers with its own number, and nothing is stored twice.
pub async fn a_secret_under_a_known_label_is_stored_once(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let first = put(&*secrets, "acme", 1, "sk-one").await;
    put(&*secrets, "acme", 2, "sk-two").await;
    for _ in 0..2 {
        assert_eq!(put(&*secrets, "acme", 1, "sk-one").await, first);
    }
    assert_eq!(secrets.list(&pair("acme")).await.expect("read").len(), 2);
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let secrets = secrets.clone();
            tokio::spawn(async move { put(&*secrets, "acme", 3, "sk-three").await })
        })
        .collect();
    let mut versions = std::collections::BTreeSet::new();
    for version in puts {
        versions.insert(version.await.expect("no panic"));
    }
    assert_eq!(versions.len(), 1, "also when many ask at once");
}

/// Labels are looked for within a pair.
pub async fn one_label_of_two_pairs_is_two_secrets(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let ours = put(&*secrets, "acme", 1, "sk-ours").await;
    let theirs = put(&*secrets, "umbrella", 1, "sk-theirs").await;
    assert_eq!(text_of(&*secrets, "acme", ours).await, "sk-ours");
    assert_eq!(text_of(&*secrets, "umbrella", theirs).await, "sk-theirs");
}

/// `find`: what was put under a label.
pub async fn a_secret_is_found_by_its_label(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let version = put(&*secrets, "acme", 1, "sk-one").await;
    let found = secrets.find(&pair("acme"), &label(1)).await;
    let (found, stored) = found.expect("asked").expect("found");
    assert_eq!(found, version);
    assert!(stored.secret.is_same(&secret("sk-one")));
    assert_eq!(stored.meta.label, Some(label(1)));
    for (tenant, n) in [("acme", 2), ("umbrella", 1)] {
        let found = secrets.find(&pair(tenant), &label(n)).await;
        assert!(found.expect("asked").is_none(), "{tenant} {n}");
    }
}

/// `put`: an imported key has no label.
pub async fn a_secret_without_a_label_is_stored(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let meta = meta(&pair("acme"), None, "key_imported");
    let version = secrets.put(&meta, &secret("sk-imported")).await.expect("stored");
    assert_eq!(text_of(&*secrets, "acme", version).await, "sk-imported");
    let other = secrets.put(&meta, &secret("sk-other")).await.expect("stored");
    assert_ne!(other, version);
}

/// `read`: `NotFound` when it was never there.
pub async fn a_version_that_never_was_is_not_found(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let version = put(&*secrets, "acme", 1, "sk-one").await;
    for wrong in [0, version.0 + 1, u64::MAX] {
        assert!(is_missing(&*secrets, "acme", SecretVersion(wrong)).await);
    }
    assert!(is_missing(&*secrets, "nobody", version).await);
}

/// One path per pair: nothing of another pair is read, found, listed or destroyed.
pub async fn a_pair_reads_only_its_own_secrets(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let version = put(&*secrets, "acme", 1, "sk-acme").await;
    for tenant in ["acme2", "acm", "umbrella"] {
        assert!(is_missing(&*secrets, tenant, version).await);
        assert_eq!(secrets.list(&pair(tenant)).await, Ok(Vec::new()));
        secrets.destroy(&pair(tenant), version).await.expect("destroyed");
    }
    let elsewhere =
        PairId::new("acme".parse().expect("a tenant"), "mistral".parse().expect("a provider"));
    secrets.destroy(&elsewhere, version).await.expect("destroyed");
    assert!(secrets.read(&elsewhere, version).await.is_err());
    assert_eq!(text_of(&*secrets, "acme", version).await, "sk-acme");
}

/// `destroy`: for good, and again.
pub async fn a_destroyed_secret_is_gone_and_may_be_destroyed_again(
    world: &impl Has<dyn SecretStore>,
) {
    let secrets = world.port();
    let first = put(&*secrets, "acme", 1, "sk-one").await;
    let second = put(&*secrets, "acme", 2, "sk-two").await;
    for _ in 0..2 {
        secrets.destroy(&pair("acme"), first).await.expect("destroyed");
        assert!(is_missing(&*secrets, "acme", first).await);
    }
    let found = secrets.find(&pair("acme"), &label(1)).await;
    assert!(found.expect("asked").is_none());
    assert_eq!(text_of(&*secrets, "acme", second).await, "sk-two");
    secrets.destroy(&pair("acme"), SecretVersion(99)).await.expect("destroyed");
}

/// A pinned version never shows another secret, also after the newest was destroyed.
pub async fn a_version_number_is_never_given_twice(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let first = put(&*secrets, "acme", 1, "sk-one").await;
    secrets.destroy(&pair("acme"), first).await.expect("destroyed");
    let late = put(&*secrets, "acme", 1, "sk-one").await;
    assert!(late > first);
    assert!(is_missing(&*secrets, "acme", first).await);
}

/// `list`: what is stored, oldest first, without the bytes.
pub async fn a_list_has_what_is_stored_oldest_first(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let mut versions = Vec::new();
    for n in 1..=12 {
        versions.push(put(&*secrets, "acme", n, &format!("sk-{n}")).await);
    }
    secrets.destroy(&pair("acme"), versions[4]).await.expect("destroyed");
    let expected: Vec<_> = (1..=12)
        .zip(&versions)
        .filter(|(n, _)| *n != 5)
        .map(|(n, version)| {
            let meta = meta(&pair("acme"), Some(label(n)), &format!("key_{n}"));
            (*version, meta)
        })
        .collect();
    assert_eq!(secrets.list(&pair("acme")).await, Ok(expected));
}

/// `put_witness`: one that is older than the stored one is ignored.
pub async fn an_older_witness_is_ignored(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    let journal = Generation::parse("abcdefg2");
    let active = Some(Version(1));
    let witness = |rev| Witness { rev: Rev(rev), epoch: Epoch(rev / 10), active, journal };
    assert_eq!(secrets.witness(&pair("acme")).await, Ok(None));
    for (written, read) in [(10, 10), (30, 30), (20, 30), (30, 30), (31, 31)] {
        let written = witness(written);
        secrets.put_witness(&pair("acme"), written).await.expect("written");
        let stored = secrets.witness(&pair("acme")).await;
        assert_eq!(stored, Ok(Some(witness(read))));
    }
    assert_eq!(secrets.witness(&pair("umbrella")).await, Ok(None));
}

/// `preflight`: asks whether a put can succeed now.
pub async fn a_preflight_changes_nothing(world: &impl Has<dyn SecretStore>) {
    let secrets = world.port();
    secrets.preflight(&pair("acme")).await.expect("ready");
    assert_eq!(secrets.list(&pair("acme")).await, Ok(Vec::new()));
    assert_eq!(secrets.witness(&pair("acme")).await, Ok(None));
}
