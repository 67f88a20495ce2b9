//! Where a pair's secrets lie in Vault, and what somebody must be allowed to do there.
//!
//! `{mount}/data/{prefix}/tenants/{tenant}/providers/{provider}/api_key`, and the same below
//! `metadata` and `destroy`: KV v2 has a tree of its own for each, and a policy for
//! `{mount}/{prefix}/…` matches none of them.
//!
//! **Invariant:** paths are built from checked names only.

use keybaton_messages::{PairId, TenantId};

use super::settings::{VaultError, check_place};

/// A mount and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    mount: String,
    prefix: String,
}

/// Who works on a tenant's secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hands keys out: reads pinned versions and nothing else.
    Broker,
    /// Replaces keys: writes new versions, destroys old ones, keeps the witness.
    Rotator,
}

impl Role {
    /// The role's name in texts and in names of policies.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Rotator => "rotator",
        }
    }
}

impl Place {
    /// Takes a mount and a prefix, which may be empty.
    ///
    /// # Errors
    /// [`VaultError::Place`] for a text that would leave its part of a path.
    pub fn new(mount: &str, prefix: &str) -> Result<Self, VaultError> {
        check_place("the mount", mount, false)?;
        check_place("the prefix", prefix, true)?;
        Ok(Self { mount: mount.to_owned(), prefix: prefix.to_owned() })
    }

    pub(super) fn mount(&self) -> &str {
        &self.mount
    }

    /// The path of a pair inside the mount, as Vault's own tools name it.
    #[must_use]
    pub fn path(&self, pair: &PairId) -> String {
        self.below(pair.tenant.as_str(), pair.provider.as_str())
    }

    fn below(&self, tenant: &str, provider: &str) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}tenants/{tenant}/providers/{provider}/api_key", self.prefix)
    }

    /// The parts of the URL of a pair's values.
    pub(super) fn url(&self, pair: &PairId) -> Vec<String> {
        let path = self.path(pair);
        let parts = ["v1"].into_iter().chain(self.mount.split('/')).chain(["data"]);
        parts.chain(path.split('/')).map(str::to_owned).collect()
    }

    /// The paths of a pair with the capabilities that a rotator needs on each.
    pub(super) fn needs(&self, pair: &PairId) -> Vec<(String, &'static [&'static str])> {
        let path = self.path(pair);
        needs(Role::Rotator)
            .iter()
            .map(|(tree, caps)| (format!("{}/{tree}/{path}", self.mount), *caps))
            .collect()
    }

    /// The policy that `role` needs for one tenant, in Vault's own language.
    ///
    /// What it does not name is refused: there is no `list`, so that no tenant can see that
    /// another exists, and no `delete`, which would hide a version without ending it.
    #[must_use]
    pub fn policy(&self, tenant: &TenantId, role: Role) -> String {
        let path = self.below(tenant.as_str(), "+");
        let does = match role {
            Role::Broker => "hands keys out: reads versions, changes nothing",
            Role::Rotator => "replaces keys: writes and destroys versions, keeps the witness",
        };
        let name = policy_name(tenant, role);
        let mut text = format!("# {name}: {does}\n");
        for (tree, capabilities) in needs(role) {
            text.push_str(&rule(&format!("{}/{tree}/{path}", self.mount), capabilities));
        }
        if role == Role::Rotator {
            text.push_str("# Whether the engine ends versions by the clock.\n");
            text.push_str(&rule(&format!("{}/config", self.mount), &["read"]));
        }
        text
    }
}

/// The name under which [`Place::policy`] is written as a rule.
#[must_use]
pub fn policy_name(tenant: &TenantId, role: Role) -> String {
    format!("keybaton-{}-{tenant}", role.word())
}

fn needs(role: Role) -> &'static [(&'static str, &'static [&'static str])] {
    match role {
        Role::Broker => &[("data", &["read"])],
        // Create and update are two: which one Vault asks for depends on whether the path exists.
        Role::Rotator => &[
            ("data", &["create", "read", "update"]),
            ("metadata", &["create", "read", "update"]),
            ("destroy", &["update"]),
        ],
    }
}

fn rule(path: &str, capabilities: &[&str]) -> String {
    let list: Vec<_> = capabilities.iter().map(|it| format!("\"{it}\"")).collect();
    format!("path \"{path}\" {{\n  capabilities = [{}]\n}}\n", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> PairId {
        PairId::new("acme".parse().expect("a tenant"), "openai".parse().expect("a provider"))
    }

    #[test]
    fn a_path_names_the_tenant_and_the_provider_below_the_prefix() {
        let place = |mount, prefix| Place::new(mount, prefix).expect("fits");
        let path = "tenants/acme/providers/openai/api_key";
        assert_eq!(place("kv", "").path(&pair()), path);
        assert_eq!(place("kv", "keybaton").path(&pair()), format!("keybaton/{path}"));
        let url = place("team/kv", "a/b").url(&pair()).join("/");
        assert_eq!(url, format!("v1/team/kv/data/a/b/{path}"));
    }

    #[test]
    fn a_policy_names_one_tenant_and_neither_lists_nor_deletes() {
        let place = Place::new("kv", "keybaton").expect("fits");
        let tenant: TenantId = "acme".parse().expect("a tenant");
        for role in [Role::Broker, Role::Rotator] {
            let text = place.policy(&tenant, role);
            assert!(text.contains("tenants/acme/providers/+/api_key\""), "{text}");
            for word in ["list", "delete", "sudo", "*", "deny"] {
                assert!(!text.contains(word), "{word} stands in {text}");
            }
        }
        let broker = place.policy(&tenant, Role::Broker);
        assert_eq!(broker.matches("path ").count(), 1);
        assert!(broker.contains("capabilities = [\"read\"]"), "{broker}");
    }
}
