//! Stands between a store and a Vault, and loses one write on order.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What becomes of the next write of a value. The client hears nothing in any case.
pub enum Loss {
    /// It never arrives.
    Request,
    /// It is carried out.
    Answer,
    /// It is carried out when the receiver is told to; the sender tells with which status.
    Late(oneshot::Receiver<()>, oneshot::Sender<u16>),
}

/// A proxy that ends with the runtime of its test.
pub struct Proxy {
    address: String,
    loss: Arc<Mutex<Option<Loss>>>,
}

#[derive(Clone)]
struct Shared {
    target: String,
    client: reqwest::Client,
    loss: Arc<Mutex<Option<Loss>>>,
}

/// A question as it arrived.
struct Asked {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Proxy {
    pub async fn start(target: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build();
        let client = client.expect("a client");
        let loss = Arc::default();
        let shared = Shared { target, client, loss: Arc::clone(&loss) };
        let router = Router::new().fallback(pass).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, loss }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn lose(&self, loss: Loss) {
        *self.loss.lock() = Some(loss);
    }
}

async fn pass(
    State(shared): State<Shared>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    let url = format!("{}{uri}", shared.target);
    let is_value = method == Method::POST && uri.path().contains("/data/");
    let loss = if is_value { shared.loss.lock().take() } else { None };
    let asked = Asked { method, url, headers, body };
    match loss {
        None => return forward(&shared.client, asked).await,
        Some(Loss::Request) => {}
        Some(Loss::Answer) => drop(forward(&shared.client, asked).await),
        Some(Loss::Late(go, done)) => {
            // Not by this handler, which ends when its client hangs up.
            let client = shared.client.clone();
            tokio::spawn(async move {
                if go.await.is_ok() {
                    let (status, _) = forward(&client, asked).await;
                    let _ = done.send(status.as_u16());
                }
            });
        }
    }
    std::future::pending().await
}

async fn forward(client: &reqwest::Client, asked: Asked) -> (StatusCode, Bytes) {
    let mut headers = asked.headers;
    headers.remove("host");
    let request = client.request(asked.method, asked.url).headers(headers).body(asked.body);
    let answer = request.send().await.expect("Vault answers");
    (answer.status(), answer.bytes().await.expect("a whole answer"))
}
