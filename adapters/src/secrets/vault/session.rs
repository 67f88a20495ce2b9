//! Who we are to Vault: one token, renewed in place before it ends, replaced when it has ended.
//!
//! ```text
//!   ask ──► live token ──► call ──403──► is the token alive? ──yes──► the policy refuses: said so
//!             ▲                              │ no
//!             │                              ▼
//!           login ◄──────────────────── log in again, call once more (a 403 did nothing)
//!             ▲
//!   keeper ───┘  two thirds of its life passed: renew; cannot be renewed further: log in again
//! ```
//!
//! **Invariant:** one login at a time; who waited behind one that failed hears of its failure.
//! **Invariant:** a token is wiped when the last call that uses it has ended.

use std::sync::{Arc, Weak};
use std::time::Duration;

use keybaton_ports::{Denial, Refusal};
use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use vaultrs::auth::approle;
use vaultrs::client::{Client as _, VaultClient, VaultClientSettingsBuilder};
use zeroize::{Zeroize, Zeroizing};

use super::limits::{RETRY_MAX, RETRY_MIN, TOKEN_LEFT_MIN};
use super::outcome::{Act, Failure, of_library};
use super::settings::{CredentialSource, Login, VaultError, VaultSettings};
use super::wire::{Wire, token_header};

/// The way to one Vault, with the token that opens it.
pub(crate) struct Session {
    pub(crate) wire: Wire,
    settings: VaultSettings,
    current: Mutex<Option<Arc<Live>>>,
    logging_in: AsyncMutex<()>,
    /// The last login that failed, and when.
    failed: Mutex<Option<(Instant, Refusal)>>,
    keeper: Mutex<Option<AbortHandle>>,
}

/// One token.
pub(crate) struct Live {
    /// For the calls that the library makes.
    pub(crate) client: VaultClient,
    /// For our own.
    pub(crate) token: HeaderValue,
    /// `None` for one that never ends.
    ends: Mutex<Option<Instant>>,
    /// Its life when it was taken.
    granted: Duration,
    is_renewable: bool,
}

impl Live {
    /// A life of zero is Vault's way to say "for ever".
    fn new(
        mut client: VaultClient,
        token: &str,
        granted: Duration,
        is_renewable: bool,
    ) -> Result<Self, Refusal> {
        client.set_token(token);
        let ends = Mutex::new((!granted.is_zero()).then(|| Instant::now() + granted));
        Ok(Self { client, token: token_header(token)?, ends, granted, is_renewable })
    }

    /// What is left of its life; `None` for ever.
    fn left(&self) -> Option<Duration> {
        self.ends.lock().map(|ends| ends.saturating_duration_since(Instant::now()))
    }

    fn has_ended(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.client.middle.token.zeroize();
        self.client.settings.token.zeroize();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut().take() {
            keeper.abort();
        }
    }
}

impl Session {
    pub(crate) fn new(settings: VaultSettings) -> Result<Arc<Self>, VaultError> {
        settings.check()?;
        let wire = Wire::new(&settings)?;
        Ok(Arc::new(Self {
            wire,
            settings,
            current: Mutex::new(None),
            logging_in: AsyncMutex::new(()),
            failed: Mutex::new(None),
            keeper: Mutex::new(None),
        }))
    }

    /// Asks with the token of the moment; once more with a new one if that one has ended. A call
    /// that was refused with 403 was not executed, so the second one is the only one.
    pub(crate) async fn ask<T, A, F>(self: &Arc<Self>, ask: F) -> Result<T, Failure>
    where
        F: Fn(Arc<Live>) -> A + Send + Sync,
        A: Future<Output = Result<T, Failure>> + Send,
        T: Send,
    {
        let live = self.live().await.map_err(Failure::Refused)?;
        match ask(Arc::clone(&live)).await {
            Err(Failure::Forbidden) => {
                if !self.replace(&live).await.map_err(Failure::Refused)? {
                    return Err(Failure::Forbidden);
                }
                drop(live);
                ask(self.live().await.map_err(Failure::Refused)?).await
            }
            answer => answer,
        }
    }

