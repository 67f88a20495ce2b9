//! One model provider, seen from the rotation: issue, revoke, list, probe.

use std::time::Duration;

use async_trait::async_trait;
use keybaton_messages::{Label, ProviderKeyId, TenantId, Timestamp};
use keybaton_rotation::{Class, Health};

use crate::refusal::Refusal;
use crate::secret::Secret;

/// What a provider can do, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether issuing leaves older keys alive.
    pub class: Class,
    /// A person must create keys; `issue` is never called.
    pub person_issues: bool,
    /// Keys can be given a lifetime.
    pub lifetime: bool,
}

/// One request for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    /// For whom.
    pub tenant: TenantId,
    /// Under this name. Sent once, ever.
    pub label: Label,
    /// Let it end by itself after this, where the provider can.
    pub lifetime: Option<Duration>,
}

/// A key that was issued. Its secret is shown this once.
pub struct IssuedKey {
    /// The provider's name for it.
    pub key_id: ProviderKeyId,
    /// The key itself.
    pub secret: Secret,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A key as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The provider's name for it.
    pub key_id: ProviderKeyId,
    /// The name that was given to it; ours are labels.
    pub name: String,
}

/// How a request carries this provider's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthHeader {
    /// Header name, lower case.
    pub name: &'static str,
    /// What stands before the key, with its space.
    pub scheme: &'static str,
}

/// Issues and revokes keys at one provider.
///
/// Outcome classes: 4xx, 429 and a failure before the first byte was written are definite
/// ([`Refusal::Denied`], [`Refusal::Busy`]); a time-out, a reset after sending, 408, 409 on create,
/// 5xx and a 2xx with an unreadable body are [`Refusal::Unknown`].
#[async_trait]
pub trait Provider: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// How a request carries a key.
    fn auth_header(&self) -> AuthHeader;

    /// Asks whether an issue can succeed now: the admin credential is valid, the quota is free.
    /// Changes nothing.
    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal>;

    /// Issues at most one key, named `label`.
    ///
    /// Never called again with the same label after [`Refusal::Unknown`]: the key is shown once,
    /// so an answer that got lost cannot be asked for twice.
    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal>;

    /// Makes the key useless and confirms it: `Ok` only once the key is absent from a listing
    /// that succeeded. Revoking one that is gone succeeds.
    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal>;

    /// Every key of the tenant whose name starts with `prefix`, all pages.
    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal>;

    /// The cheapest authenticated call with this key. 401 is Dead unless it names missing scopes;
    /// everything that is not a clear yes or no is Unknown.
    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health;
}
