//! OpenRouter: keys of a workspace, one workspace per tenant.
//!
//! Facts from OpenRouter's published specification (docs repository, 2026-08). Keys coexist. A
//! provider key id reads `workspace/hash`; the hash alone names a key, the workspace keeps tenants
//! apart.
//!
//! **Invariant:** nothing of a workspace that is not the tenant's is changed or listed.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp as Moment};
use keybaton_messages::{Label, ProviderKeyId, TenantId, Timestamp};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use reqwest::{Method, StatusCode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::base_url::is_path_part;
use super::http::{Answer, BEARER, Credential, Http};
use super::key::KeyText;
use super::limits::{LIFETIME_SECONDS_MAX, LIST_PAGES_MAX, LIST_WAIT_MAX, PAGE_OVERLAP_KEYS};
use super::outcome::{Act, body_of, health, read, refusal};
use super::settings::{Homes, ProviderSettings, SettingsError};

/// OpenRouter's public address.
pub const OPENROUTER_BASE_URL: &str = "https://openrouter.ai/api/v1";

/// Keys at OpenRouter.
pub struct OpenRouter {
    http: Http,
    admin_key: Secret,
    homes: Homes,
    class: Class,
}

impl OpenRouter {
    /// Prepares the adapter; calls nobody. The homes' projects are workspaces.
    ///
    /// # Errors
    /// [`SettingsError`] for an address that must not be called and for scopes, which OpenRouter
    /// does not have.
    pub fn new(settings: ProviderSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        if settings.scopes.is_some() {
            let why = "keys of OpenRouter have none: leave them out";
            return Err(SettingsError::Scopes { why });
        }
        let base_url = settings.base_url.as_deref().unwrap_or(OPENROUTER_BASE_URL);
        Ok(Self {
            http: Http::new(base_url, settings.call_wait_max)?,
            admin_key: settings.admin_key,
            homes: settings.homes,
            class: settings.class,
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Refusal> {
        self.http.ask(&self.admin_key, method, path, query, body).await
    }

    async fn page(&self, workspace: &str, offset: usize) -> Result<Vec<Row>, Refusal> {
        let offset = offset.to_string();
        // A disabled key can be enabled again, so it is not gone.
        let query =
            [("workspace_id", workspace), ("include_disabled", "true"), ("offset", &offset)];
        let answer = self.ask(Method::GET, &["keys"], &query, None).await?;
        page_of(answer)
    }

    /// Every key of `workspace`. Pages are counted by offset, so that keys deleted meanwhile move
    /// the others: pages overlap, and a listing ends with a page that tells nothing new.
    async fn rows(&self, workspace: &str) -> Result<Vec<Row>, Refusal> {
        let listing = async {
            let (mut rows, mut known, mut offset) = (Vec::new(), HashSet::new(), 0);
            for _ in 0..LIST_PAGES_MAX {
                let page = self.page(workspace, offset).await?;
                offset += page.len().saturating_sub(PAGE_OVERLAP_KEYS).max(1);
                let before = rows.len();
                rows.extend(page.into_iter().filter(|row| known.insert(row.hash.clone())));
                if rows.len() == before {
                    return Ok(rows);
                }
            }
            Err(Refusal::denied(Denial::TooLarge, "the workspace has more keys than are listed"))
        };
        let in_time = tokio::time::timeout(LIST_WAIT_MAX, listing).await;
        in_time.unwrap_or_else(|_| Err(Refusal::unknown("the listing took too long")))
    }

    /// Absent from the listing, and not found by its own name either, which no page can skip.
    async fn is_gone(&self, workspace: &str, hash: &str) -> Result<bool, Refusal> {
        let rows = self.rows(workspace).await?;
        let answer = self.ask(Method::GET, &["keys", hash], &[], None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(rows.iter().all(|row| row.hash != hash)),
            status if status.is_success() => Ok(false),
            _ => Err(refusal(&answer, Act::Read)),
        }
    }
}

#[async_trait]
impl Provider for OpenRouter {
    fn capabilities(&self) -> Capabilities {
        Capabilities { class: self.class, person_issues: false, lifetime: true }
    }

    fn auth_header(&self) -> AuthHeader {
        BEARER
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let home = self.homes.of(tenant)?;
        self.page(&home.project, 0).await.map(drop)
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let home = self.homes.of(&request.tenant)?;
        let expires_at = request.lifetime.map(|life| {
            let seconds = life.as_secs().clamp(1, LIFETIME_SECONDS_MAX);
            let life = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            // Whole seconds in UTC: "other timezones will be rejected".
            let end = Moment::now().saturating_add(life).unwrap_or(Moment::MAX);
            end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        });
        let body = serde_json::to_vec(&NewKey {
            name: request.label.as_str(),
            workspace_id: &home.project,
            expires_at,
        });
        let body = body.expect("texts are JSON");
        let answer = self.ask(Method::POST, &["keys"], &[], Some(body)).await?;
        made(answer, &home.project, &request.label)
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        let home = self.homes.of(tenant)?;
        let parts = key.as_str().split_once('/').filter(|(_, hash)| is_path_part(hash));
        let Some((workspace, hash)) = parts else {
            return Err(Refusal::denied(Denial::BadRequest, "the key id is not workspace/hash"));
        };
        if workspace != home.project {
            let why = "the key is of another workspace than the tenant's";
            return Err(Refusal::denied(Denial::WrongTenant, why));
        }
        let answer = self.ask(Method::DELETE, &["keys", hash], &[], None).await?;
        let was_deleted = was_deleted(&answer)?;
        match self.is_gone(workspace, hash).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::unknown("the deleted key is still there")),
            Err(_) if was_deleted => {
                Err(Refusal::unknown("the key was deleted, but looking for it failed"))
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        let home = self.homes.of(tenant)?;
        let rows = self.rows(&home.project).await?;
        rows.into_iter()
            .filter(|row| row.name.starts_with(prefix))
            .map(|row| row.listed(&home.project))
            .collect()
    }

    /// `GET /key` tells a key about itself.
    async fn probe(&self, _: &TenantId, secret: &Secret) -> Health {
        // What no header can carry opens nothing.
        let Some(credential) = Credential::new(BEARER, secret) else {
            return Health::Dead;
        };
        probed(self.http.try_key(&["key"], credential).await)
    }
}

/// What the answer to an issue holds.
pub(super) fn made(answer: Answer, workspace: &str, label: &Label) -> Result<IssuedKey, Refusal> {
    let made: Made = read(&body_of(answer, Act::Create)?)?;
    if made.data.name != label.as_str() {
        return Err(Refusal::unknown("the answer is about a key of another name"));
    }
    made.issued(workspace)
}

/// What one page of a listing holds.
fn page_of(answer: Answer) -> Result<Vec<Row>, Refusal> {
    let page: Page = read(&body_of(answer, Act::Read)?)?;
    if page.data.iter().all(|row| is_path_part(&row.hash)) {
        Ok(page.data)
    } else {
        Err(Refusal::unknown("the listing holds a hash that no vendor would give"))
    }
}

/// The same as keys.
pub(super) fn listed_of(answer: Answer, workspace: &str) -> Result<Vec<ListedKey>, Refusal> {
    page_of(answer)?.into_iter().map(|row| row.listed(workspace)).collect()
}

/// `true`: this call deleted the key; `false`: it was not there.
pub(super) fn was_deleted(answer: &Answer) -> Result<bool, Refusal> {
    match answer.status {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(refusal(answer, Act::Delete)),
    }
}

/// What a probe's answer says about the key.
pub(super) fn probed(answer: Result<Answer, Refusal>) -> Health {
    health(answer, |body| serde_json::from_slice::<Itself>(body).is_ok())
}

#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    workspace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Made {
    key: KeyText,
    data: Row,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    hash: String,
    name: String,
    expires_at: Option<String>,
}

impl Row {
    fn listed(self, workspace: &str) -> Result<ListedKey, Refusal> {
        Ok(ListedKey { key_id: key_id(workspace, &self.hash)?, name: self.name })
    }
}

#[derive(Deserialize)]
struct Itself {
    #[serde(rename = "data")]
    _data: std::collections::BTreeMap<String, IgnoredAny>,
}

impl Made {
    fn issued(self, workspace: &str) -> Result<IssuedKey, Refusal> {
        let key_id = key_id(workspace, &self.data.hash)?;
        let expires_at = self.data.expires_at.as_deref().map(moment).transpose()?;
        let secret = self.key.into_secret().map_err(Refusal::unknown)?;
        Ok(IssuedKey { key_id, secret, expires_at })
    }
}

fn moment(text: &str) -> Result<Timestamp, Refusal> {
    let millis = text.parse::<Moment>().ok().map(Moment::as_millisecond);
    match millis.map(u64::try_from) {
        Some(Ok(millis)) => Ok(Timestamp(millis)),
        _ => Err(Refusal::unknown("the answer names no usable expiry")),
    }
}

fn key_id(workspace: &str, hash: &str) -> Result<ProviderKeyId, Refusal> {
    let id = ProviderKeyId::new(&format!("{workspace}/{hash}")).ok();
    id.filter(|_| is_path_part(hash))
        .ok_or_else(|| Refusal::unknown("the answer names no usable hash"))
}

#[cfg(test)]
mod tests;
