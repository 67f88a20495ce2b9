//! A model provider in memory: honest books, and faults where a test asks for them.
//!
//! [`FakeVendor`] is the vendor, [`FakeProvider`] a way to call it; several may share one vendor,
//! as several nodes do. It passes the same conformance cases as the adapters.
//!
//! **Invariant:** what an answer says and what the books say differ only where a fault was armed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keybaton_messages::{ProviderKeyId, TenantId, Timestamp};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use keybaton_simulator::{Fault, Op};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Name of the keys that a wrong answer gives away.
const FOREIGN_NAME: &str = "foreign";

struct Key {
    id: ProviderKeyId,
    tenant: TenantId,
    name: String,
    secret: Secret,
    is_alive: bool,
    /// In the listing from here on; `None`: from its birth on.
    listed_from: Option<Instant>,
    is_deleted: bool,
}

/// A key as the vendor's books show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The vendor's name for it.
    pub id: ProviderKeyId,
    /// Whose.
    pub tenant: TenantId,
    /// The name that was given to it.
    pub name: String,
    /// Whether it authenticates.
    pub is_alive: bool,
}

struct Books {
    class: Class,
    tenants: Vec<TenantId>,
    keys: Vec<Key>,
    armed: VecDeque<(Op, Fault)>,
}

/// The vendor: its keys, and what goes wrong next.
pub struct FakeVendor(Mutex<Books>);

/// One way to the vendor.
pub struct FakeProvider {
    vendor: Arc<FakeVendor>,
    /// Longest wait for an answer.
    pub patience: Duration,
    /// Whether the vendor knows the admin credential.
    pub is_admin: bool,
    /// Whether anybody listens at the other end.
    pub is_reachable: bool,
}

impl FakeVendor {
    /// A vendor that knows `tenants`.
    #[must_use]
    pub fn new(class: Class, tenants: impl IntoIterator<Item = TenantId>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Books {
            class,
            tenants: tenants.into_iter().collect(),
            keys: Vec::new(),
            armed: VecDeque::new(),
        })))
    }

    /// A way to call it that works.
    #[must_use]
    pub fn provider(self: &Arc<Self>) -> FakeProvider {
        FakeProvider {
            vendor: Arc::clone(self),
            patience: Duration::from_secs(30),
            is_admin: true,
            is_reachable: true,
        }
    }

    /// Lets the next call of that kind go wrong; several wait in line.
    pub fn arm(&self, op: Op, fault: Fault) {
        self.0.lock().armed.push_back((op, fault));
    }

    /// Makes a key that nobody asked for.
    pub fn plant(&self, tenant: &TenantId, name: &str) -> ProviderKeyId {
        let mut books = self.0.lock();
        let no = books.create(tenant, name);
        books.keys[no].id.clone()
    }

    /// Kills a key as a vendor does on its own account.
    pub fn kill(&self, key: &ProviderKeyId) {
        self.0.lock().die(key);
    }

    /// Names of the keys of `tenant` that authenticate, oldest first.
    #[must_use]
    pub fn names_alive(&self, tenant: &TenantId) -> Vec<String> {
        let books = self.0.lock();
        let alive = books.keys.iter().filter(|key| key.is_alive && key.tenant == *tenant);
        alive.map(|key| key.name.clone()).collect()
    }

    /// Every key that there ever was, oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyView> {
        let books = self.0.lock();
        let view = |key: &Key| KeyView {
            id: key.id.clone(),
            tenant: key.tenant.clone(),
            name: key.name.clone(),
            is_alive: key.is_alive,
        };
        books.keys.iter().map(view).collect()
    }

    /// Whose these bytes are, alive or dead; `None`: nobody's.
    #[must_use]
    pub fn key_of(&self, secret: &[u8]) -> Option<KeyView> {
        let at = self.0.lock().keys.iter().position(|key| key.secret.expose() == secret)?;
        self.keys().into_iter().nth(at)
    }

    /// The bytes of a key, for whoever brings it in.
    #[must_use]
    pub fn secret_of(&self, id: &ProviderKeyId) -> Option<Secret> {
        let books = self.0.lock();
        let key = books.keys.iter().find(|key| key.id == *id)?;
        Secret::new(key.secret.expose().to_vec()).ok()
    }

    /// Whether this key authenticates.
    #[must_use]
    pub fn is_alive(&self, key: &ProviderKeyId) -> bool {
        self.0.lock().keys.iter().any(|known| known.is_alive && known.id == *key)
    }

    /// Does `what` with the books after `delay`, whoever still waits for it.
    fn later(self: &Arc<Self>, delay: Duration, what: impl FnOnce(&mut Books) + Send + 'static) {
        let vendor = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            what(&mut vendor.0.lock());
        });
    }
}

