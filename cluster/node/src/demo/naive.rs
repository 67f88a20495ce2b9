//! Today's way: write the new key where agents find it, wait a fixed time, revoke the old one.
//!
//! The same agents with the same itineraries, each holding the key that it found when it began, as
//! SDK clients do. No checkpoint: an agent whose call is refused has lost its work.
//!
//! **Invariant:** judged by the same ledger and the same oracle, so that the oracle is seen to say
//! "broken" when it is.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::HeaderValue;
use keybaton::StepError;
use keybaton::messages::{TaskId, TaskKey, TenantId};
use keybaton_oracle::{Files, PairName, Rules, judge_files};
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Simulator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agents::{Caller, Itinerary, read_all, walk};
use super::report::Naive;
use super::stage::{PROVIDER, Plan, SCALE, TENANTS};

/// What is usual: five minutes between the new key and the end of the old one.
const USUAL_WAIT: Duration = Duration::from_secs(300);

/// When the rotation begins: most agents are in their second or third step then.
const ROTATE_AFTER_THINKS: u32 = 2;

/// A key as the provider answered it. Without keybaton its bytes lie about in memory like this.
#[derive(Clone, Deserialize)]
pub struct Issued {
    /// The provider's name for it.
    pub id: String,
    value: String,
}

/// A key that an agent found once and keeps.
pub struct FoundKey {
    http: reqwest::Client,
    header: HeaderValue,
}

impl FoundKey {
    /// What an agent makes of the key that it found; `None` when it does not fit a header.
    pub fn new(http: reqwest::Client, key: &Issued) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", key.value)).ok()?;
        header.set_sensitive(true);
        Some(Self { http, header })
    }
}

impl Caller for FoundKey {
    async fn call(&self, mut request: reqwest::Request) -> Result<Vec<u8>, StepError> {
        request.headers_mut().insert(http::header::AUTHORIZATION, self.header.clone());
        read_all(&self.http, request).await
    }
}

/// The provider's administration, asked as any script asks it.
pub struct Administration {
    /// Sends the requests.
    pub http: reqwest::Client,
    /// Where the provider is.
    pub base_url: String,
}

