//! OpenAI: keys of service accounts, one project per tenant.
//!
//! Facts from OpenAI's published specification of 2026-08-21 and its client openai-node 7.55.0
//! (2026-11-10). Keys coexist; a key is shown once and cannot be asked for again, so a lost answer
//! leaves an orphan that is found by its name. There is no idempotency key for creating keys.
//!
//! A provider key id reads `project/account/key`; with `/own` behind it, the account was made
//! for this key alone and goes with it.
//!
//! **Invariant:** nothing of a project that is not the tenant's is changed or listed.

mod wire;

use async_trait::async_trait;
use keybaton_messages::{Label, ProviderKeyId, TenantId};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use reqwest::{Method, StatusCode};

use super::http::{Answer, BEARER, Credential, Http};
use super::limits::{LIST_PAGES_MAX, LIST_WAIT_MAX, PAGE_KEYS};
use super::outcome::{Act, body_of, health, read, refusal, says};
use super::settings::{Homes, ProviderSettings, SettingsError};
use wire::{MadeAccount, MadeKey, Models, NewKey, Page, Place, Row, seconds, write};

/// OpenAI's public address.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// Keys at OpenAI, or at anything that speaks its administration API.
pub struct OpenAi {
    http: Http,
    admin_key: Secret,
    homes: Homes,
    scopes: Option<Vec<String>>,
    class: Class,
}

