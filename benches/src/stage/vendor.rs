//! A provider in memory that answers at once: its keys coexist, and it keeps honest books.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use keybaton_messages::{ProviderKeyId, TenantId};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use parking_lot::Mutex;

/// The vendor.
#[derive(Default)]
pub struct InstantVendor {
    issued: AtomicU64,
    alive: Mutex<HashMap<TenantId, Vec<Key>>>,
}

struct Key {
    id: ProviderKeyId,
    name: String,
    secret: Secret,
}

#[async_trait]
impl Provider for InstantVendor {
    fn capabilities(&self) -> Capabilities {
        Capabilities { class: Class::A, person_issues: false, lifetime: false }
    }

    fn auth_header(&self) -> AuthHeader {
        AuthHeader { name: "authorization", scheme: "Bearer " }
    }

    async fn preflight(&self, _: &TenantId) -> Result<(), Refusal> {
        Ok(())
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let id = ProviderKeyId::new(&format!("key_{number}"))
            .map_err(|bad| Refusal::denied(Denial::BadRequest, bad.to_string()))?;
        // Two copies: one is shown this once, the other stays in the books.
        let secret = || Secret::new(format!("sk-bench-{number:032}").into_bytes());
        let key =
            Key { id: id.clone(), name: request.label.as_str().to_owned(), secret: secret()? };
        let mut alive = self.alive.lock();
        alive.entry(request.tenant.clone()).or_default().push(key);
        Ok(IssuedKey { key_id: id, secret: secret()?, expires_at: None })
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        if let Some(keys) = self.alive.lock().get_mut(tenant) {
            keys.retain(|known| known.id != *key);
        }
        Ok(())
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        let alive = self.alive.lock();
        let keys = alive.get(tenant).into_iter().flatten();
        Ok(keys
            .filter(|key| key.name.starts_with(prefix))
            .map(|key| ListedKey { key_id: key.id.clone(), name: key.name.clone() })
            .collect())
    }

    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health {
        let alive = self.alive.lock();
        let mut keys = alive.get(tenant).into_iter().flatten();
        if keys.any(|key| key.secret.is_same(secret)) { Health::Alive } else { Health::Dead }
    }
}