    /// A token that has not ended as far as we know.
    async fn live(self: &Arc<Self>) -> Result<Arc<Live>, Refusal> {
        if let Some(live) = self.usable() {
            return Ok(live);
        }
        let asked = Instant::now();
        let _one = self.logging_in.lock().await;
        if let Some(live) = self.usable() {
            return Ok(live);
        }
        if let Some((_, refusal)) = self.failed.lock().as_ref().filter(|(at, _)| *at >= asked) {
            return Err(refusal.clone());
        }
        self.log_in().await
    }

    fn usable(&self) -> Option<Arc<Live>> {
        self.current.lock().clone().filter(|live| !live.has_ended())
    }

    /// Whether `refused` was a token that had ended and there is another one now. `false` when it
    /// is alive: then its policies refuse.
    async fn replace(self: &Arc<Self>, refused: &Arc<Live>) -> Result<bool, Refusal> {
        let _one = self.logging_in.lock().await;
        if !self.is_current(refused) {
            return Ok(true);
        }
        let looked = refused.client.lookup().await;
        match looked.map_err(|error| of_library(&error, Act::Read)) {
            Ok(mut found) => {
                found.id.zeroize();
                Ok(false)
            }
            Err(Failure::Forbidden) => self.log_in().await.map(|_| true),
            Err(other) => Err(other.into_refusal()),
        }
    }

    fn is_current(&self, live: &Arc<Live>) -> bool {
        self.current.lock().as_ref().is_some_and(|current| Arc::ptr_eq(current, live))
    }

    /// Logs in. The caller holds `logging_in`.
    async fn log_in(self: &Arc<Self>) -> Result<Arc<Live>, Refusal> {
        match self.new_token().await {
            Ok(live) => {
                let live = Arc::new(live);
                *self.current.lock() = Some(Arc::clone(&live));
                self.start_keeper(&live);
                Ok(live)
            }
            Err(refusal) => {
                *self.failed.lock() = Some((Instant::now(), refusal.clone()));
                Err(refusal)
            }
        }
    }

    async fn new_token(&self) -> Result<Live, Refusal> {
        match &self.settings.login {
            Login::Token(source) => self.adopt(source.read()?.text()?).await,
            Login::AppRole { mount, role_id, secret_id } => {
                let secret_id = secret_id.read()?;
                let client = self.client()?;
                let login = approle::login(&client, mount, role_id, secret_id.text()?);
                let auth = login.await.map_err(|error| refused_login(&error))?;
                let token = Zeroizing::new(auth.client_token);
                let granted = Duration::from_secs(auth.lease_duration);
                Live::new(client, &token, granted, auth.renewable)
            }
        }
    }

    /// Takes a token that somebody else made.
    async fn adopt(&self, token: &str) -> Result<Live, Refusal> {
        let mut client = self.client()?;
        client.set_token(token);
        let looked = client.lookup().await;
        let mut found = looked.map_err(|error| match of_library(&error, Act::Read) {
            Failure::Forbidden => Refusal::denied(
                Denial::Admin,
                "Vault does not accept the token: it has ended or is another Vault's; give another",
            ),
            other => other.into_refusal(),
        })?;
        found.id.zeroize();
        let renewable = found.renewable.unwrap_or(false);
        Live::new(client, token, Duration::from_secs(found.ttl), renewable)
    }

    /// The library's client, still without a token. Each token has one of its own, since one that
    /// is shared cannot change it.
    fn client(&self) -> Result<VaultClient, Refusal> {
        let broken = |_| Refusal::busy("the client for Vault cannot be built");
        // All are given, so that nothing is taken from the environment.
        let settings = VaultClientSettingsBuilder::default()
            .address(&self.settings.address)
            .ca_certs(Vec::new())
            .identity(None)
            .timeout(Some(self.settings.call_wait_max))
            .token("")
            .verify(true)
            .namespace(self.settings.namespace.clone())
            .build()
            .map_err(|_| Refusal::busy("the client for Vault cannot be set up"))?;
        let mut client = VaultClient::new(settings).map_err(broken)?;
        client.http.http = self.wire.client();
        Ok(client)
    }