impl Administration {
    /// Makes a key.
    ///
    /// # Errors
    /// When the provider does not.
    pub async fn issue(&self, tenant: &str, name: &str) -> anyhow::Result<Issued> {
        let url = format!(
            "{}/v1/organization/projects/{tenant}/service_accounts/agents/api_keys",
            self.base_url
        );
        let request = self.http.post(url).bearer_auth(ADMIN_KEY_DEFAULT);
        let answer = request.json(&json!({"name": name})).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Ends a key.
    ///
    /// # Errors
    /// When the provider does not.
    pub async fn revoke(&self, tenant: &str, key: &Issued) -> anyhow::Result<()> {
        let url =
            format!("{}/v1/organization/projects/{tenant}/api_keys/{}", self.base_url, key.id);
        let answer = self.http.delete(url).bearer_auth(ADMIN_KEY_DEFAULT).send().await?;
        answer.error_for_status()?;
        Ok(())
    }
}

/// Runs the agents and rotates the first tenant's key by the clock.
///
/// # Errors
/// When the provider cannot be started or the run leaves no evidence.
pub async fn run(plan: &Plan, dir: &Path) -> anyhow::Result<Naive> {
    let dir = dir.join("naive");
    std::fs::create_dir_all(&dir)?;
    let simulator = Simulator::builder()
        .dir(dir.join("provider"))
        .class(plan.class.into())
        .start()
        .await
        .context("the simulated provider did not start")?;
    let http = reqwest::Client::new();
    let admin = Administration { http: http.clone(), base_url: simulator.base_url() };
    let mut keys = Vec::new();
    for tenant in TENANTS {
        keys.push(Arc::new(ArcSwap::from_pointee(admin.issue(tenant, "kb1-naive-1").await?)));
    }
    let mut agents = Vec::new();
    for (tenant, name, itinerary) in plan.agents() {
        let place = TENANTS.iter().position(|known| *known == tenant).unwrap_or_default();
        let key = TaskKey { tenant: TenantId::new(tenant)?, task: TaskId::new(&name)? };
        let store = keys[place].clone();
        let base_url = simulator.base_url();
        agents.push(tokio::spawn(live(key, itinerary, store, http.clone(), base_url)));
    }
    let wait = USUAL_WAIT / SCALE;
    let (old, new) = rotate_by_the_clock(plan, &admin, &keys[0], wait).await?;
    let mut tasks = BufWriter::new(File::create(dir.join("tasks.jsonl"))?);
    for agent in agents {
        writeln!(tasks, "{}", agent.await?)?;
    }
    tasks.flush()?;
    let ledger = simulator.ledger_path().to_owned();
    simulator.stop().await;
    let actives: Vec<_> = keys.iter().map(|key| key.load_full()).collect();
    write_pairs(&dir.join("pairs.jsonl"), &actives, &old, &new)?;
    let rules = Rules {
        rotated: vec![PairName::new(TENANTS[0], PROVIDER)],
        tasks_expected: Some(u64::from(plan.tasks)),
        ..Rules::default()
    };
    let (tasks, pairs) = (dir.join("tasks.jsonl"), dir.join("pairs.jsonl"));
    let verdict = judge_files(&Files { ledger, tasks, pairs, audit: None }, &rules)?;
    Ok(Naive { verdict, wait })
}

async fn rotate_by_the_clock(
    plan: &Plan,
    admin: &Administration,
    store: &ArcSwap<Issued>,
    wait: Duration,
) -> anyhow::Result<(Issued, Issued)> {
    let think = plan.agents().first().map_or(0, |(_, _, itinerary)| itinerary.think_ms);
    tokio::time::sleep(Duration::from_millis(think) * ROTATE_AFTER_THINKS).await;
    let old = Issued::clone(&store.load());
    let new = admin.issue(TENANTS[0], "kb1-naive-2").await?;
    store.store(Arc::new(new.clone()));
    tokio::time::sleep(wait).await;
    admin.revoke(TENANTS[0], &old).await?;
    Ok((old, new))
}

/// One agent's life, as a line of the task export.
async fn live(
    key: TaskKey,
    itinerary: Itinerary,
    store: Arc<ArcSwap<Issued>>,
    http: reqwest::Client,
    base_url: String,
) -> Value {
    let mut entries = Vec::new();
    let mut state = "done";
    // Found once, at the beginning, as a client object that is built once does.
    let Some(caller) = FoundKey::new(http, &store.load()) else {
        return line(&key, Some(itinerary.steps), "failed", &entries);
    };
    for step in 0..itinerary.steps {
        let idem = idem(&key, step);
        match walk(&caller, &base_url, &key, &itinerary, step, &idem).await {
            Ok(_) => entries.push(result(step, &idem)),
            Err(_) => {
                state = "failed";
                break;
            }
        }
        tokio::time::sleep(itinerary.rest(step)).await;
    }
    line(&key, Some(itinerary.steps), state, &entries)
}

/// A step's result, as an entry of the task export.
pub fn result(step: u64, idem: &str) -> Value {
    json!({"entry": "result", "n": step, "idem": idem, "version": null, "at_ms": 0})
}

/// The idempotency key of a step.
pub fn idem(key: &TaskKey, step: u64) -> String {
    let text = format!("{key}#{step}");
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

/// A task's line of the export.
pub fn line(key: &TaskKey, steps_expected: Option<u64>, state: &str, entries: &[Value]) -> Value {
    json!({
        "schema": 1, "tenant": key.tenant, "task": key.task, "kind": "naive", "provider": PROVIDER,
        "state": state, "steps_expected": steps_expected, "entries": entries, "output": null,
    })
}

fn write_pairs(
    path: &Path,
    actives: &[Arc<Issued>],
    old: &Issued,
    new: &Issued,
) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for (tenant, active) in TENANTS.iter().zip(actives) {
        let line = if *tenant == TENANTS[0] {
            pair_line(tenant, &[old, new])
        } else {
            pair_line(tenant, &[active.as_ref()])
        };
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    Ok(())
}

/// A pair's line of the export: its keys in their order, all revoked but the last.
pub fn pair_line(tenant: &str, keys: &[&Issued]) -> Value {
    let versions: Vec<_> = (1..)
        .zip(keys)
        .map(|(v, key)| {
            let status = if v == keys.len() { "ACTIVE" } else { "REVOKED" };
            json!({"v": v, "status": status, "label": null, "key_id": key.id, "promoted_at_ms": 1})
        })
        .collect();
    json!({
        "schema": 1, "tenant": tenant, "provider": PROVIDER, "project": tenant, "rev": 1,
        "epoch": 1, "active": keys.len(), "gate": "Open", "versions": versions, "rotation": null,
        "obligations": [],
    })
}
