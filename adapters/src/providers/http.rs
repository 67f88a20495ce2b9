//! One call to a vendor: sent at most once, bounded in time and size, told apart by whether
//! anything was sent.
//!
//! **Invariant:** no text made here holds a body, a URL or a header.
//! **Invariant:** a call is never sent twice, whatever went wrong with it.

use std::time::Duration;

use keybaton_ports::{AuthHeader, Denial, Refusal, Secret};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::base_url::{BaseUrl, Screened};
use super::limits::{ANSWER_BYTES_MAX, CALLS_OPEN_MAX, CONNECT_WAIT_MAX, ISSUE_ANSWER_BYTES_MAX};
use super::retry_after::retry_after;
use super::settings::SettingsError;

/// Most vendors carry a key like this.
pub(super) const BEARER: AuthHeader = AuthHeader { name: "authorization", scheme: "Bearer " };

/// The way to one vendor.
pub(super) struct Http {
    client: Client,
    base: BaseUrl,
    open: Semaphore,
}

/// What is asked.
struct Call<'a> {
    method: Method,
    /// Parts of the path below the base URL.
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
    credential: Credential,
    /// JSON.
    body: Option<Vec<u8>>,
    answer_bytes_max: usize,
}

/// The header that carries a key.
pub(super) struct Credential {
    name: HeaderName,
    value: HeaderValue,
}

impl Credential {
    /// Hides the key from `Debug`. `None` when a header cannot carry it.
    pub(super) fn new(header: AuthHeader, secret: &Secret) -> Option<Self> {
        let bytes = header.scheme.len() + secret.expose().len();
        let mut text = Zeroizing::new(Vec::with_capacity(bytes));
        text.extend_from_slice(header.scheme.as_bytes());
        text.extend_from_slice(secret.expose());
        let is_plain = secret.expose().iter().all(u8::is_ascii_graphic);
        let mut value = HeaderValue::from_bytes(&text).ok().filter(|_| is_plain)?;
        value.set_sensitive(true);
        let name = HeaderName::from_static(header.name);
        Some(Self { name, value })
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// No vendor's API speaks HTML: something between us and it did.
    pub(super) is_html: bool,
    /// The whole body, or why it could not be read.
    pub(super) body: Result<Zeroizing<Vec<u8>>, &'static str>,
}

impl Http {
    pub(super) fn new(base_url: &str, call_wait_max: Duration) -> Result<Self, SettingsError> {
        let base = BaseUrl::parse(base_url)?;
        let builder = if base.is_https() {
            Client::builder().https_only(true)
        } else {
            // Reading this machine's certificates takes a tenth of a second for nothing.
            Client::builder().tls_certs_only([])
        };
        let client = builder
            .user_agent(concat!("keybaton/", env!("CARGO_PKG_VERSION")))
            .timeout(call_wait_max)
            .connect_timeout(CONNECT_WAIT_MAX.min(call_wait_max))
            // A redirect would take the credential to a place that nobody checked.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            // Credentials go where the settings say, not where the environment says.
            .no_proxy()
            .referer(false)
            .dns_resolver(Screened { is_here: base.is_here() })
            // A connection that was idle may be closed by the other side while a request is on
            // its way: the outcome would be unknown and a label burned. Admin calls are few.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|_| SettingsError::Client)?;
        Ok(Self { client, base, open: Semaphore::new(CALLS_OPEN_MAX) })
    }

    /// Sends one call with the admin credential, which the settings checked. With a body it
    /// creates something, so that its answer holds a key.
    pub(super) async fn ask(
        &self,
        admin_key: &Secret,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Refusal> {
        let credential = Credential::new(BEARER, admin_key).ok_or_else(|| {
            Refusal::denied(Denial::Admin, "the admin key does not fit into a header")
        })?;
        let answer_bytes_max = match body {
            Some(_) => ISSUE_ANSWER_BYTES_MAX,
            None => ANSWER_BYTES_MAX,
        };
        let call = Call { method, path, query, credential, body, answer_bytes_max };
        self.send(call).await
    }

    /// Sends one call with a tenant's key, for a probe.
    pub(super) async fn try_key(
        &self,
        path: &[&str],
        credential: Credential,
    ) -> Result<Answer, Refusal> {
        self.send(Call {
            method: Method::GET,
            path,
            query: &[],
            credential,
            body: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
        })
        .await
    }

    /// Sends `call` once.
    ///
    /// [`Refusal::Busy`] when no byte of it was sent, [`Refusal::Unknown`] when something was and
    /// no head of an answer came back.
    async fn send(&self, call: Call<'_>) -> Result<Answer, Refusal> {
        let Ok(_permit) = self.open.try_acquire() else {
            return Err(Refusal::busy("too many calls to the provider are open"));
        };
        let mut request = self
            .client
            .request(call.method, self.base.join(call.path))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(call.credential.name, call.credential.value);
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some(body) = call.body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body);
        }
        match request.send().await {
            Ok(response) => Ok(receive(response, call.answer_bytes_max).await),
            Err(error) => Err(lost(&error)),
        }
    }
}

async fn receive(response: Response, bytes_max: usize) -> Answer {
    let headers = response.headers();
    let is_html =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    Answer {
        status: response.status(),
        retry_after: retry_after(headers),
        is_html,
        body: read_wiped(response, bytes_max).await,
    }
}

/// Reads into a buffer that never moves, so that no copy of a key is left behind.
pub(crate) async fn read_wiped(
    mut response: Response,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    const TOO_LARGE: &str = "the answer is larger than any real one";
    let announced = response.content_length().map(usize::try_from);
    let capacity = match announced {
        Some(Ok(bytes)) if bytes <= bytes_max => bytes,
        Some(_) => return Err(TOO_LARGE),
        None => bytes_max,
    };
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= capacity => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(TOO_LARGE),
            Ok(None) => return Ok(body),
            Err(_) => return Err("the answer broke off"),
        }
    }
}

/// The error's own text names the URL, so only its kind is used.
fn lost(error: &reqwest::Error) -> Refusal {
    if error.is_builder() {
        Refusal::busy("the request could not be built")
    } else if error.is_connect() {
        Refusal::busy("no connection to the provider")
    } else if error.is_timeout() {
        Refusal::unknown("the provider did not answer in time")
    } else {
        Refusal::unknown("the connection ended before the answer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_a_key_hides_it() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec()).expect("fits");
        let value = Credential::new(BEARER, &secret("sk-canary")).expect("a header").value;
        assert_eq!(value.as_bytes(), b"Bearer sk-canary");
        assert!(!format!("{value:?}").contains("canary"));
        for bad in ["sk canary", "sk-canary\n", "sk-\0canary", "sk-ключ"] {
            assert!(Credential::new(BEARER, &secret(bad)).is_none());
        }
    }
}
