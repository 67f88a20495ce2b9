//! A vendor of a few lines, for tests: answers byte by byte as told, and remembers what it was
//! asked.
//!
//! It speaks no vendor's language on purpose: what an adapter sends is compared with the vendor's
//! documentation in the test itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use keybaton_messages::{DeploymentId, Label, PairTag, TenantId, Version};
use keybaton_ports::{IssueRequest, Refusal, Secret};

use super::settings::{Home, Homes, ProviderSettings};

/// What the vendor does with one request.
pub(super) enum Reply {
    /// Status and JSON.
    Json(u16, Value),
    /// The whole answer, head included.
    Raw(String),
    /// Closes the connection without a word.
    HangUp,
    /// Never answers.
    Silence,
}

/// A request as it arrived.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<Value>,
}

pub(super) struct Vendor {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Vendor {
    /// Answers the first request with the first reply and so on; a request too many hangs up.
    pub(super) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        let heard = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = hear(&mut stream).await;
                heard.lock().push(request);
                match replies.pop_front() {
                    Some(Reply::Json(status, body)) => say(&mut stream, &json(status, &body)).await,
                    Some(Reply::Raw(text)) => say(&mut stream, &text).await,
                    Some(Reply::Silence) => silent.push(stream),
                    Some(Reply::HangUp) | None => drop(stream),
                }
            }
        });
        Self { port, asked, serving }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// What was asked since the last look.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn json(status: u16, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n\
         {body}"
    )
}

async fn say(stream: &mut TcpStream, text: &str) {
    // The caller may be gone before it heard everything.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn hear(stream: &mut TcpStream) -> Asked {
    let mut text = Vec::new();
    let head_bytes = loop {
        let end = text.windows(4).position(|part| part == b"\r\n\r\n");
        match end {
            Some(at) => break at + 4,
            None => assert!(stream.read_buf(&mut text).await.expect("read") > 0, "half a head"),
        }
    };
    let head = String::from_utf8(text[..head_bytes].to_vec()).expect("a head is text");
    let mut lines = head.lines();
    let mut first = lines.next().expect("a request line").split(' ');
    let method = first.next().expect("a method").to_owned();
    let target = first.next().expect("a target");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |it| it.parse().expect("a number"));
    while text.len() < head_bytes + length {
        assert!(stream.read_buf(&mut text).await.expect("read") > 0, "half a body");
    }
    let url = reqwest::Url::parse(&format!("http://vendor{target}")).expect("a URL");
    let body = &text[head_bytes..];
    Asked {
        method,
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        headers,
        body: (!body.is_empty()).then(|| serde_json::from_slice(body).expect("JSON")),
    }
}

/// What all adapters' tests share: tenant `t1` with project `proj_1` and account `svc_1`.
pub(super) fn settings(base_url: String, account: Option<&str>) -> ProviderSettings {
    let home = Home { project: "proj_1".to_owned(), account: account.map(str::to_owned) };
    let homes = Homes::new([(tenant(), home)].into()).expect("good homes");
    let admin_key = secret("sk-admin-0123456789abcdef");
    ProviderSettings { base_url: Some(base_url), ..ProviderSettings::new(admin_key, homes) }
}

pub(super) fn tenant() -> TenantId {
    TenantId::new("t1").expect("a tenant")
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec()).expect("fits")
}

pub(super) fn label(version: u32) -> Label {
    let deployment = DeploymentId::from_digest(&[1; 16]);
    Label::new(&deployment, &PairTag::from_digest(&[2; 16]), Version(version))
}

pub(super) fn request(version: u32) -> IssueRequest {
    IssueRequest { tenant: tenant(), label: label(version), lifetime: None }
}

/// `Refusal` in one word, for tables.
pub(super) fn word(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Busy { .. } => "busy".to_owned(),
        Refusal::Unknown { .. } => "unknown".to_owned(),
        Refusal::Denied { denial, .. } => denial.to_string(),
    }
}
