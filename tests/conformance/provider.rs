//! Every provider adapter, and the fake, against the contract of the port `Provider`.
//!
//! The adapters speak HTTP to the simulator, which knows nothing of them and keeps its own books.

use std::sync::Arc;

use keybaton_adapters::providers::{Home, Homes, ProviderSettings, build};
use keybaton_messages::{ProviderKeyId, TenantId};
use keybaton_ports::{Provider, Secret};
use keybaton_rotation::Class;
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Fault, KeyDelete, Op, Script, Simulator};
use keybaton_tests::conformance::provider::{PATIENCE, ProviderWorld, homeless, neighbour, tenant};
use keybaton_tests::fakes::provider::FakeVendor;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;

mod openai {
    keybaton_tests::provider_conformance!(super::openai);
}

/// For organizations whose API cannot delete a single key of an account.
mod openai_with_an_account_per_key {
    keybaton_tests::provider_conformance!(super::openai_with_an_account_per_key);
}

mod openrouter {
    keybaton_tests::provider_conformance!(super::openrouter);
}

mod fake {
    keybaton_tests::provider_conformance!(super::fake);
}

const PROJECT: &str = "proj_acme";
const PROJECT_OF_NEIGHBOUR: &str = "proj_umbrella";

/// An adapter in front of a simulator.
struct Simulated {
    kind: &'static str,
    /// Between the simulator's address and the adapter's first part of a path.
    version: &'static str,
    account: Option<String>,
    simulator: Simulator,
    /// Bound and never listening: nobody else can take its port meanwhile.
    deaf: TcpSocket,
    _dir: TempDir,
}

impl Simulated {
    async fn open(kind: &'static str, version: &'static str, key_delete: KeyDelete) -> Self {
        let dir = TempDir::new().expect("a directory");
        let simulator = Simulator::builder()
            .dir(dir.path())
            .key_delete(key_delete)
            .hide_from_default_listing()
            .only_projects([PROJECT, PROJECT_OF_NEIGHBOUR])
            .start()
            .await
            .expect("a simulator");
        let deaf = TcpSocket::new_v4().expect("a socket");
        deaf.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self { kind, version, account: None, simulator, deaf, _dir: dir }
    }

    /// Makes the long-lived account of the tenant's project, as an operator does once.
    async fn with_account(mut self) -> Self {
        let url = format!(
            "{}/v1/organization/projects/{PROJECT}/service_accounts",
            self.simulator.base_url()
        );
        let answer = reqwest::Client::new()
            .post(url)
            .bearer_auth(ADMIN_KEY_DEFAULT)
            .json(&json!({"name": "keybaton", "create_service_account_only": true}))
            .send()
            .await
            .expect("an answer");
        let account: Value = answer.json().await.expect("JSON");
        self.account = Some(account["id"].as_str().expect("an id").to_owned());
        self
    }

    fn settings(&self) -> ProviderSettings {
        let home =
            |project: &str| Home { project: project.to_owned(), account: self.account.clone() };
        let homes = [
            (tenant(), home(PROJECT)),
            (neighbour(), home(PROJECT_OF_NEIGHBOUR)),
            (homeless(), home("proj_gone")),
        ];
        let homes = Homes::new(homes.into()).expect("good homes");
        let admin_key = Secret::new(ADMIN_KEY_DEFAULT.as_bytes().to_vec()).expect("fits");
        ProviderSettings {
            base_url: Some(format!("{}{}", self.simulator.base_url(), self.version)),
            ..ProviderSettings::new(admin_key, homes)
        }
    }

    fn build(&self, settings: ProviderSettings) -> Arc<dyn Provider> {
        build(self.kind, settings).expect("good settings")
    }

    fn project_of(tenant: &TenantId) -> &'static str {
        if *tenant == neighbour() { PROJECT_OF_NEIGHBOUR } else { PROJECT }
    }
}

impl ProviderWorld for Simulated {
    fn provider(&self) -> Arc<dyn Provider> {
        self.build(self.settings())
    }

    fn impatient(&self) -> Arc<dyn Provider> {
        self.build(ProviderSettings { call_wait_max: PATIENCE, ..self.settings() })
    }

    fn with_wrong_admin_key(&self) -> Arc<dyn Provider> {
        let admin_key = Secret::new(b"sk-admin-of-somebody-else".to_vec()).expect("fits");
        self.build(ProviderSettings { admin_key, ..self.settings() })
    }

    fn unreachable(&self) -> Arc<dyn Provider> {
        let port = self.deaf.local_addr().expect("bound").port();
        let base_url = Some(format!("http://127.0.0.1:{port}{}", self.version));
        self.build(ProviderSettings { base_url, ..self.settings() })
    }

    fn arm(&self, op: Op, fault: Fault) {
        let script = Script::next(op, fault).expect("a fault of this call");
        self.simulator.arm(script).expect("room");
    }

    fn plant(&self, tenant: &TenantId, name: &str) {
        self.simulator.seed(Self::project_of(tenant), name).expect("a new key");
    }

    fn names_alive(&self, tenant: &TenantId) -> Vec<String> {
        let keys = self.simulator.snapshot().keys.into_iter();
        let project = Self::project_of(tenant);
        keys.filter(|key| key.project == project).map(|key| key.name).collect()
    }

    fn is_alive(&self, key: &ProviderKeyId) -> bool {
        let id = key.as_str().trim_end_matches("/own");
        let raw = id.rsplit('/').next().expect("a part");
        self.simulator.snapshot().keys.iter().any(|key| key.key_id == raw)
    }
}

async fn openai() -> Simulated {
    Simulated::open("openai", "/v1", KeyDelete::Works).await.with_account().await
}

async fn openai_with_an_account_per_key() -> Simulated {
    Simulated::open("openai", "/v1", KeyDelete::RefusedForAccounts).await
}

async fn openrouter() -> Simulated {
    Simulated::open("openrouter", "/api/v1", KeyDelete::Works).await
}

/// The fake, seen from behind the counter.
struct Fake(Arc<FakeVendor>);

async fn fake() -> Fake {
    Fake(FakeVendor::new(Class::A, [tenant(), neighbour()]))
}

impl ProviderWorld for Fake {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.provider())
    }

    fn impatient(&self) -> Arc<dyn Provider> {
        let mut provider = self.0.provider();
        provider.patience = PATIENCE;
        Arc::new(provider)
    }

    fn with_wrong_admin_key(&self) -> Arc<dyn Provider> {
        let mut provider = self.0.provider();
        provider.is_admin = false;
        Arc::new(provider)
    }

    fn unreachable(&self) -> Arc<dyn Provider> {
        let mut provider = self.0.provider();
        provider.is_reachable = false;
        Arc::new(provider)
    }

    fn arm(&self, op: Op, fault: Fault) {
        self.0.arm(op, fault);
    }

    fn plant(&self, tenant: &TenantId, name: &str) {
        self.0.plant(tenant, name);
    }

    fn names_alive(&self, tenant: &TenantId) -> Vec<String> {
        self.0.names_alive(tenant)
    }

    fn is_alive(&self, key: &ProviderKeyId) -> bool {
        self.0.is_alive(key)
    }
}
