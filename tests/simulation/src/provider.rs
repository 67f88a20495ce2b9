//! A vendor as a node reaches it: requests that get lost, arrive late or twice, and keys that are
//! not what they seem.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_fakes::provider::{FakeProvider, FakeVendor};
use keybaton_messages::{PairId, ProviderKeyId, ProviderName, TenantId};
use keybaton_ports::{
    AuthHeader, Capabilities, Denial, IssueRequest, IssuedKey, ListedKey, Provider, Refusal, Secret,
};
use keybaton_rotation::{Class, Health};
use keybaton_simulator::{Fault, Op};

use crate::call::{Call, Kind, Port};
use crate::flaws::Flaw;
use crate::ports::at_once;
use crate::world::{Vendor, World};

/// One vendor, from one node.
pub(crate) struct SimProvider {
    world: Arc<World>,
    name: ProviderName,
    books: Arc<FakeVendor>,
    inner: Arc<FakeProvider>,
    class: Class,
}

/// What the vendor makes of an issue that arrives.
#[derive(Clone, Copy)]
enum Making {
    Well,
    Wrong(Fault),
    Twice,
    Refused(Denial),
    Busy,
}

impl SimProvider {
    pub(crate) fn new(world: Arc<World>, name: ProviderName, vendor: &Vendor) -> Self {
        let books = vendor.books.clone();
        let inner = Arc::new(books.provider());
        Self { world, name, books, inner, class: vendor.class }
    }

    fn call(&self, kind: Kind, name: &'static str, about: impl FnOnce() -> String) -> Call {
        Call { port: Port::Provider, kind, name, about: self.world.words(about) }
    }

    fn making(&self) -> Making {
        if !self.world.is_chaos() {
            return Making::Well;
        }
        match self.world.dice.between(0, 999) {
            0..40 => Making::Wrong(Fault::BadKey),
            40..70 => Making::Wrong(Fault::DuplicateId),
            70..85 => Making::Wrong(Fault::ForeignKey),
            85..95 => Making::Wrong(Fault::VoidOnIssue),
            95..115 => Making::Twice,
            115..130 => Making::Refused(Denial::Admin),
            130..140 => Making::Refused(Denial::Quota),
            140..180 => Making::Busy,
            _ => Making::Well,
        }
    }
}

impl World {
    /// Whether the record names the newest key that the tenant has at this vendor.
    fn is_newest_claimed(&self, name: &ProviderName, request: &IssueRequest) -> bool {
        let pair = PairId::new(request.tenant.clone(), name.clone());
        let keys = self.vendor(&pair).books.keys();
        let newest = keys.into_iter().rev().find(|key| key.tenant == pair.tenant);
        let record = self.record(&pair);
        newest.zip(record).is_some_and(|(key, record)| {
            record.versions.values().any(|entry| entry.key_id.as_ref() == Some(&key.id))
        })
    }
}

fn issued(key: &IssuedKey) -> String {
    key.key_id.to_string()
}

fn shown<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}")
}

#[async_trait]
impl Provider for SimProvider {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn auth_header(&self) -> AuthHeader {
        self.inner.auth_header()
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let call = self.call(Kind::Read, "preflight", || tenant.to_string());
        let (inner, tenant) = (self.inner.clone(), tenant.clone());
        self.world.ask(call, move |_| at_once(inner.preflight(&tenant)), shown).await
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        let kind = if self.class == Class::B { Kind::Void } else { Kind::Order };
        let call = self.call(kind, "issue", || format!("{} {}", request.tenant, request.label));
        let making = self.making();
        let (name, books, inner) = (self.name.clone(), self.books.clone(), self.inner.clone());
        let request = request.clone();
        let make = move |world: &Arc<World>| {
            let making = match making {
                // It arrives when faults have ended.
                Making::Wrong(_) if !world.is_chaos() => Making::Well,
                // An id that nobody claims yet could be told from the right one by nobody.
                Making::Wrong(Fault::DuplicateId) if !world.is_newest_claimed(&name, &request) => {
                    Making::Well
                }
                making => making,
            };
            let is_ours = !matches!(making, Making::Wrong(Fault::VoidOnIssue));
            let answer = match making {
                Making::Refused(denial) => Err(Refusal::denied(denial, "the vendor says no")),
                Making::Busy => Err(Refusal::busy("the vendor is busy")),
                Making::Wrong(fault) => {
                    books.arm(Op::Issue, fault);
                    at_once(inner.issue(&request))
                }
                Making::Twice => {
                    drop(at_once(inner.issue(&request)));
                    drop(at_once(inner.issue(&request)));
                    Err(Refusal::unknown("the connection ended"))
                }
                Making::Well => at_once(inner.issue(&request)),
            };
            world.vendor_changed(&name, is_ours);
            answer
        };
        let answer = self.world.ask(call, make, issued).await;
        match answer {
            Err(Refusal::Unknown { .. }) if self.world.flaw == Some(Flaw::IssueGuessed) => {
                Err(Refusal::busy("it surely did not happen"))
            }
            answer => answer,
        }
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        if self.world.flaw == Some(Flaw::RevokeImagined) {
            return Ok(());
        }
        let call = self.call(Kind::Order, "revoke", || key.to_string());
        let pair = PairId::new(tenant.clone(), self.name.clone());
        self.world.check_revoke(&pair, key);
        let (inner, key) = (self.inner.clone(), key.clone());
        let revoke = move |world: &Arc<World>| {
            let answer = at_once(inner.revoke(&pair.tenant, &key));
            world.vendor_changed(&pair.provider, true);
            answer
        };
        self.world.ask(call, revoke, shown).await
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        let call = self.call(Kind::Read, "list", || format!("{tenant} {prefix}"));
        let (inner, tenant, prefix) = (self.inner.clone(), tenant.clone(), prefix.to_owned());
        let listed = self.world.ask(call, move |_| at_once(inner.list(&tenant, &prefix)), shown);
        match self.world.flaw {
            Some(Flaw::ListEmpty) => listed.await.map(|_| Vec::new()),
            _ => listed.await,
        }
    }

    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health {
        let call = self.call(Kind::Read, "probe", || tenant.to_string());
        let Ok(secret) = Secret::new(secret.expose().to_vec()) else {
            return Health::Unknown;
        };
        let (name, inner, tenant) = (self.name.clone(), self.inner.clone(), tenant.clone());
        let probe = move |world: &Arc<World>| -> Result<Health, Refusal> {
            let health = at_once(inner.probe(&tenant, &secret));
            if health == Health::Alive {
                world.proven(&name, &secret);
            }
            Ok(health)
        };
        match self.world.ask(call, probe, shown).await {
            Ok(Health::Dead) if self.world.flaw == Some(Flaw::ProbeImagined) => Health::Alive,
            Ok(health) => health,
            Err(_) => Health::Unknown,
        }
    }
}