impl OpenAi {
    /// Prepares the adapter; calls nobody.
    ///
    /// # Errors
    /// [`SettingsError`] for an address that must not be called and for an empty list of scopes:
    /// at OpenAI that means every permission, not none.
    pub fn new(settings: ProviderSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        if settings.scopes.as_ref().is_some_and(Vec::is_empty) {
            let why = "an empty list means every permission at OpenAI: name some, or leave it out";
            return Err(SettingsError::Scopes { why });
        }
        let base_url = settings.base_url.as_deref().unwrap_or(OPENAI_BASE_URL);
        Ok(Self {
            http: Http::new(base_url, settings.call_wait_max)?,
            admin_key: settings.admin_key,
            homes: settings.homes,
            scopes: settings.scopes,
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

    /// An additional key of the tenant's account (openai-node 7.4.0, 2026-08-03).
    async fn issue_at(
        &self,
        project: &str,
        account: &str,
        request: &IssueRequest,
    ) -> Result<IssuedKey, Refusal> {
        let path = [ORGANIZATION, PROJECTS, project, ACCOUNTS, account, KEYS];
        let body = write(&NewKey {
            name: request.label.as_str(),
            scopes: self.scopes.as_deref(),
            expires_in_seconds: seconds(request.lifetime),
        });
        let answer = self.ask(Method::POST, &path, &[], Some(body)).await?;
        made_at(answer, project, account, &request.label)
    }

    /// An account with one key. The label names the account.
    async fn issue_own(&self, project: &str, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        if self.scopes.is_some() {
            let why = "an account's first key takes no scopes: configure a service account";
            return Err(Refusal::denied(Denial::BadRequest, why));
        }
        let body = write(&NewKey {
            name: request.label.as_str(),
            scopes: None,
            expires_in_seconds: seconds(request.lifetime),
        });
        let path = [ORGANIZATION, PROJECTS, project, ACCOUNTS];
        let answer = self.ask(Method::POST, &path, &[], Some(body)).await?;
        made_own(answer, project, &request.label)
    }

    /// Every key of `project`, whoever owns it.
    async fn rows(&self, project: &str) -> Result<Vec<Row>, Refusal> {
        let listing = async {
            let mut rows = Vec::new();
            let mut after: Option<String> = None;
            for _ in 0..LIST_PAGES_MAX {
                let page = self.page(project, PAGE_KEYS, after.as_deref()).await?;
                let last = page.last_id.or_else(|| page.data.last().map(|row| row.id.clone()));
                rows.extend(page.data);
                if !page.has_more {
                    return Ok(rows);
                }
                if last.is_none() || last == after {
                    return Err(Refusal::unknown("the listing goes on but not forward"));
                }
                after = last;
            }
            Err(Refusal::denied(Denial::TooLarge, "the project has more keys than are listed"))
        };
        let in_time = tokio::time::timeout(LIST_WAIT_MAX, listing).await;
        in_time.unwrap_or_else(|_| Err(Refusal::unknown("the listing took too long")))
    }

    /// `owner_project_access=any`: the default listing leaves out keys that work when their
    /// owner's access to the project is inherited (specification of 2026-08-21).
    async fn page(
        &self,
        project: &str,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page, Refusal> {
        let limit = limit.to_string();
        let mut query = vec![("owner_project_access", "any"), ("limit", limit.as_str())];
        query.extend(after.map(|id| ("after", id)));
        let path = [ORGANIZATION, PROJECTS, project, KEYS];
        let answer = self.ask(Method::GET, &path, &query, None).await?;
        page_of(answer)
    }

    /// Deletes the key, or the account that exists for it alone. `true`: this call did it;
    /// `false`: it was not there.
    async fn delete(&self, place: &Place<'_>) -> Result<bool, Refusal> {
        let Place { project, account, key, is_own } = *place;
        let path: &[&str] = if is_own {
            // Since 2026-10-22 a single key can be deleted as well, which would leave the account
            // behind; before, only this worked.
            &[ORGANIZATION, PROJECTS, project, ACCOUNTS, account]
        } else {
            &[ORGANIZATION, PROJECTS, project, KEYS, key]
        };
        was_deleted(&self.ask(Method::DELETE, path, &[], None).await?)
    }
}

/// What the answer to an additional key holds.
pub(super) fn made_at(
    answer: Answer,
    project: &str,
    account: &str,
    label: &Label,
) -> Result<IssuedKey, Refusal> {
    let key: MadeKey = read(&body_of(answer, Act::Create)?)?;
    if key.name != label.as_str() {
        return Err(Refusal::unknown("the answer is about a key of another name"));
    }
    key.issued(project, account, false)
}

/// What the answer to an account with one key holds.
pub(super) fn made_own(answer: Answer, project: &str, label: &Label) -> Result<IssuedKey, Refusal> {
    let made: MadeAccount = read(&body_of(answer, Act::Create)?)?;
    if made.name != label.as_str() {
        return Err(Refusal::unknown("the answer is about an account of another name"));
    }
    // Fails closed: another name is another key, and nothing else in the answer would tell.
    if ![FIRST_KEY_NAME, label.as_str()].contains(&made.api_key.name.as_str()) {
        return Err(Refusal::unknown("the answer holds a key of another name"));
    }
    made.api_key.issued(project, &made.id, true)
}

/// What one page of a listing holds.
fn page_of(answer: Answer) -> Result<Page, Refusal> {
    let page: Page = read(&body_of(answer, Act::Read)?)?;
    if page.data.iter().all(Row::is_sound) {
        Ok(page)
    } else {
        Err(Refusal::unknown("the listing holds an id that no vendor would give"))
    }
}

/// The same as keys.
pub(super) fn listed_of(answer: Answer, project: &str) -> Result<Vec<ListedKey>, Refusal> {
    page_of(answer)?.data.into_iter().map(|row| row.listed(project)).collect()
}

/// `true`: this call deleted the key; `false`: it was not there.
pub(super) fn was_deleted(answer: &Answer) -> Result<bool, Refusal> {
    match answer.status {
        StatusCode::NOT_FOUND => Ok(false),
        status if status.is_success() => Ok(true),
        StatusCode::BAD_REQUEST if says(answer, &["service account"]) => {
            let why = "this organization cannot delete one key of a service account: \
                       configure no account, so that each key gets its own";
            Err(Refusal::denied(Denial::BadRequest, why))
        }
        _ => Err(refusal(answer, Act::Delete)),
    }
}

/// What a probe's answer says about the key.
pub(super) fn probed(answer: Result<Answer, Refusal>) -> Health {
    health(answer, |body| serde_json::from_slice::<Models>(body).is_ok())
}

#[async_trait]
impl Provider for OpenAi {
    fn capabilities(&self) -> Capabilities {
        Capabilities { class: self.class, person_issues: false, lifetime: true }
    }

    fn auth_header(&self) -> AuthHeader {
        BEARER
    }

    /// Limits of keys are not published and cannot be asked for.
    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let home = self.homes.of(tenant)?;
        self.page(&home.project, 1, None).await.map(drop)
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let home = self.homes.of(&request.tenant)?;
        match &home.account {
            Some(account) => self.issue_at(&home.project, account, request).await,
            None => self.issue_own(&home.project, request).await,
        }
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        let home = self.homes.of(tenant)?;
        let place = Place::parse(key)?;
        if place.project != home.project {
            let why = format!("the key is of project {}, not of the tenant's", place.project);
            return Err(Refusal::denied(Denial::WrongTenant, why));
        }
        let was_deleted = self.delete(&place).await?;
        match self.rows(&home.project).await {
            Ok(rows) if rows.iter().all(|row| row.id != place.key) => Ok(()),
            Ok(_) => Err(Refusal::unknown("the deleted key is still listed")),
            Err(_) if was_deleted => {
                Err(Refusal::unknown("the key was deleted, but the listing failed"))
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        let home = self.homes.of(tenant)?;
        let rows = self.rows(&home.project).await?;
        rows.into_iter()
            .map(|row| row.listed(&home.project))
            .filter(|key| key.as_ref().map_or(true, |key| key.name.starts_with(prefix)))
            .collect()
    }

    /// `GET /models`: free, and nearly every key may.
    async fn probe(&self, _: &TenantId, secret: &Secret) -> Health {
        // What no header can carry opens nothing.
        let Some(credential) = Credential::new(BEARER, secret) else {
            return Health::Dead;
        };
        probed(self.http.try_key(&["models"], credential).await)
    }
}

/// What OpenAI calls the key that comes with an account (specification of 2026-08-21).
const FIRST_KEY_NAME: &str = "Secret Key";

const ORGANIZATION: &str = "organization";
const PROJECTS: &str = "projects";
const ACCOUNTS: &str = "service_accounts";
const KEYS: &str = "api_keys";

#[cfg(test)]
mod answers;
#[cfg(test)]
mod tests;
