//! The calls that carry secret bytes, and the client that all calls share.
//!
//! The library that makes the other calls copies a value into a JSON tree and a plain buffer, both
//! printable and neither wiped, and quotes an answer that it cannot read. So values and answers
//! with values are written and read here, in buffers that are wiped.
//!
//! What stays: the HTTP client's own buffers below the body, which nobody outside of it can reach.
//!
//! **Invariant:** a call is never sent twice, whatever went wrong with it.
//! **Invariant:** no text made here holds a body, a URL or a header.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use keybaton_ports::{Denial, Refusal};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Certificate, Client, Method, redirect};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use super::limits::{ANSWER_BYTES_MAX, CA_FILE_BYTES_MAX, CALLS_OPEN_MAX, CONNECT_WAIT_MAX};
use super::outcome::{Act, Failure, judge, lost, words_of};
use super::settings::{VaultError, VaultSettings};
use crate::providers::{BaseUrl, Screened, SettingsError, read_wiped};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault can be told to refuse what does not carry it, as a guard against forged requests.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// The way to one Vault.
pub(crate) struct Wire {
    client: Client,
    base: BaseUrl,
    namespace: Option<HeaderValue>,
    open: Semaphore,
}

/// What is asked.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a [String],
    pub(crate) query: &'a [(&'a str, String)],
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
    /// `None` for the few questions that Vault answers to everybody.
    pub(crate) token: Option<&'a HeaderValue>,
    pub(crate) act: Act,
}

/// What came back: a success, or a 404, whose body may say more.
pub(crate) struct Answer {
    pub(crate) is_absent: bool,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The parser's own error may repeat a part of the body, so it is not used.
    pub(crate) fn read<'de, T: Deserialize<'de>>(&'de self, act: Act) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let why = "the answer is not what Vault documents";
            match act {
                Act::Read => Failure::busy(why),
                Act::Write => Failure::unknown(why),
            }
        })
    }
}

impl Wire {
    pub(crate) fn new(settings: &VaultSettings) -> Result<Self, VaultError> {
        let address = |why: String| VaultError::Address { why };
        let base = BaseUrl::parse(&settings.address).map_err(|error| match error {
            SettingsError::BaseUrl { why } => address(why.to_owned()),
            other => address(other.to_string()),
        })?;
        // The library puts its version in front of the whole path.
        if !base.join(&[]).path().trim_matches('/').is_empty() {
            return Err(address(
                "it has a path; Vault's API begins at the root of its host".into(),
            ));
        }
        let mut builder = if base.is_https() {
            Client::builder().https_only(true)
        } else {
            // Reading this machine's certificates takes a tenth of a second for nothing.
            Client::builder().tls_certs_only([])
        };
        if let Some(path) = &settings.ca_file {
            builder = builder.tls_certs_merge(authorities(path)?);
        }
        let client = builder
            .user_agent(concat!("keybaton/", env!("CARGO_PKG_VERSION")))
            .timeout(settings.call_wait_max)
            .connect_timeout(CONNECT_WAIT_MAX.min(settings.call_wait_max))
            // A redirect would take the token to a place that nobody checked.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            // Tokens go where the settings say, not where the environment says.
            .no_proxy()
            .referer(false)
            .dns_resolver(Screened { is_here: base.is_here() })
            .build()
            .map_err(|_| VaultError::Client)?;
        let namespace = settings.namespace.as_deref().map(|name| {
            HeaderValue::from_str(name).expect("a checked namespace fits into a header")
        });
        Ok(Self { client, base, namespace, open: Semaphore::new(CALLS_OPEN_MAX) })
    }

    /// The client with all its bounds, for the library's calls.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A place in the line of open calls.
    pub(crate) async fn permit(&self) -> SemaphorePermit<'_> {
        self.open.acquire().await.expect("the line is never closed")
    }

    /// Sends `call` once. The body is wiped when the last of the client's references to it goes.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let _permit = self.permit().await;
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut request = self
            .client
            .request(call.method, self.base.join(&path))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(REQUEST, HeaderValue::from_static("true"));
        if let Some(token) = call.token {
            request = request.header(TOKEN, token.clone());
        }
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace.clone());
        }
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some(body) = call.body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(Body::from(Bytes::from_owner(body)));
        }
        let response = request.send().await.map_err(|error| lost(&error, call.act))?;
        let status = response.status();
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = read_wiped(response, ANSWER_BYTES_MAX).await;
        match body {
            Ok(body) if status.is_success() => Ok(Answer { is_absent: false, body }),
            Ok(body) => {
                let words = words_of(&body);
                match judge(status.as_u16(), words.as_deref(), after, call.act) {
                    Failure::Absent => Ok(Answer { is_absent: true, body }),
                    other => Err(other),
                }
            }
            Err(why) if status.is_success() && call.act == Act::Write => Err(Failure::unknown(why)),
            Err(why) if status.is_success() => Err(Failure::busy(why)),
            Err(_) => Err(judge(status.as_u16(), None, after, call.act)),
        }
    }

    /// Whether the node that answers may lag behind the active one. When it cannot be told, it may
    /// not: the answer stands.
    pub(crate) async fn may_be_stale(&self) -> bool {
        #[derive(Deserialize)]
        struct Health {
            #[serde(default)]
            standby: bool,
            #[serde(default)]
            performance_standby: bool,
            #[serde(default)]
            replication_performance_mode: String,
        }
        let path = ["v1", "sys", "health"].map(str::to_owned);
        // Without these a node that is not the active one answers with an error status.
        let query = [("standbyok", "true".to_owned()), ("perfstandbyok", "true".to_owned())];
        let call = Call {
            method: Method::GET,
            path: &path,
            query: &query,
            body: None,
            token: None,
            act: Act::Read,
        };
        let Ok(answer) = self.send(call).await else {
            return false;
        };
        answer.read::<Health>(Act::Read).is_ok_and(|health| {
            health.standby
                || health.performance_standby
                || health.replication_performance_mode == "secondary"
        })
    }
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, VaultError> {
    let bad = |why: &str| VaultError::CaFile { path: path.to_owned(), why: why.to_owned() };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CA_FILE_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| bad(&error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| bad("it cannot be parsed"))?;
    if found.is_empty() { Err(bad("there is none in it")) } else { Ok(found) }
}

/// A token as a header that `Debug` does not show, wiped with its last copy.
pub(crate) fn token_header(token: &str) -> Result<HeaderValue, Refusal> {
    let bytes = Bytes::from_owner(Zeroizing::new(token.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|_| {
        let why = "Vault's token does not fit into a header: look for a line feed in it";
        Refusal::denied(Denial::Admin, why)
    })?;
    value.set_sensitive(true);
    Ok(value)
}
