//! Opening a store in Redis: what is refused, and what it says.

use keybaton_adapters::buses::{RedisSettings, RedisUser};
use keybaton_adapters::journals::{
    AcceptedLoss, Durability, RedisJournalSettings, RedisStore, RedisStoreError,
};
use keybaton_adapters::store::MasterKey;
use keybaton_ports::Secret;
use keybaton_servers::redis::Flavour;
use keybaton_servers::{RedisConfig, unless_missing};
use keybaton_tests::conformance::records::{Writer, pair};

use crate::redis_journal::{Place, key, open_at, shared};

/// The error, and that it says what to do.
async fn refused(settings: &RedisJournalSettings, remedy: &str) -> RedisStoreError {
    let error = open_at(settings).await.err().expect("refused");
    assert!(error.to_string().contains(remedy), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_journal_in_redis_who_has_not_said_that_it_may_lose_something() {
    // Nothing is asked of the server: there is none.
    let redis = RedisSettings::new("redis://127.0.0.1:1").expect("a URL");
    let error = refused(&RedisJournalSettings::new(redis), "accepted_loss = \"failover\"").await;
    assert!(matches!(error, RedisStoreError::NotAccepted), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_opened_again_has_everything_and_says_that_it_is_best_effort() {
    let Some(place) = shared(Flavour::Redis) else { return };
    let settings = place.settings(place.database());
    let first = open_at(&settings).await.expect("a new store");
    assert_eq!(first.durability, Durability::BestEffort);
    assert!(first.notices[0].contains("best_effort"), "{:?}", first.notices);
    let writer = Writer::provisioned(first.journal.clone(), "n1", pair("acme"), 1).await;
    let (deployment, now) = (first.deployment.clone(), first.clock.now());
    drop(first);
    let second = open_at(&settings).await.expect("the same store");
    assert_eq!(second.deployment, deployment);
    assert!(second.clock.now() >= now, "store time does not go back");
    let stored = second.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, writer.record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_in_a_crash_is_refused_unless_that_is_accepted_too() {
    let config = RedisConfig { is_durable: false, ..RedisConfig::default() };
    let config = RedisConfig { flavour: Flavour::Redis, ..config };
    let Some(place) = unless_missing(Place::start_with(config)) else { return };
    let mut settings = place.settings(0);
    refused(&settings, "appendonly = no").await;
    settings.accepted_loss = AcceptedLoss::Crash;
    let store = open_at(&settings).await.expect("a store for a trial");
    assert_eq!(store.durability, Durability::Volatile);
    Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_syncs_late_or_drops_keys_is_refused() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let settings = place.settings(0);
    place.admin(&["CONFIG", "SET", "appendfsync", "everysec"]);
    refused(&settings, "appendfsync = everysec").await;
    place.admin(&["CONFIG", "SET", "appendfsync", "always"]);
    place.admin(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]);
    refused(&settings, "maxmemory-policy = allkeys-lru").await;
    place.admin(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    open_at(&settings).await.expect("what has no end is never dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_say_how_durable_it_is_is_refused() {
    let line = RedisUser::Journal.acl_line(Some(&crate::redis_journal::password()));
    let line = line.replace("+config|get ", "").replace("keybaton-journal", "curtailed");
    let config = RedisConfig { users: vec![line], ..RedisConfig::default() };
    let config = RedisConfig { flavour: Flavour::Redis, ..config };
    let Some(place) = unless_missing(Place::start_with(config)) else { return };
    let settings = place.settings_of(0, "curtailed", crate::redis_journal::password());
    let error = refused(&settings, "+config|get").await;
    assert!(matches!(error, RedisStoreError::Unknown(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_leave_out_transactions_when_it_starts_again_is_refused() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let settings = place.settings(0);
    // As everybody does who has read that this user should be off.
    place.admin(&["ACL", "SETUSER", "default", "reset"]);
    let error = refused(&settings, "it may stay off").await;
    assert!(matches!(error, RedisStoreError::NotReplayed { .. }), "{error:?}");
    let rights = ["~keybaton:*", "+hset", "+hdel", "+hincrby", "+unlink"];
    place.admin(&[&["ACL", "SETUSER", "default", "off"][..], &rights].concat());
    let store = open_at(&settings).await.expect("a new store");
    let writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    // The rights that the message names are enough for the server to read its file again.
    place.admin(&["ACL", "SAVE"]);
    place.server.kill().expect("killed");
    place.server.restart().expect("restarted");
    let again = open_at(&settings).await.expect("the same store");
    let stored = again.journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, writer.record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_never_shown() {
    let Some(place) = shared(Flavour::Redis) else { return };
    let wrong = Secret::new(b"not the word".to_vec()).expect("a password");
    let settings = place.settings_of(place.database(), &RedisUser::Journal.name(), wrong);
    let error = refused(&settings, "check that it runs, the user").await;
    assert!(!format!("{error:?} {error}").contains("not the word"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_master_key_opens_nothing() {
    let Some(place) = shared(Flavour::Redis) else { return };
    let settings = place.settings(place.database());
    open_at(&settings).await.expect("a new store");
    let opened = RedisStore::open(&settings, MasterKey::from_bytes([8; 32])).await;
    let error = opened.err().expect("refused");
    assert!(matches!(error, RedisStoreError::WrongKey), "{error:?}");
    RedisStore::open(&settings, key()).await.expect("the right key opens it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_nobody_can_tell_of_are_refused() {
    let Some(place) = shared(Flavour::Redis) else { return };
    if !place.server.version().starts_with("7.0.") {
        // Newer ones can tell; the case on Valkey shows it.
        return;
    }
    let mut settings = place.settings(place.database());
    settings.replicas_min = 1;
    let error = refused(&settings, "replicas_min = 0").await;
    assert!(matches!(error, RedisStoreError::NoReplicas { wanted: 1, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_schema_is_refused_and_left_alone() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let settings = place.settings(0);
    open_at(&settings).await.expect("a new store");
    place.admin(&["HSET", "keybaton:store", "schema", "77"]);
    let error = refused(&settings, "run the keybaton that wrote it").await;
    assert!(matches!(error, RedisStoreError::OtherSchema { .. }), "{error:?}");
}
