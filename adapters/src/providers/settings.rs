//! What an operator says about one provider, checked once at start.
//!
//! **Invariant:** two tenants never share a project, and no tenant's name leaves unless the
//! operator asked for it.

use std::collections::BTreeMap;
use std::time::Duration;

use keybaton_messages::TenantId;
use keybaton_ports::{Denial, Refusal, Secret};
use keybaton_rotation::Class;
use thiserror::Error;

use super::base_url::is_path_part;
use super::limits::{CALL_WAIT_DEFAULT, CALL_WAIT_MAX};

/// What stands for the tenant's name in a template.
const TENANT: &str = "{tenant}";

/// Where the keys of one tenant live at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The tenant's own project (OpenAI), workspace (OpenRouter) or whatever the provider calls
    /// the fence around one customer's keys.
    pub project: String,
    /// The account that owns the keys, where the provider has accounts. At OpenAI: the long-lived
    /// service account, or `None` for one account per key, which works with organizations whose
    /// API cannot delete a single key of an account.
    pub account: Option<String>,
}

/// Where the keys of each tenant live.
#[derive(Debug)]
pub struct Homes {
    listed: BTreeMap<TenantId, Home>,
    template: Option<Home>,
}

impl Homes {
    /// Takes the list of tenants.
    ///
    /// # Errors
    /// [`SettingsError::Id`] for a name that no vendor would give,
    /// [`SettingsError::SharedProject`] when two tenants have the same project: listing, sweeping
    /// and limits of one would touch the other's keys.
    pub fn new(listed: BTreeMap<TenantId, Home>) -> Result<Self, SettingsError> {
        let mut owners = BTreeMap::new();
        for (tenant, home) in &listed {
            home.check()?;
            if let Some(first) = owners.insert(&home.project, tenant) {
                return Err(SettingsError::SharedProject {
                    project: home.project.clone(),
                    first: first.clone(),
                    second: tenant.clone(),
                });
            }
        }
        Ok(Self { listed, template: None })
    }

    /// Uses `template` for tenants that are not listed, with the tenant's name in place of
    /// `{tenant}`.
    ///
    /// # Risk
    /// The tenant's name is told to the provider, and whoever may name a tenant chooses a project
    /// of the organization.
    ///
    /// # Errors
    /// [`SettingsError::Template`] when the project does not name the tenant, since all tenants
    /// would share it then; [`SettingsError::Id`] as in [`Homes::new`].
    pub fn danger_with_template(mut self, template: Home) -> Result<Self, SettingsError> {
        if !template.project.contains(TENANT) {
            return Err(SettingsError::Template);
        }
        let sample = TenantId::new("a").expect("one letter is a tenant");
        template.fill(&sample).check()?;
        self.template = Some(template);
        Ok(self)
    }

    /// The home of `tenant`.
    pub(super) fn of(&self, tenant: &TenantId) -> Result<Home, Refusal> {
        if let Some(home) = self.listed.get(tenant) {
            return Ok(home.clone());
        }
        let Some(template) = &self.template else {
            let why = format!("tenant {tenant} has no project here: add it to the configuration");
            return Err(Refusal::denied(Denial::BadRequest, why));
        };
        let home = template.fill(tenant);
        if home.check().is_err() {
            let why = format!("tenant {tenant} does not fit the template: list it by itself");
            return Err(Refusal::denied(Denial::BadRequest, why));
        }
        if self.listed.values().any(|listed| listed.project == home.project) {
            let why = format!("the template leads tenant {tenant} into a listed tenant's project");
            return Err(Refusal::denied(Denial::WrongTenant, why));
        }
        Ok(home)
    }
}

impl Home {
    fn fill(&self, tenant: &TenantId) -> Self {
        let fill = |text: &str| text.replace(TENANT, tenant.as_str());
        Self { project: fill(&self.project), account: self.account.as_deref().map(fill) }
    }

    fn check(&self) -> Result<(), SettingsError> {
        match std::iter::once(&self.project).chain(&self.account).find(|id| !is_path_part(id)) {
            Some(id) => Err(SettingsError::Id { shown: id.chars().take(40).collect() }),
            None => Ok(()),
        }
    }
}

/// Everything that an adapter has to be told. One shape for all kinds, so that a new kind needs
/// no new way to be configured.
pub struct ProviderSettings {
    /// Where the vendor is, version path included; `None` for its public address.
    pub base_url: Option<String>,
    /// The credential for the administration of keys.
    pub admin_key: Secret,
    /// Where each tenant's keys live.
    pub homes: Homes,
    /// What keys may do, in the provider's words; `None` for the provider's default.
    pub scopes: Option<Vec<String>>,
    /// Longest wait for one call.
    pub call_wait_max: Duration,
    /// Whether issuing leaves older keys alive here. A fact about the account, which a person
    /// may know better than this code.
    pub class: Class,
}

