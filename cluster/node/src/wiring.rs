//! Which provider stands behind which kind: the one place that a new adapter is named besides its
//! own file.

use std::collections::BTreeMap;
use std::sync::Arc;

use keybaton_adapters::providers::{self, Home, Homes, ProviderSettings};
use keybaton_messages::TenantId;
use keybaton_ports::{Provider, Secret};

use crate::error::WiringError;

/// Builds a provider of a kind (`openai`, `openrouter`, `vault`) for tenants whose accounts are known:
/// tenant, project, and the account within it that owns the keys.
///
/// `url` is where the vendor answers, version path included; `None` for its public address. For
/// more settings build the adapter itself: [`providers`]. Of `vault` the URL is the path up to the
/// role (`https://vault:8200/v1/database/creds`), the admin key is a token, and a tenant's project is
/// its role; accounts are not used.
///
/// # Errors
/// [`WiringError`] for an unknown kind, a bad name, or settings that contradict each other.
pub fn provider(
    kind: &str,
    url: Option<&str>,
    admin_key: &str,
    tenants: &[(&str, &str, &str)],
) -> Result<Arc<dyn Provider>, WiringError> {
    let mut listed = BTreeMap::new();
    for (tenant, project, account) in tenants {
        let home = Home { project: (*project).to_owned(), account: Some((*account).to_owned()) };
        listed.insert(TenantId::new(tenant)?, home);
    }
    let admin_key = Secret::new(admin_key.as_bytes().to_vec())?;
    let mut settings = ProviderSettings::new(admin_key, Homes::new(listed)?);
    settings.base_url = url.map(str::to_owned);
    Ok(providers::build(kind, settings)?)
}