    /// Fails when the token could end before a key that is asked for now is stored.
    pub(crate) async fn check_lasting(self: &Arc<Self>) -> Result<(), Refusal> {
        let live = self.live().await?;
        let is_short = |live: &Live| live.left().is_some_and(|left| left < TOKEN_LEFT_MIN);
        if matches!(self.settings.login, Login::AppRole { .. }) || !is_short(&live) {
            return Ok(());
        }
        if live.is_renewable {
            self.renew(&live).await.map_err(Failure::into_refusal)?;
        }
        // One that is renewed to its full life again and again may be short.
        let is_full = live.is_renewable && live.left() >= Some(live.granted / 2);
        if is_full || !is_short(&live) {
            return Ok(());
        }
        let left = live.left().unwrap_or_default().as_secs();
        let why = format!("Vault's token ends in {left} s and is not renewed: give a new one");
        Err(Refusal::denied(Denial::Admin, why))
    }

    async fn renew(&self, live: &Live) -> Result<(), Failure> {
        let asked = Instant::now();
        let renewed = live.client.renew(None).await;
        let mut auth = renewed.map_err(|error| of_library(&error, Act::Read))?;
        auth.client_token.zeroize();
        *live.ends.lock() = Some(asked + Duration::from_secs(auth.lease_duration));
        Ok(())
    }

    fn start_keeper(self: &Arc<Self>, live: &Arc<Live>) {
        let next = live
            .left()
            .map(|_| tokio::spawn(keep(Arc::downgrade(self), Arc::downgrade(live))).abort_handle());
        let last = std::mem::replace(&mut *self.keeper.lock(), next);
        if let Some(last) = last {
            last.abort();
        }
    }

    /// Makes the token last longer, or takes another.
    async fn refresh(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), Refusal> {
        if live.is_renewable && !live.has_ended() {
            match self.renew(live).await {
                // Close to its longest life Vault grants less and less.
                Ok(()) if live.left() >= Some(live.granted / 2) => return Ok(()),
                Ok(()) | Err(Failure::Forbidden) => {}
                Err(Failure::Refused(Refusal::Denied { .. })) => {}
                Err(other) => return Err(other.into_refusal()),
            }
        }
        if matches!(&self.settings.login, Login::Token(CredentialSource::Given(_))) {
            let left = live.left().unwrap_or_default().as_secs();
            let why = format!("Vault's token ends in {left} s and there is no other");
            return Err(Refusal::denied(Denial::Admin, why));
        }
        let _one = self.logging_in.lock().await;
        if self.is_current(live) { self.log_in().await.map(drop) } else { Ok(()) }
    }
}

/// Looks after one token until another takes its place. Holds nothing, so that whoever drops the
/// store drops the session too.
async fn keep(session: Weak<Session>, live: Weak<Live>) {
    let mut pause = RETRY_MIN;
    let mut has_failed = false;
    loop {
        let Some(left) = live.upgrade().and_then(|live| live.left()) else {
            return;
        };
        sleep(if has_failed { pause } else { (left * 2 / 3).max(pause) }).await;
        let (Some(session), Some(live)) = (session.upgrade(), live.upgrade()) else {
            return;
        };
        let refreshed = session.refresh(&live).await;
        has_failed = refreshed.is_err();
        pause = if has_failed { (pause * 2).min(RETRY_MAX) } else { RETRY_MIN };
        if let Err(refusal) = refreshed {
            tracing::warn!(%refusal, "Vault's token is not renewed yet");
        }
    }
}

fn refused_login(error: &vaultrs::error::ClientError) -> Refusal {
    match of_library(error, Act::Read) {
        // Vault answers 400 to a wrong role id or secret id.
        Failure::Forbidden | Failure::Refused(Refusal::Denied { .. }) => Refusal::denied(
            Denial::Admin,
            "Vault refuses the AppRole login: check role id and mount, and make a new secret id",
        ),
        Failure::Absent => Refusal::denied(Denial::Admin, "AppRole is not enabled at that mount"),
        other => other.into_refusal(),
    }
}