impl Books {
    fn strike(&mut self, op: Op) -> Option<Fault> {
        let at = self.armed.iter().position(|(armed, _)| *armed == op)?;
        self.armed.remove(at).map(|(_, fault)| fault)
    }

    fn create(&mut self, tenant: &TenantId, name: &str) -> usize {
        let no = self.keys.len();
        self.keys.push(Key {
            id: ProviderKeyId::new(&format!("{tenant}/key_{no}")).expect("plain text"),
            tenant: tenant.clone(),
            name: name.to_owned(),
            secret: secret(&format!("sk-fake-{no:032}")),
            is_alive: true,
            listed_from: None,
            is_deleted: false,
        });
        no
    }

    fn void(&mut self, tenant: &TenantId) {
        self.keys.iter_mut().filter(|key| key.tenant == *tenant).for_each(|key| {
            key.is_alive = false;
            key.is_deleted = true;
        });
    }

    fn die(&mut self, id: &ProviderKeyId) {
        self.keys.iter_mut().filter(|key| key.id == *id).for_each(|key| {
            key.is_alive = false;
            key.is_deleted = true;
        });
    }

    /// Creates what `fault` leaves of the request, and tells what the answer holds.
    fn issue(
        &mut self,
        request: &IssueRequest,
        fault: Option<Fault>,
    ) -> Result<IssuedKey, Refusal> {
        if fault == Some(Fault::ForeignKey) {
            return Err(Refusal::unknown(format!("the answer is about {FOREIGN_NAME}")));
        }
        let older = self.keys.iter().rposition(|key| key.tenant == request.tenant);
        if self.class == Class::B || fault == Some(Fault::VoidOnIssue) {
            self.void(&request.tenant);
        }
        let no = self.create(&request.tenant, request.label.as_str());
        let named = match fault {
            Some(Fault::DuplicateId) => older.unwrap_or(no),
            None | Some(Fault::VoidOnIssue | Fault::BadKey | Fault::Stall(_)) => no,
            Some(Fault::EventualList(delay)) => {
                self.keys[no].listed_from = Some(Instant::now() + delay);
                no
            }
            Some(fault) => return Err(Refusal::unknown(format!("the answer is lost: {fault}"))),
        };
        let text = match fault {
            Some(Fault::BadKey) => secret(&format!("sk-bad-{no:032}")),
            _ => secret(&format!("sk-fake-{no:032}")),
        };
        Ok(IssuedKey {
            key_id: self.keys[named].id.clone(),
            secret: text,
            // The vendor's clock begins when the world does; only the length of a life matters.
            expires_at: request.lifetime.map(|life| Timestamp(0) + life),
        })
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).expect("a key of ordinary length")
}

