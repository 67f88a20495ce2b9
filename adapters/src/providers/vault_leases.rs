//! Credentials that an engine of Vault makes on request: a read that answers with a lease.
//!
//! Issuing is the read, revoking ends the lease, and in between the lease is renewed in place at
//! half of its life, for as long as the version may be held. Facts from Vault's documentation of
//! `sys/leases` and of the database engine.
//!
//! A secret is the JSON text `{"lease_id": "…", "data": {"username": "…", "password": "…"}}`; the
//! fields of `data` are the engine's own. The lease's id is the provider key id: it names, and
//! opens nothing without a token.
//!
//! | other providers | here |
//! |---|---|
//! | a key bears our label | a lease bears no name of ours: the label is not sent |
//! | a key whose answer was lost is found by listing | nobody can find it; nobody renews it, so it ends |
//! | keys outlive the node | renewals end with the node, and its leases with them |
//!
//! **Invariant:** a listing says "there is none" only when every lease that this process may have
//! asked for under the label has ended by itself. For what another process asked for, the policy's
//! `sweep_horizon` must be as long: a label is not given up before it.
//! **Invariant:** no lease outside of the tenant's own role is revoked, renewed or looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp as Moment};
use keybaton_messages::{Label, ProviderKeyId, TenantId, Timestamp};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::http::BEARER;
use super::limits::{LEASE_LIFE_MAX_DEFAULT, LEASE_RENEW_EVERY_MIN};
use super::settings::Homes;
use crate::secrets::vault::{
    Act, Answer, Call, Failure, Session, Text, VaultError, VaultSettings, check_place,
};

/// The credentials of one engine of Vault, a role of it for each tenant.
pub struct VaultLeases {
    session: Arc<Session>,
    /// The path up to the role, such as `database/creds`.
    engine: String,
    homes: Homes,
    life_max: Duration,
    begun: Instant,
    /// Labels whose issue has had no definite end, and when it ended; `None` while it runs.
    open: Mutex<HashMap<Label, Option<Instant>>>,
    /// Who renews a lease.
    keepers: Mutex<HashMap<String, AbortHandle>>,
}

impl VaultLeases {
    /// Prepares the adapter; calls nobody. `engine` is the path up to the role, such as
    /// `database/creds`; a home's project is the tenant's role there. Of the settings, mount and
    /// prefix are not used: they are about stored secrets.
    ///
    /// # Errors
    /// [`VaultError`], each saying what to do next.
    pub fn new(vault: VaultSettings, engine: &str, homes: Homes) -> Result<Self, VaultError> {
        check_place("the path of the engine", engine, false)?;
        Ok(Self {
            session: Session::new(vault)?,
            engine: engine.to_owned(),
            homes,
            life_max: LEASE_LIFE_MAX_DEFAULT,
            begun: Instant::now(),
            open: Mutex::default(),
            keepers: Mutex::default(),
        })
    }

    /// The longest `default_ttl` of the roles. A lease whose answer was lost counts as alive for so
    /// long, and one that lives longer is refused.
    #[must_use]
    pub fn life_max(mut self, life: Duration) -> Self {
        self.life_max = life;
        self
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        act: Act,
    ) -> Result<Answer, Failure> {
        ask(&self.session, &method, path, body.as_ref(), act).await
    }

    /// The path of the tenant's role, inside Vault.
    fn path(&self, tenant: &TenantId) -> Result<String, Refusal> {
        let home = self.homes.of(tenant)?;
        Ok(format!("{}/{}", self.engine, home.project))
    }

