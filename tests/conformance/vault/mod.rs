//! The secret store on a real Vault: the contract of its port, and what it promises beyond.
//!
//! One Vault serves every test that does not hurt it; each has a prefix of its own there, and a
//! token with nothing but the policies that `keybaton vault policy` prints.

mod access;
mod faults;
mod leases;
mod proxy;
mod restored;
mod rotations;
mod tokens;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keybaton_adapters::secrets::vault::{
    CredentialSource, Login, Place, Role, VaultSecrets, VaultSettings,
};
use keybaton_messages::TenantId;
use keybaton_ports::{Denial, Refusal, Secret, SecretStore};
use keybaton_servers::{Vault, unless_missing};
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::records::pair;
use parking_lot::Mutex;
use serde_json::{Value, json};

mod secrets {
    keybaton_tests::secrets_conformance!(super::open, if_there);
}

/// The mount of all tests.
const MOUNT: &str = "kv";

/// Every tenant that a case of the suite names.
const TENANTS: [&str; 5] = ["acme", "acme2", "acm", "umbrella", "nobody"];

/// Longest wait for a call to a Vault that is well.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// A place in a Vault, and a store with the rights of a rotator there.
struct World {
    store: Arc<VaultSecrets>,
}

async fn open() -> Option<World> {
    let (server, prefix) = (shared()?, new_prefix());
    let token = token_of(server, &prefix, &TENANTS, Role::Rotator);
    Some(World { store: Arc::new(store(server, &prefix, given(&token))) })
}

impl Has<dyn SecretStore> for World {
    fn port(&self) -> Arc<dyn SecretStore> {
        self.store.clone()
    }
}

/// The Vault of all tests that do not hurt it. It dies with the test process.
fn shared() -> Option<&'static Vault> {
    static SHARED: Mutex<Option<&'static Vault>> = Mutex::new(None);
    let mut shared = SHARED.lock();
    if shared.is_none() {
        *shared = started().map(|server| &*Box::leak(Box::new(server)));
    }
    *shared
}

/// A Vault of one's own, with the mount.
fn started() -> Option<Vault> {
    let server = unless_missing(Vault::start())?;
    server.mount_kv(MOUNT).expect("mounted");
    Some(server)
}

/// Asks as the administrator for something that must succeed.
#[track_caller]
fn must(server: &Vault, method: &str, path: &str, body: Option<Value>) -> Value {
    server.request_as_root(method, path, body.as_ref()).expect("done")
}

/// Asks with any token; the status and the answer.
#[track_caller]
fn ask(server: &Vault, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    server.request(token, method, path, body.as_ref()).expect("answered")
}

fn new_prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

/// Writes the printed policies of these tenants and returns their names.
fn write_policies(server: &Vault, prefix: &str, tenants: &[&str], role: Role) -> Vec<String> {
    let place = Place::new(MOUNT, prefix).expect("fits");
    let write = |name: &&str| {
        let policy = format!("{prefix}-{}-{name}", role.word());
        let text = json!({ "policy": place.policy(&tenant(name), role) });
        must(server, "PUT", &format!("sys/policies/acl/{policy}"), Some(text));
        policy
    };
    tenants.iter().map(write).collect()
}

/// A token that may do what `role` needs for these tenants.
fn token_of(server: &Vault, prefix: &str, tenants: &[&str], role: Role) -> String {
    let policies = write_policies(server, prefix, tenants, role);
    let made = must(
        server,
        "POST",
        "auth/token/create",
        Some(json!({ "policies": policies, "ttl": "1h" })),
    );
    made["auth"]["client_token"].as_str().expect("a token").to_owned()
}

fn given(token: &str) -> Login {
    let secret = Secret::new(token.as_bytes().to_vec()).expect("a token");
    Login::Token(CredentialSource::Given(secret))
}

fn settings(server: &Vault, prefix: &str, login: Login) -> VaultSettings {
    let mut settings = VaultSettings::new(&server.address(), login);
    MOUNT.clone_into(&mut settings.mount);
    prefix.clone_into(&mut settings.prefix);
    settings.call_wait_max = CALL_WAIT;
    settings
}

fn store(server: &Vault, prefix: &str, login: Login) -> VaultSecrets {
    VaultSecrets::new(settings(server, prefix, login)).expect("good settings")
}

/// The path of a tenant's pair below a tree of the mount.
fn path(tree: &str, prefix: &str, name: &str) -> String {
    let place = Place::new(MOUNT, prefix).expect("fits");
    format!("{MOUNT}/{tree}/{}", place.path(&pair(name)))
}

fn is_busy<T>(answer: &Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Busy { .. }))
}

fn is_unknown<T>(answer: &Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Unknown { .. }))
}

fn is_denied<T>(answer: &Result<T, Refusal>, expected: Denial) -> bool {
    matches!(answer, Err(Refusal::Denied { denial, .. }) if *denial == expected)
}

/// What was refused, as text.
fn why<T>(answer: Result<T, Refusal>) -> String {
    answer.err().map_or_else(|| "it succeeded".to_owned(), |refusal| refusal.to_string())
}
