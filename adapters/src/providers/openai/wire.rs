//! What OpenAI's administration API reads and writes, field by field, and how its ids are joined.

use std::time::Duration;

use keybaton_messages::{Label, ProviderKeyId, Timestamp};
use keybaton_ports::{Denial, IssuedKey, ListedKey, Refusal};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::providers::base_url::is_path_part;
use crate::providers::key::KeyText;
use crate::providers::limits::LIFETIME_SECONDS_MAX;

/// Behind an id: the account was made for this key alone.
const OWN: &str = "own";

/// Where a key is, as its id tells.
pub(super) struct Place<'a> {
    pub(super) project: &'a str,
    pub(super) account: &'a str,
    pub(super) key: &'a str,
    pub(super) is_own: bool,
}

impl<'a> Place<'a> {
    pub(super) fn parse(id: &'a ProviderKeyId) -> Result<Self, Refusal> {
        let parts: Vec<&str> = id.as_str().split('/').collect();
        let (project, account, key, is_own) = match parts[..] {
            [project, account, key] => (project, account, key, false),
            [project, account, key, OWN] => (project, account, key, true),
            _ => return Err(foreign_id()),
        };
        if [project, account, key].into_iter().all(is_path_part) {
            Ok(Self { project, account, key, is_own })
        } else {
            Err(foreign_id())
        }
    }

    pub(super) fn id(&self) -> Option<ProviderKeyId> {
        let Self { project, account, key, is_own } = self;
        let end = if *is_own { "/own" } else { "" };
        let fits = [project, account, key].into_iter().all(|part| is_path_part(part));
        ProviderKeyId::new(&format!("{project}/{account}/{key}{end}")).ok().filter(|_| fits)
    }
}

pub(super) fn foreign_id() -> Refusal {
    Refusal::denied(Denial::BadRequest, "the key id is not project/account/key")
}

/// `CreateProjectServiceAccountApiKeyBody`, and `ProjectServiceAccountCreateRequest` without
/// scopes. Absent fields mean the defaults.
#[derive(Serialize)]
pub(super) struct NewKey<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_in_seconds: Option<u64>,
}

/// `ServiceAccountApiKeyBody`, and the `api_key` of a new account.
#[derive(Deserialize)]
pub(super) struct MadeKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) value: KeyText,
    pub(super) expires_at: Option<u64>,
}

impl MadeKey {
    pub(super) fn issued(
        self,
        project: &str,
        account: &str,
        is_own: bool,
    ) -> Result<IssuedKey, Refusal> {
        let place = Place { project, account, key: &self.id, is_own };
        let Some(key_id) = place.id() else {
            return Err(Refusal::unknown("the answer names no usable key id"));
        };
        let expires_at = match self.expires_at.map(|at| at.checked_mul(1000)) {
            Some(None) => return Err(Refusal::unknown("the answer names no usable expiry")),
            Some(Some(millis)) => Some(Timestamp(millis)),
            None => None,
        };
        let secret = self.value.into_secret().map_err(Refusal::unknown)?;
        Ok(IssuedKey { key_id, secret, expires_at })
    }
}

/// `ProjectServiceAccountCreateResponse`.
#[derive(Deserialize)]
pub(super) struct MadeAccount {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) api_key: MadeKey,
}

/// `ProjectApiKeyListResponse`.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Row>,
    pub(super) last_id: Option<String>,
    pub(super) has_more: bool,
}

/// `ProjectApiKey`.
#[derive(Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) owner: Option<Owner>,
}

#[derive(Deserialize)]
pub(super) struct Owner {
    pub(super) service_account: Option<OwnerAccount>,
}

#[derive(Deserialize)]
pub(super) struct OwnerAccount {
    pub(super) id: String,
    pub(super) name: Option<String>,
}

/// Stands for the account in the id of a key that a person owns.
const NO_ACCOUNT: &str = "user";

impl Row {
    pub(super) fn is_sound(&self) -> bool {
        let account = self.account().map(|account| &account.id);
        std::iter::once(&self.id).chain(account).all(|id| is_path_part(id))
    }

    pub(super) fn account(&self) -> Option<&OwnerAccount> {
        self.owner.as_ref()?.service_account.as_ref()
    }

    /// A key is known by its own name, or by its account's when that is one of our labels.
    pub(super) fn listed(&self, project: &str) -> Result<ListedKey, Refusal> {
        let own_name = self.name.as_deref().unwrap_or_default();
        let label = self
            .account()
            .and_then(|account| account.name.as_deref())
            .filter(|name| name.parse::<Label>().is_ok() && own_name.parse::<Label>().is_err());
        let account = self.account().map_or(NO_ACCOUNT, |account| &account.id);
        let place = Place { project, account, key: &self.id, is_own: label.is_some() };
        let key_id = place.id();
        let key_id = key_id.ok_or_else(|| Refusal::unknown("a listed key has no usable id"))?;
        Ok(ListedKey { key_id, name: label.unwrap_or(own_name).to_owned() })
    }
}

/// `GET /models`, as far as it proves that OpenAI answered.
#[derive(Deserialize)]
pub(super) struct Models {
    #[serde(rename = "data")]
    pub(super) _data: Vec<IgnoredAny>,
}

pub(super) fn seconds(lifetime: Option<Duration>) -> Option<u64> {
    lifetime.map(|life| life.as_secs().clamp(1, LIFETIME_SECONDS_MAX))
}

pub(super) fn write(body: &NewKey<'_>) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts and numbers are JSON")
}