    /// What the answer to a read holds.
    async fn taken(&self, answer: &Answer, path: &str) -> Result<IssuedKey, Refusal> {
        let made: Made = answer.read(Act::Write).map_err(into_refusal)?;
        let Some(life) = made.life() else {
            let why = format!("{path} gives no lease: name an engine that makes credentials");
            return Err(Refusal::denied(Denial::BadRequest, why));
        };
        let unusable = || Refusal::unknown("the answer names no usable lease");
        if !is_lease_of(&made.lease_id, path) {
            return Err(unusable());
        }
        if life > self.life_max {
            let why = |_| Refusal::unknown("a lease that lives too long could not be given back");
            self.end(&made.lease_id).await.map_err(why)?;
            let why = format!(
                "a lease of {path} lives {life:?}, longer than the {:?} after which a lost one \
                 counts as ended: shorten the role's default_ttl, or raise life_max",
                self.life_max
            );
            return Err(Refusal::denied(Denial::BadRequest, why));
        }
        let key_id = ProviderKeyId::new(&made.lease_id).map_err(|_| unusable())?;
        let secret = made.secret()?;
        let left = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        let end = Moment::now().saturating_add(left).unwrap_or(Moment::MAX);
        let end = u64::try_from(end.as_millisecond()).unwrap_or(u64::MAX);
        if made.renewable {
            self.keep(made.lease_id, life);
        }
        // Renewals are not counted on: they end with this process.
        Ok(IssuedKey { key_id, secret, expires_at: Some(Timestamp(end)) })
    }

    /// Renews the lease from now on.
    fn keep(&self, lease: String, life: Duration) {
        let keeper = tokio::spawn(keep(Arc::downgrade(&self.session), lease.clone(), life));
        let mut keepers = self.keepers.lock();
        keepers.retain(|_, keeper| !keeper.is_finished());
        keepers.insert(lease, keeper.abort_handle());
    }

    /// Ends a lease and looks whether it has ended.
    async fn end(&self, lease: &str) -> Result<(), Refusal> {
        let body = json!({ "lease_id": lease, "sync": true });
        let ended = self.ask(Method::PUT, "sys/leases/revoke", Some(body), Act::Write).await;
        ended.map_err(into_refusal)?;
        match self.is_alive(lease).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Refusal::unknown("the revoked lease is still there")),
            Err(_) => Err(Refusal::unknown("the lease was revoked, but looking for it failed")),
        }
    }

    async fn is_alive(&self, lease: &str) -> Result<bool, Refusal> {
        let body = json!({ "lease_id": lease });
        let looked = self.ask(Method::PUT, "sys/leases/lookup", Some(body), Act::Read).await;
        let answer = looked.map_err(into_refusal)?;
        if answer.is_absent {
            return Ok(false);
        }
        let looked: Looked = answer.read(Act::Read).map_err(into_refusal)?;
        Ok(looked.data.ttl > 0)
    }
}

impl Drop for VaultLeases {
    fn drop(&mut self) {
        for keeper in self.keepers.get_mut().values() {
            keeper.abort();
        }
    }
}

#[async_trait]
impl Provider for VaultLeases {
    fn capabilities(&self) -> Capabilities {
        // How long a lease lives is the role's business.
        Capabilities { class: Class::A, person_issues: false, lifetime: false }
    }

    fn auth_header(&self) -> AuthHeader {
        BEARER
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let path = self.path(tenant)?;
        self.session.check_lasting().await?;
        let paths = [path.as_str(), "sys/leases/revoke", "sys/leases/renew", "sys/leases/lookup"];
        let body = json!({ "paths": paths });
        let asked = self.ask(Method::POST, "sys/capabilities-self", Some(body), Act::Read).await;
        let answer = asked.map_err(into_refusal)?;
        let said: Rights = answer.read(Act::Read).map_err(into_refusal)?;
        for (place, path) in paths.into_iter().enumerate() {
            let needed = if place == 0 { "read" } else { "update" };
            let may = |word: &str| {
                let list = said.data.get(path).and_then(serde_json::Value::as_array);
                list.is_some_and(|list| list.iter().any(|it| it.as_str() == Some(word)))
            };
            if !may(needed) && !may("root") {
                let why = format!("Vault's token may not {needed} {path}: docs/howto/vault.md");
                return Err(Refusal::denied(Denial::Admin, why));
            }
        }
        Ok(())
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let path = self.path(&request.tenant)?;
        let mut asking = Asking::begin(self, &request.label);
        let issued = match self.ask(Method::GET, &path, None, Act::Write).await {
            Ok(answer) if answer.is_absent => Err(into_refusal(Failure::Absent)),
            Ok(answer) => self.taken(&answer, &path).await,
            Err(failure) => Err(into_refusal(failure)),
        };
        asking.is_definite = !matches!(issued, Err(Refusal::Unknown { .. }));
        issued
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        if !is_lease_of(key.as_str(), &self.path(tenant)?) {
            let why = "the lease is of another role than the tenant's";
            return Err(Refusal::denied(Denial::WrongTenant, why));
        }
        let keeper = self.keepers.lock().remove(key.as_str());
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        self.end(key.as_str()).await
    }

