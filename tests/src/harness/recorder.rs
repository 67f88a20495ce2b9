//! A provider that passes everything on and remembers every secret it saw, for the hunt.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{ProviderKeyId, TenantId};
use keybaton_ports::{
    AuthHeader, Capabilities, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::Health;
use parking_lot::Mutex;

/// Stands between a node and a provider.
pub struct Recorder {
    provider: Arc<dyn Provider>,
    secrets: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Stands in front of `provider` and adds what it sees to `secrets`.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, secrets: Arc<Mutex<Vec<Vec<u8>>>>) -> Self {
        Self { provider, secrets }
    }

    fn note(&self, secret: &Secret) {
        let mut secrets = self.secrets.lock();
        if !secrets.iter().any(|known| known == secret.expose()) {
            secrets.push(secret.expose().to_vec());
        }
    }
}

#[async_trait]
impl Provider for Recorder {
    fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    fn auth_header(&self) -> AuthHeader {
        self.provider.auth_header()
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.provider.preflight(tenant).await
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let issued = self.provider.issue(request).await?;
        self.note(&issued.secret);
        Ok(issued)
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        self.provider.revoke(tenant, key).await
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        self.provider.list(tenant, prefix).await
    }

    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health {
        self.note(secret);
        self.provider.probe(tenant, secret).await
    }
}
