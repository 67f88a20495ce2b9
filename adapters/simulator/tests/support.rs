//! A vendor to test against, a client, and the rules that every ledger obeys.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use keybaton_simulator::ledger::{self, Event, Line, Outcome};
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Builder, Simulator};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything takes: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A simulator on a directory of its own.
pub struct Vendor {
    pub simulator: Simulator,
    pub dir: TempDir,
    http: reqwest::Client,
}

/// A status and a JSON body; null when there is none.
pub type Answer = (u16, Value);

impl Vendor {
    pub async fn start() -> Self {
        Self::with(|builder| builder).await
    }

    pub async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        Self::on(TempDir::new().unwrap(), change).await
    }

    pub async fn on(dir: TempDir, change: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = change(Simulator::builder().dir(dir.path()));
        let simulator = builder.start().await.unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { simulator, dir, http }
    }

    /// A vendor on which one script is armed.
    pub async fn struck(script: &str) -> Self {
        let script = script.parse().unwrap();
        Self::with(|builder| builder.fault(script)).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<Value>,
    ) -> Result<Response, reqwest::Error> {
        let url = format!("{}{path}", self.simulator.base_url());
        let request = self.http.request(method, url).bearer_auth(key);
        match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        }
    }

    pub fn request(&self, method: Method, path: &str, key: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.simulator.base_url());
        self.http.request(method, url).bearer_auth(key)
    }

    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        answer(self.send(method, path, ADMIN_KEY_DEFAULT, body).await.unwrap()).await
    }

    /// Asks for a key of account `svc`.
    pub async fn issue(&self, project: &str, label: &str) -> Answer {
        self.admin(Method::POST, &issue_path(project), Some(json!({"name": label}))).await
    }

    /// Asks for a key in the expectation that no whole answer comes.
    pub async fn issue_lost(&self, project: &str, label: &str) -> reqwest::Error {
        let body = Some(json!({"name": label}));
        let sent = self.send(Method::POST, &issue_path(project), ADMIN_KEY_DEFAULT, body).await;
        match sent {
            Err(error) => error,
            Ok(response) => response.bytes().await.expect_err("the answer is not whole"),
        }
    }

    /// A key that works: its id and its secret.
    pub async fn key(&self, project: &str, label: &str) -> (String, String) {
        let (status, body) = self.issue(project, label).await;
        assert_eq!(status, 200, "{body}");
        (text(&body["id"]), text(&body["value"]))
    }

    pub async fn revoke(&self, project: &str, key_id: &str) -> Answer {
        let path = format!("/v1/organization/projects/{project}/api_keys/{key_id}");
        self.admin(Method::DELETE, &path, None).await
    }

    /// Labels in the listing of a project.
    pub async fn labels(&self, project: &str) -> Vec<String> {
        let path = format!(
            "/v1/organization/projects/{project}/api_keys?owner_project_access=any&limit=100"
        );
        let (status, body) = self.admin(Method::GET, &path, None).await;
        assert_eq!(status, 200, "{body}");
        body["data"].as_array().unwrap().iter().map(|key| text(&key["name"])).collect()
    }

    /// The status of the probe.
    pub async fn probe(&self, secret: &str) -> u16 {
        let sent = self.send(Method::GET, "/v1/models", secret, None).await.unwrap();
        sent.status().as_u16()
    }

    /// A chat that was sent; `simulate` sets its pace.
    pub async fn chat(
        &self,
        secret: &str,
        is_stream: bool,
        simulate: Value,
    ) -> Result<Response, reqwest::Error> {
        let body = json!({
            "model": "simulated-small",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": is_stream,
            "simulate": simulate,
        });
        self.send(Method::POST, "/v1/chat/completions", secret, Some(body)).await
    }

    /// Waits for a level of the simulator's state.
    pub async fn until(&self, level: impl Fn(&keybaton_simulator::Snapshot) -> bool) {
        until("the level of the simulator", || level(&self.simulator.snapshot())).await;
    }

    /// The ledger so far.
    pub fn lines(&self) -> Vec<Line> {
        self.simulator.flush();
        ledger::read(self.simulator.ledger_path()).unwrap()
    }

    pub fn events(&self) -> Vec<Event> {
        self.lines().into_iter().map(|line| line.event).collect()
    }

    /// The end of the only request so far.
    pub fn only_end(&self) -> (Outcome, u16, bool) {
        let ends: Vec<_> = self.events().into_iter().filter_map(end).collect();
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends[0]
    }

    /// Stops the vendor and checks its ledger. Every test ends with it.
    pub async fn stop(self) -> TempDir {
        let path = self.simulator.ledger_path().to_owned();
        self.simulator.stop().await;
        check(&ledger::read(&path).unwrap());
        self.dir
    }
}

pub fn issue_path(project: &str) -> String {
    format!("/v1/organization/projects/{project}/service_accounts/svc/api_keys")
}

pub async fn answer(response: Response) -> Answer {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is a text")).to_owned()
}

pub async fn until(what: &str, level: impl Fn() -> bool) {
    let polling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !level() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn end(event: Event) -> Option<(Outcome, u16, bool)> {
    match event {
        Event::RequestEnded { outcome, status, executed, .. } => Some((outcome, status, executed)),
        _ => None,
    }
}

/// The rules that hold in every ledger of a simulator that was stopped.
pub fn check(lines: &[Line]) {
    let (mut alive, mut dead) = (HashSet::new(), HashSet::new());
    let mut open: HashMap<u64, Option<String>> = HashMap::new();
    let mut at_us = 0;
    for (place, line) in lines.iter().enumerate() {
        assert_eq!((line.schema, line.seq), (1, place as u64 + 1), "{line:?}");
        assert!(line.at_us >= at_us, "time goes on: {line:?}");
        at_us = line.at_us;
        match &line.event {
            Event::Opened { .. } => open.clear(),
            Event::KeyCreated { key_id, .. } => {
                assert!(alive.insert(key_id.clone()), "born once: {line:?}");
            }
            Event::KeyDied { key_id, .. } => {
                assert!(alive.remove(key_id), "died alive: {line:?}");
                dead.insert(key_id.clone());
            }
            Event::RequestStarted { req, key_id, .. } => {
                assert!(open.insert(*req, key_id.clone()).is_none(), "started once: {line:?}");
            }
            Event::RequestEnded { req, outcome, executed, .. } => {
                let key = open.remove(req).unwrap_or_else(|| panic!("was open: {line:?}"));
                let is_alive = key.as_ref().is_some_and(|key| alive.contains(key));
                let is_dead = key.as_ref().is_some_and(|key| dead.contains(key));
                match outcome {
                    Outcome::Refused => assert!(!is_alive && !executed, "{line:?}"),
                    Outcome::Cut => assert!(is_dead, "{line:?}"),
                    _ => assert!(is_alive, "{line:?}"),
                }
            }
            Event::AdminCall { .. } => {}
        }
    }
    assert!(open.is_empty(), "still open: {open:?}");
}