    /// Leases cannot be listed by label. Until the last one that may bear it must have ended,
    /// nobody can tell; afterwards there is none.
    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        self.path(tenant)?;
        let mut open = self.open.lock();
        open.retain(|_, ended| ended.is_none_or(|ended| ended.elapsed() < self.life_max));
        let ours = open.iter().filter(|(label, _)| label.as_str().starts_with(prefix));
        let ends = ours.map(|(_, ended)| ended.unwrap_or_else(Instant::now));
        // Of what was asked before this process began, nothing is known.
        let last = ends.max().unwrap_or(self.begun);
        let left = self.life_max.saturating_sub(last.elapsed());
        if left.is_zero() {
            return Ok(Vec::new());
        }
        let why = format!("a lease that was lost ends by itself, within {} s", left.as_secs() + 1);
        Err(Refusal::Busy { after: Some(left), why })
    }

    /// Asks Vault whether the lease is alive. What it opens is not tried.
    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health {
        let Ok(path) = self.path(tenant) else {
            return Health::Unknown;
        };
        match serde_json::from_slice::<Bare>(secret.expose()) {
            Ok(bare) if is_lease_of(&bare.lease_id, &path) => {
                match self.is_alive(&bare.lease_id).await {
                    Ok(true) => Health::Alive,
                    Ok(false) => Health::Dead,
                    Err(_) => Health::Unknown,
                }
            }
            _ => Health::Dead,
        }
    }
}

/// An issue under way; also one that is dropped half way leaves its label behind.
struct Asking<'a> {
    leases: &'a VaultLeases,
    label: &'a Label,
    is_definite: bool,
}

impl<'a> Asking<'a> {
    fn begin(leases: &'a VaultLeases, label: &'a Label) -> Self {
        leases.open.lock().insert(label.clone(), None);
        Self { leases, label, is_definite: false }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut open = self.leases.open.lock();
        match self.is_definite {
            true => drop(open.remove(self.label)),
            // Vault may have acted at the very last moment.
            false => drop(open.insert(self.label.clone(), Some(Instant::now()))),
        }
    }
}

/// Renews a lease at half of its life until it ends, is revoked or the adapter is gone.
async fn keep(session: Weak<Session>, lease: String, mut life: Duration) {
    let mut ends = Instant::now() + life;
    loop {
        sleep((life / 2).max(LEASE_RENEW_EVERY_MIN)).await;
        let Some(session) = session.upgrade() else {
            return;
        };
        let body = json!({ "lease_id": lease });
        let asked = Instant::now();
        let renewed = ask(&session, &Method::PUT, "sys/leases/renew", Some(&body), Act::Read).await;
        match renewed.and_then(|answer| answer.read::<Renewed>(Act::Read)) {
            Ok(renewed) if renewed.lease_duration > 0 => {
                life = Duration::from_secs(renewed.lease_duration);
                ends = asked + life;
            }
            Err(Failure::Refused(Refusal::Busy { .. })) if Instant::now() < ends => {
                // What is left is halved again, so that there are several tries.
                life = ends.saturating_duration_since(Instant::now());
            }
            _ => {
                tracing::warn!(
                    lease,
                    "a lease of Vault is not renewed any more; it ends by itself"
                );
                return;
            }
        }
    }
}

async fn ask(
    session: &Arc<Session>,
    method: &Method,
    path: &str,
    body: Option<&serde_json::Value>,
    act: Act,
) -> Result<Answer, Failure> {
    let path: Vec<String> =
        std::iter::once("v1").chain(path.split('/')).map(str::to_owned).collect();
    let path = &path;
    session
        .ask(|live| async move {
            let body = body.map(|body| Zeroizing::new(body.to_string().into_bytes()));
            let (method, token) = (method.clone(), Some(&live.token));
            session.wire.send(Call { method, path, query: &[], body, token, act }).await
        })
        .await
}

