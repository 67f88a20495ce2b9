//! Which adapters there are, by name.

use std::sync::Arc;

use keybaton_ports::Provider;

use super::openai::OpenAi;
use super::openrouter::OpenRouter;
use super::settings::{ProviderSettings, SettingsError};

type Build = fn(ProviderSettings) -> Result<Arc<dyn Provider>, SettingsError>;

pub(super) const OPENAI: &str = "openai";
pub(super) const OPENROUTER: &str = "openrouter";

/// One line per adapter.
const KINDS: [(&str, Build); 2] = [
    (OPENAI, |settings| Ok(Arc::new(OpenAi::new(settings)?))),
    (OPENROUTER, |settings| Ok(Arc::new(OpenRouter::new(settings)?))),
];

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
        for kind in kinds() {
            let provider = build(kind, settings()).expect(kind);
            assert!(provider.capabilities().lifetime, "{kind}");
        }
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