impl FakeProvider {
    /// Goes to the vendor for a call with the admin credential: what strikes it, if it arrives.
    async fn arrive(&self, op: Op, tenant: &TenantId) -> Result<Option<Fault>, Refusal> {
        if !self.is_reachable {
            return Err(Refusal::busy("nobody listens"));
        }
        if !self.is_admin || !self.vendor.0.lock().tenants.contains(tenant) {
            return Err(Refusal::denied(Denial::Admin, "the vendor does not let us in"));
        }
        let fault = self.vendor.0.lock().strike(op);
        match fault {
            Some(Fault::Stall(delay)) if delay > self.patience => {
                tokio::time::sleep(self.patience).await;
                Err(Refusal::unknown("no answer in time"))
            }
            Some(Fault::Stall(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(fault)
            }
            Some(Fault::Dropped | Fault::ServerError) => Err(Refusal::unknown("no clear answer")),
            Some(Fault::RateLimited(after)) => {
                Err(Refusal::Busy { after: Some(after), why: "rate limited".to_owned() })
            }
            Some(Fault::Quota) => Err(Refusal::denied(Denial::Quota, "no more keys")),
            Some(Fault::Forbidden) => Err(Refusal::denied(Denial::Admin, "a scope is missing")),
            fault => Ok(fault),
        }
    }

    fn listed(&self, tenant: &TenantId, prefix: &str) -> Vec<ListedKey> {
        let books = self.vendor.0.lock();
        let now = Instant::now();
        let is_listed = |key: &&Key| {
            key.tenant == *tenant
                && !key.is_deleted
                && key.listed_from.is_none_or(|from| from <= now)
                && key.name.starts_with(prefix)
        };
        let listed = books.keys.iter().filter(is_listed);
        listed.map(|key| ListedKey { key_id: key.id.clone(), name: key.name.clone() }).collect()
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn capabilities(&self) -> Capabilities {
        let class = self.vendor.0.lock().class;
        Capabilities { class, person_issues: false, lifetime: true }
    }

    fn auth_header(&self) -> AuthHeader {
        AuthHeader { name: "authorization", scheme: "Bearer " }
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.list(tenant, "").await.map(drop)
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let fault = self.arrive(Op::Issue, &request.tenant).await?;
        if let Some(Fault::Late(delay)) = fault {
            let request = request.clone();
            self.vendor.later(delay, move |books| drop(books.issue(&request, None)));
            return Err(Refusal::unknown("the connection ended"));
        }
        self.vendor.0.lock().issue(request, fault)
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        let fault = self.arrive(Op::Revoke, tenant).await?;
        let owner = key.as_str().split('/').next();
        if owner != Some(tenant.as_str()) {
            return Err(Refusal::denied(Denial::WrongTenant, "the key is another tenant's"));
        }
        let id = key.clone();
        match fault {
            Some(Fault::Late(delay)) => {
                self.vendor.later(delay, move |books| books.die(&id));
                return Err(Refusal::unknown("the connection ended"));
            }
            Some(Fault::SlowRevoke(delay)) => {
                let mut books = self.vendor.0.lock();
                books.keys.iter_mut().filter(|key| key.id == id).for_each(|key| {
                    key.is_deleted = true;
                });
                drop(books);
                self.vendor.later(delay, move |books| books.die(&id));
            }
            _ => self.vendor.0.lock().die(&id),
        }
        if fault == Some(Fault::AckLost) {
            return Err(Refusal::unknown("the connection ended"));
        }
        // From here on "nothing happened" would not be true.
        match self.list(tenant, "").await {
            Ok(listed) if listed.iter().all(|listed| listed.key_id != *key) => Ok(()),
            _ => Err(Refusal::unknown("the key was deleted, but no listing confirms it")),
        }
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        match self.arrive(Op::List, tenant).await? {
            None | Some(Fault::Stall(_)) => Ok(self.listed(tenant, prefix)),
            Some(fault) => Err(Refusal::unknown(format!("the listing is lost: {fault}"))),
        }
    }

    async fn probe(&self, _: &TenantId, secret: &Secret) -> Health {
        if !self.is_reachable {
            return Health::Unknown;
        }
        let (fault, is_alive) = {
            let mut books = self.vendor.0.lock();
            let is_this = |key: &Key| key.is_alive && key.secret.is_same(secret);
            let is_alive = books.keys.iter().any(is_this);
            // A dead key is refused before anything can go wrong.
            let fault = if is_alive { books.strike(Op::Probe) } else { None };
            (fault, is_alive)
        };
        match fault {
            None if is_alive => Health::Alive,
            None => Health::Dead,
            Some(Fault::Forbidden) => Health::MissingScopes,
            Some(Fault::Stall(delay)) => {
                tokio::time::sleep(delay.min(self.patience)).await;
                if delay > self.patience { Health::Unknown } else { Health::Alive }
            }
            Some(_) => Health::Unknown,
        }
    }
}
