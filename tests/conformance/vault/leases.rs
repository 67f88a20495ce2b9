//! Dynamic secrets of a real Vault: users of a real Postgres that live as long as their lease.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keybaton::messages::{DeploymentId, Label, PairTag, TenantId, Version};
use keybaton::{
    CredentialUse, Node, Program, Progress, Provider, RestartPolicy, StepContext, StepError,
};
use keybaton_adapters::providers::{Home, Homes, VaultLeases};
use keybaton_adapters::secrets::vault::VaultSettings;
use keybaton_ports::{Denial, IssueRequest, IssuedKey, Secret};
use keybaton_rotation::Health;
use keybaton_servers::postgres::{ADMIN, DATABASE};
use keybaton_servers::vault::POSTGRES_PLUGIN;
use keybaton_servers::{Postgres, Vault, unless_missing};
use keybaton_tests::harness::{PATIENCE, policy, soon};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use super::{CALL_WAIT, given, is_busy, is_denied, is_unknown, must, tenant, why};

const ACME: &str = "acme";
const UMBRELLA: &str = "umbrella";

/// How often a server is asked for a state that must come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A Vault whose database engine makes users of a Postgres.
struct Place {
    vault: Vault,
    postgres: Postgres,
}

impl Place {
    /// A role for each of two tenants, whose leases first live this long.
    fn start(default_ttl: &str) -> Option<Self> {
        let postgres = unless_missing(Postgres::start())?;
        let vault = unless_missing(Vault::start_with_postgres_plugin())?;
        must(&vault, "POST", "sys/mounts/database", Some(json!({ "type": "database" })));
        let port = postgres.port();
        let config = json!({
            "plugin_name": POSTGRES_PLUGIN,
            "allowed_roles": "*",
            "connection_url":
                format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/postgres"),
            "username": ADMIN,
            "password": postgres.password(),
        });
        must(&vault, "POST", "database/config/pg", Some(config));
        let create = "create role \"{{name}}\" with login password '{{password}}' \
                      valid until '{{expiration}}'";
        for name in [ACME, UMBRELLA] {
            let role = json!({
                "db_name": "pg",
                "creation_statements": [create],
                "default_ttl": default_ttl,
                "max_ttl": "1h",
            });
            must(&vault, "POST", &format!("database/roles/{name}"), Some(role));
        }
        Some(Self { vault, postgres })
    }

    fn settings(&self, token: &str) -> VaultSettings {
        let mut settings = VaultSettings::new(&self.vault.address(), given(token));
        settings.call_wait_max = CALL_WAIT;
        settings
    }

    fn leases(&self, settings: VaultSettings) -> VaultLeases {
        let home = |name: &str| Home { project: name.to_owned(), account: None };
        let homes = [ACME, UMBRELLA].map(|name| (tenant(name), home(name)));
        let homes = Homes::new(BTreeMap::from(homes)).expect("good homes");
        VaultLeases::new(settings, "database/creds", homes).expect("good settings")
    }

    fn as_root(&self) -> VaultLeases {
        self.leases(self.settings(self.vault.root_token()))
    }

    /// Whether Postgres lets this credential in.
    fn opens(&self, secret: &Secret) -> bool {
        let Login { username, password } = login(secret);
        self.postgres.query(&username, &password, DATABASE, "select 1").is_ok()
    }

    /// Users that Vault has made.
    fn users(&self) -> Vec<String> {
        let sql = "select rolname from pg_roles where rolname like 'v-%'";
        let rows = self.postgres.query_as_admin(sql).expect("answered");
        rows.into_iter().flatten().flatten().collect()
    }
}

#[derive(Deserialize)]
struct Login {
    username: String,
    password: String,
}

fn login(secret: &Secret) -> Login {
    read(secret.expose())
}

fn read(bytes: &[u8]) -> Login {
    #[derive(Deserialize)]
    struct Credential {
        data: Login,
    }
    serde_json::from_slice::<Credential>(bytes).expect("as documented").data
}

fn label(version: u32) -> Label {
    let deployment = DeploymentId::from_digest(&[7; 16]);
    Label::new(&deployment, &PairTag::from_digest(&[8; 16]), Version(version))
}

fn request(tenant: TenantId, version: u32) -> IssueRequest {
    IssueRequest { tenant, label: label(version), lifetime: None }
}

async fn issue(leases: &VaultLeases, name: &str) -> IssuedKey {
    leases.issue(&request(tenant(name), 1)).await.expect("issued")
}