impl ProviderSettings {
    /// Settings with the defaults: public address, default scopes, keys coexist.
    #[must_use]
    pub fn new(admin_key: Secret, homes: Homes) -> Self {
        Self {
            base_url: None,
            admin_key,
            homes,
            scopes: None,
            call_wait_max: CALL_WAIT_DEFAULT,
            class: Class::A,
        }
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.call_wait_max.is_zero() || self.call_wait_max > CALL_WAIT_MAX {
            return Err(SettingsError::CallWait { given: self.call_wait_max });
        }
        if !self.admin_key.expose().iter().all(u8::is_ascii_graphic) {
            return Err(SettingsError::AdminKey);
        }
        Ok(())
    }
}

/// Settings that were refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// No adapter has this name.
    #[error("there is no provider kind {kind:?}: use one of {known}")]
    Kind {
        /// What was given, cut short.
        kind: String,
        /// What there is.
        known: String,
    },
    /// The address may not be called.
    #[error("the base URL is refused: {why}")]
    BaseUrl {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A project or account that cannot stand in a path.
    #[error("the id {shown:?} does not fit: use letters, digits, '-', '_', '.' and ':'")]
    Id {
        /// Its beginning.
        shown: String,
    },
    /// Isolation would be gone.
    #[error("tenants {first} and {second} share the project {project}: give each its own")]
    SharedProject {
        /// The project.
        project: String,
        /// One tenant.
        first: TenantId,
        /// The other.
        second: TenantId,
    },
    /// Every tenant would be led into the same project.
    #[error("the template's project must contain {TENANT}, or all tenants would share it")]
    Template,
    /// The provider does not do that, or it means something else than it looks like.
    #[error("scopes are refused: {why}")]
    Scopes {
        /// What to do about it.
        why: &'static str,
    },
    /// Out of bounds.
    #[error("a call cannot wait {given:?}: use more than zero and at most {CALL_WAIT_MAX:?}")]
    CallWait {
        /// What was given.
        given: Duration,
    },
    /// The admin key cannot be put into a header.
    #[error("the admin key holds a character that no key has: look for a line feed at its end")]
    AdminKey,
    /// Vault cannot be used like that.
    #[error("leases of Vault cannot be used: {why}")]
    Vault {
        /// What is wrong, and what to do about it.
        why: String,
    },
    /// TLS or the resolver could not be set up.
    #[error("the HTTP client cannot be built: check the certificate store of this machine")]
    Client,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a tenant")
    }

    fn home(project: &str) -> Home {
        Home { project: project.to_owned(), account: Some("svc_1".to_owned()) }
    }

    #[test]
    fn two_tenants_never_share_a_project() {
        let listed = [(tenant("a"), home("proj_1")), (tenant("b"), home("proj_1"))];
        let error = Homes::new(listed.into()).expect_err("shared").to_string();
        assert_eq!(error, "tenants a and b share the project proj_1: give each its own");
    }

    #[test]
    fn a_tenant_that_is_not_listed_has_no_home_unless_a_template_gives_it_one() {
        let homes = || Homes::new([(tenant("a"), home("proj_1"))].into()).expect("good");
        let refusal = homes().of(&tenant("b")).expect_err("not listed");
        assert!(matches!(refusal, Refusal::Denied { denial: Denial::BadRequest, .. }));

        let with = homes().danger_with_template(home("proj-{tenant}")).expect("good");
        assert_eq!(with.of(&tenant("a")).expect("listed").project, "proj_1");
        assert_eq!(with.of(&tenant("b")).expect("template").project, "proj-b");
    }

    #[test]
    fn a_template_cannot_lead_into_another_tenants_project() {
        let homes = Homes::new([(tenant("a"), home("proj-b"))].into()).expect("good");
        let homes = homes.danger_with_template(home("proj-{tenant}")).expect("good");
        let refusal = homes.of(&tenant("b")).expect_err("the project is a's");
        assert!(matches!(refusal, Refusal::Denied { denial: Denial::WrongTenant, .. }));
        assert!(
            Homes::new(BTreeMap::new())
                .expect("empty")
                .danger_with_template(home("proj"))
                .is_err_and(|error| error == SettingsError::Template)
        );
    }

    #[test]
    fn an_id_that_would_change_a_path_is_refused() {
        for bad in ["", "..", "a/b", "a?limit=1", "proj a"] {
            let listed = [(tenant("a"), home(bad))];
            assert!(matches!(Homes::new(listed.into()), Err(SettingsError::Id { .. })), "{bad}");
        }
    }
}
