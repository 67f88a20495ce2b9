//! Which adapters there are, by name.

use std::sync::Arc;

use keybaton_ports::Provider;

use super::base_url::check_base_url;
use super::openai::OpenAi;
use super::openrouter::OpenRouter;
use super::settings::{ProviderSettings, SettingsError};
use super::vault_leases::VaultLeases;
use crate::secrets::vault::{CredentialSource, Login, VaultSettings};

type Build = fn(ProviderSettings) -> Result<Arc<dyn Provider>, SettingsError>;

pub(super) const OPENAI: &str = "openai";
pub(super) const OPENROUTER: &str = "openrouter";
const VAULT: &str = "vault";

/// One line per adapter.
const KINDS: [(&str, Build); 3] = [
    (OPENAI, |settings| Ok(Arc::new(OpenAi::new(settings)?))),
    (OPENROUTER, |settings| Ok(Arc::new(OpenRouter::new(settings)?))),
    (VAULT, |settings| Ok(Arc::new(leases(settings)?))),
];

/// Leases of an engine of Vault. The base URL is the path up to the role, and the admin key is a
/// token. For AppRole, or a token in a file, build [`VaultLeases`] itself.
fn leases(settings: ProviderSettings) -> Result<VaultLeases, SettingsError> {
    settings.check()?;
    let ProviderSettings { base_url, admin_key, homes, scopes, call_wait_max, .. } = settings;
    if scopes.is_some() {
        let why = "what a lease of Vault may do is its role's business: leave them out";
        return Err(SettingsError::Scopes { why });
    }
    let url = base_url.unwrap_or_default();
    let Some((address, engine)) = url.split_once("/v1/") else {
        let why = "Vault has no public address: write https://HOST:8200/v1/ENGINE/creds";
        return Err(SettingsError::BaseUrl { why });
    };
    check_base_url(address)?;
    let mut vault = VaultSettings::new(address, Login::Token(CredentialSource::Given(admin_key)));
    vault.call_wait_max = call_wait_max;
    VaultLeases::new(vault, engine, homes)
        .map_err(|error| SettingsError::Vault { why: error.to_string() })
}

/// The names that [`build`] takes.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().map(|(name, _)| name)
}

/// The adapter of that name.
///
/// # Errors
/// [`SettingsError::Kind`] for an unknown name; whatever the adapter says of its settings.
pub fn build(kind: &str, settings: ProviderSettings) -> Result<Arc<dyn Provider>, SettingsError> {
    let Some((_, build)) = KINDS.into_iter().find(|(name, _)| *name == kind) else {
        return Err(SettingsError::Kind {
            kind: kind.chars().take(40).collect(),
            known: kinds().collect::<Vec<_>>().join(", "),
        });
    };
    build(settings)
}

#[cfg(test)]
mod tests {
    use keybaton_ports::Secret;

    use super::*;
    use crate::providers::Homes;

    fn settings() -> ProviderSettings {
        let admin_key = Secret::new(b"sk-admin-test".to_vec()).expect("fits");
        ProviderSettings::new(admin_key, Homes::new([].into()).expect("empty"))
    }

    #[test]
    fn every_kind_is_built_from_the_same_settings() {
        let url = "http://127.0.0.1:8200/v1/database/creds";
        for kind in kinds() {
            let settings = ProviderSettings { base_url: Some(url.to_owned()), ..settings() };
            let provider = build(kind, settings).expect(kind);
            // How long a lease lives is said by its role.
            assert_eq!(provider.capabilities().lifetime, kind != VAULT, "{kind}");
        }
    }

    #[test]
    fn leases_need_to_know_which_engine_of_which_vault() {
        let with =
            |url: Option<&str>| ProviderSettings { base_url: url.map(str::to_owned), ..settings() };
        for url in [None, Some("https://vault:8200"), Some("https://vault:8200/database/creds")] {
            let error = build(VAULT, with(url)).err().expect("refused").to_string();
            assert!(error.contains("https://HOST:8200/v1/ENGINE/creds"), "{error}");
        }
        let elsewhere = build(VAULT, with(Some("http://169.254.169.254/v1/database/creds")));
        assert!(matches!(elsewhere, Err(SettingsError::BaseUrl { .. })));
        let escaping = build(VAULT, with(Some("https://vault:8200/v1/../sys")));
        assert!(matches!(escaping, Err(SettingsError::Vault { .. })));
        let scoped = ProviderSettings { scopes: Some(vec!["all".into()]), ..with(None) };
        assert!(matches!(build(VAULT, scoped), Err(SettingsError::Scopes { .. })));
    }

    #[test]
    fn an_unknown_kind_is_answered_with_the_known_ones() {
        let error = build("anthropik", settings()).err().expect("unknown").to_string();
        assert!(error.contains("use one of openai, openrouter"), "{error}");
    }

    #[test]
    fn settings_that_would_do_harm_are_refused() {
        let bad_url = ProviderSettings {
            base_url: Some("http://169.254.169.254/v1".to_owned()),
            ..settings()
        };
        assert!(matches!(build("openai", bad_url), Err(SettingsError::BaseUrl { .. })));
        let no_scopes = ProviderSettings { scopes: Some(Vec::new()), ..settings() };
        assert!(matches!(build("openai", no_scopes), Err(SettingsError::Scopes { .. })));
        let no_wait = ProviderSettings { call_wait_max: std::time::Duration::ZERO, ..settings() };
        assert!(matches!(build("openai", no_wait), Err(SettingsError::CallWait { .. })));
        let admin_key = Secret::new(b"sk-admin\n".to_vec()).expect("fits");
        let line_feed = ProviderSettings { admin_key, ..settings() };
        assert!(matches!(build("openai", line_feed), Err(SettingsError::AdminKey)));
    }
}