/// Whether the lease was made at this path: `{path}/{random}`.
fn is_lease_of(lease: &str, path: &str) -> bool {
    let own = lease.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
    own.is_some_and(|own| check_place("a lease", own, false).is_ok() && !own.contains('/'))
}

fn into_refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Forbidden => Refusal::denied(
            Denial::Admin,
            "Vault's policies do not allow this: docs/howto/vault.md names what leases need",
        ),
        other => other.into_refusal(),
    }
}

/// What Vault answers to a read of a role.
#[derive(Deserialize)]
struct Made {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    data: BTreeMap<String, Text>,
}

impl Made {
    fn life(&self) -> Option<Duration> {
        let is_lease = !self.lease_id.is_empty() && self.lease_duration > 0;
        is_lease.then(|| Duration::from_secs(self.lease_duration))
    }

    /// The credential as one JSON text. Fields that are not texts are left out.
    fn secret(&self) -> Result<Secret, Refusal> {
        let fields = || self.data.iter().filter_map(|(name, text)| Some((name, text.get()?)));
        // An escape takes six bytes for one, so the buffer never moves.
        let needed: usize = fields().map(|(name, text)| 6 * (name.len() + text.len()) + 8).sum();
        let mut json = Zeroizing::new(Vec::with_capacity(needed + self.lease_id.len() + 64));
        json.extend_from_slice(
            format!("{{\"lease_id\":\"{}\",\"data\":{{", self.lease_id).as_bytes(),
        );
        for (place, (name, text)) in fields().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            for (part, end) in [(name.as_str(), b':'), (text, b' ')] {
                serde_json::to_writer(&mut *json, part).expect("texts are JSON");
                json.push(end);
            }
        }
        json.extend_from_slice(b"}}");
        let unusable = |_| Refusal::unknown("the answer holds no usable credential");
        Secret::new(std::mem::take(&mut *json)).map_err(unusable)
    }
}

/// The part of a secret that names its lease.
#[derive(Deserialize)]
struct Bare {
    lease_id: String,
}

#[derive(Deserialize)]
struct Looked {
    data: Life,
}

#[derive(Deserialize)]
struct Life {
    ttl: i64,
}

#[derive(Deserialize)]
struct Renewed {
    #[serde(default)]
    lease_duration: u64,
}

#[derive(Deserialize)]
struct Rights {
    data: HashMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_belongs_to_the_role_that_made_it() {
        let path = "database/creds/acme";
        for (lease, is_ours) in [
            ("database/creds/acme/Xb2", true),
            ("database/creds/acme2/Xb2", false),
            ("database/creds/acme/", false),
            ("database/creds/acme", false),
            ("database/creds/acme/../umbrella/Xb2", false),
            ("database/creds/acme/a/b", false),
            ("aws/creds/acme/Xb2", false),
        ] {
            assert_eq!(is_lease_of(lease, path), is_ours, "{lease}");
        }
    }

    #[test]
    fn a_credential_is_the_engines_texts_beside_the_lease() {
        let answer = r#"{"lease_id": "d/c/a/1", "lease_duration": 60, "renewable": true,
            "data": {"username": "v-\"u\"", "password": "p\\w\u0001", "ttl": 5, "token": null}}"#;
        let made: Made = serde_json::from_str(answer).expect("Vault's form");
        let secret = made.secret().expect("fits");
        let read: serde_json::Value = serde_json::from_slice(secret.expose()).expect("JSON");
        let data = json!({ "username": "v-\"u\"", "password": "p\\w\u{1}" });
        assert_eq!(read, json!({ "lease_id": "d/c/a/1", "data": data }));
    }

    #[test]
    fn a_read_without_a_lease_makes_nothing() {
        for answer in [r#"{"data": {"a": "b"}}"#, r#"{"lease_id": "x/1", "lease_duration": 0}"#] {
            let made: Made = serde_json::from_str(answer).expect("an object");
            assert!(made.life().is_none(), "{answer}");
        }
    }
}