/// Asks until it is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let looking = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !is_so().await {
            look.tick().await;
        }
    };
    soon(what, looking).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_opens_postgres_until_its_lease_is_revoked() {
    let Some(place) = Place::start("1h") else { return };
    let leases = place.as_root();
    assert_eq!(leases.preflight(&tenant(ACME)).await, Ok(()));
    let (first, second) = (issue(&leases, ACME).await, issue(&leases, ACME).await);
    assert!(place.opens(&first.secret) && place.opens(&second.secret), "they live side by side");
    assert!(first.expires_at.is_some(), "it ends by itself, renewals not counted");
    assert_eq!(leases.probe(&tenant(ACME), &first.secret).await, Health::Alive);
    for _ in 0..2 {
        assert_eq!(leases.revoke(&tenant(ACME), &first.key_id).await, Ok(()));
        assert!(!place.opens(&first.secret));
        assert_eq!(leases.probe(&tenant(ACME), &first.secret).await, Health::Dead);
    }
    assert!(place.opens(&second.secret), "the other one is untouched");
    assert_eq!(place.users().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_in_place_and_ends_with_the_node_that_renewed_it() {
    let Some(place) = Place::start("4s") else { return };
    let leases = place.as_root();
    let issued = issue(&leases, ACME).await;
    let lease = json!({ "lease_id": issued.key_id.as_str() });
    let is_renewed = || {
        let said = must(&place.vault, "PUT", "sys/leases/lookup", Some(lease.clone()));
        said["data"]["last_renewal"].is_string()
    };
    until("a renewal", async || is_renewed()).await;
    assert!(place.opens(&issued.secret), "it is the same user");
    drop(leases);
    until("the end of the user", async || !place.opens(&issued.secret)).await;
    until("its removal", async || place.users().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_leases_are_out_of_reach_for_another() {
    let Some(place) = Place::start("1h") else { return };
    let theirs = issue(&place.as_root(), UMBRELLA).await;
    // As docs/howto/vault.md says, for the tenant acme.
    let policy = "path \"database/creds/acme\" { capabilities = [\"read\"] }\n\
                  path \"sys/leases/renew\" { capabilities = [\"update\"] }\n\
                  path \"sys/leases/revoke\" { capabilities = [\"update\"] }\n\
                  path \"sys/leases/lookup\" { capabilities = [\"update\"] }";
    must(&place.vault, "PUT", "sys/policies/acl/acme-leases", Some(json!({ "policy": policy })));
    let token = json!({ "policies": ["acme-leases"], "ttl": "1h" });
    let made = must(&place.vault, "POST", "auth/token/create", Some(token));
    let token = made["auth"]["client_token"].as_str().expect("a token");
    let leases = place.leases(place.settings(token));
    assert_eq!(leases.preflight(&tenant(ACME)).await, Ok(()));
    let own = issue(&leases, ACME).await;
    let preflight = leases.preflight(&tenant(UMBRELLA)).await;
    assert!(why(preflight).contains("may not read database/creds/umbrella"));
    let stolen = leases.issue(&request(tenant(UMBRELLA), 2)).await;
    assert!(is_denied(&stolen, Denial::Admin));
    let revoked = leases.revoke(&tenant(ACME), &theirs.key_id).await;
    assert!(is_denied(&revoked, Denial::WrongTenant));
    assert_eq!(leases.probe(&tenant(ACME), &theirs.secret).await, Health::Dead, "not acme's");
    assert!(place.opens(&theirs.secret));
    assert_eq!(leases.revoke(&tenant(ACME), &own.key_id).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_heard_of_is_called_gone_only_when_it_must_have_ended() {
    const LIFE: Duration = Duration::from_secs(5);
    let Some(place) = Place::start("5s") else { return };
    let mut settings = place.settings(place.vault.root_token());
    settings.call_wait_max = Duration::from_secs(3);
    let leases = place.leases(settings).life_max(LIFE);
    assert_eq!(leases.preflight(&tenant(ACME)).await, Ok(()));
    place.vault.pause().expect("paused");
    let lost = leases.issue(&request(tenant(ACME), 1)).await;
    assert!(is_unknown(&lost));
    place.vault.resume().expect("resumed");
    let listed = leases.list(&tenant(ACME), label(1).as_str()).await;
    assert!(is_busy(&listed), "it may be alive: {listed:?}");
    let is_known = async || leases.list(&tenant(ACME), label(1).as_str()).await == Ok(Vec::new());
    until("the end of what was lost", is_known).await;
    until("the removal of its user", async || place.users().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_whose_leases_outlive_the_settings_leaves_none_behind() {
    let Some(place) = Place::start("1h") else { return };
    let leases = place.as_root().life_max(Duration::from_secs(60));
    let refused = leases.issue(&request(tenant(ACME), 1)).await;
    assert!(is_denied(&refused, Denial::BadRequest));
    assert!(place.users().is_empty());
}

/// Asks Postgres who it is, again and again, until it is told to end. A query that fails fails it.
struct Clerk {
    port: u16,
    is_over: Arc<AtomicBool>,
    /// Users under which each clerk has asked.
    seen: watch::Sender<HashMap<String, Vec<String>>>,
}

#[derive(Serialize, Deserialize)]
struct Ledger {
    users: Vec<String>,
}

impl Program for Clerk {
    const KIND: &'static str = "clerk/1";
    type State = Ledger;
    type Outcome = String;

    fn credential_use(&self, _: &Ledger) -> CredentialUse {
        CredentialUse::PerSession
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy { attempts: 1, ..RestartPolicy::default() }
    }

    async fn step(
        &self,
        _: &Ledger,
        context: &StepContext<'_>,
    ) -> Result<Progress<String>, StepError> {
        let session = context.session.expect("a session");
        let Login { username, password } = read(session.danger_expose_key());
        let asked = ask_who(self.port, &username, &password).await;
        let user = asked.map_err(|error| StepError::Fail(error.to_string()))?;
        self.seen.send_modify(|seen| {
            let users = seen.entry(context.task.task.to_string()).or_default();
            if !users.contains(&user) {
                users.push(user.clone());
            }
        });
        Ok(match self.is_over.load(Ordering::Relaxed) {
            true => Progress::Done(user),
            false => Progress::Rest(user, Duration::from_millis(20)),
        })
    }

    fn apply(&self, ledger: &mut Ledger, user: String) {
        if !ledger.users.contains(&user) {
            ledger.users.push(user);
        }
    }
}

async fn ask_who(port: u16, user: &str, password: &str) -> Result<String, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname(DATABASE);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    // Ends when the client is dropped.
    tokio::spawn(connection);
    Ok(client.query_one("select current_user::text", &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_postgres_user_is_replaced_under_it_without_a_failed_query() {
    const CLERKS: usize = 3;
    let Some(place) = Place::start("1h") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (seen, mut seeing) = watch::channel(HashMap::new());
    let is_over = Arc::new(AtomicBool::new(false));
    let clerk = Clerk { port: place.postgres.port(), is_over: Arc::clone(&is_over), seen };
    let node = Node::builder(dir.path().join("node"))
        .provider("postgres", Arc::new(place.as_root()), policy())
        .program(clerk)
        .start()
        .await
        .expect("the node starts");
    soon("the first user", node.provision(ACME, "postgres")).await.expect("a user");
    let first = place.users();
    assert_eq!(first.len(), 1);
    let mut clerks = Vec::new();
    for number in 0..CLERKS {
        let ledger = Ledger { users: Vec::new() };
        let name = format!("clerk-{number}");
        let spawned = node.spawn::<Clerk>(ACME, "postgres", &name, ledger);
        clerks.push(soon("a clerk", spawned).await.expect("a task"));
    }
    let mut have_asked_as = async |users: usize| {
        let all = |seen: &HashMap<String, Vec<String>>| {
            seen.len() == CLERKS && seen.values().all(|it| it.len() >= users)
        };
        drop(soon("the clerks", seeing.wait_for(all)).await.expect("they live"));
    };
    have_asked_as(1).await;

    let rotation = node.rotate(ACME, "postgres", "a test");
    let rotation = soon("a rotation's begin", rotation).await.expect("accepted");
    have_asked_as(2).await;
    soon("its end", node.finished(&rotation)).await.expect("complete");

    is_over.store(true, Ordering::Relaxed);
    for clerk in clerks {
        let ledger = soon("a clerk", clerk.join()).await;
        let ledger = ledger.unwrap_or_else(|failure| panic!("a query failed: {failure}"));
        assert_eq!(ledger.users.len(), 2, "{:?}", ledger.users);
        assert_eq!(ledger.users[..1], first[..]);
    }
    let left = place.users();
    assert!(left.len() == 1 && left != first, "the old user is gone: {left:?}");
    assert!(node.shutdown(PATIENCE).await);
}
