//! Sets the stage: directory, simulator, node, agents.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keybaton::buses::RedisBus;
use keybaton::postgres::PostgresError;
use keybaton::{Node, NodeBuilder, Policy, RedisStoreError, Secret, StartError, TaskHandle};
use keybaton_adapters::providers::{Home, Homes, OpenAi, ProviderSettings};
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Simulator};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::super::cli::StoreArgs;
use super::agents::{DemoAgent, Diary, Itinerary};
use super::options::{DemoArgs, FaultName, ProviderClass};

/// The tenants; the first one's key is rotated.
pub const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

/// The provider's name on the demo's node.
pub const PROVIDER: &str = "openai";

/// Real waits divided by this.
pub const SCALE: u32 = 60;

/// What a run is, kept in its directory so that a second start goes on with the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Agents.
    pub tasks: u32,
    /// Seed of their randomness.
    pub seed: u64,
    /// How the provider behaves on issue.
    pub class: ProviderClass,
    /// What goes wrong.
    pub fault: Option<FaultName>,
    /// The key has leaked.
    pub emergency: bool,
}

impl Plan {
    /// The plan that the options ask for.
    pub fn of(args: &DemoArgs) -> Self {
        Self {
            tasks: args.tasks,
            seed: args.seed,
            class: args.provider_class,
            fault: args.fault,
            emergency: args.emergency,
        }
    }

    /// The agents: tenant, name and itinerary of each.
    pub fn agents(&self) -> Vec<(&'static str, String, Itinerary)> {
        // A call a second per agent is more than two cores carry beyond some hundred agents.
        let think_ms = (u64::from(self.tasks) * 2).clamp(400, 20_000);
        let steps = if self.tasks > 1000 { 6 } else { 8 };
        (0..self.tasks)
            .map(|number| {
                // Every second agent is the rotated tenant's.
                let tenant = if number % 2 == 0 { 0 } else { 1 + (number as usize / 2) % 3 };
                let seed = self.seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(number));
                let mut rng = StdRng::seed_from_u64(seed);
                let itinerary = Itinerary {
                    seed,
                    steps: steps + rng.random_range(0..3),
                    think_ms,
                    keeps_key: number == 0 || number % 25 == 2,
                    has_long_step: number % 20 == 4,
                };
                (TENANTS[tenant], format!("agent-{number:05}"), itinerary)
            })
            .collect()
    }
}

/// The policy of the demo: the real rules at another speed.
pub fn policy() -> Policy {
    Policy {
        // A stream of the demo lasts three seconds; an answer may wait for two busy cores, and an
        // issue call that was given up may still execute while its settle wait lasts.
        hard_deadline_b: Duration::from_secs(15),
        call_timeout: Duration::from_secs(3),
        settle: Duration::from_secs(4),
        emergency_grace: Duration::from_millis(500),
        revoke_deadline: Duration::from_secs(10),
        sweep_horizon: Duration::from_secs(6),
        drain_max: Duration::from_secs(90),
        call_time_max: Duration::from_secs(60),
        set_expiry: false,
        ..Policy::default().scaled(SCALE)
    }
}

/// Where a run works.
pub enum Place {
    /// Gone afterwards.
    Temporary(TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl Place {
    /// Opens the place that the options name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        match kept {
            None => {
                let made = tempfile::Builder::new().prefix("keybaton-demo-").tempdir();
                Ok(Self::Temporary(made.context("no temporary directory could be made")?))
            }
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("{} cannot be made", dir.display()))?;
                Ok(Self::Kept(dir.to_owned()))
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(dir) => dir,
        }
    }
}

/// Reads the plan of the directory, or writes this one.
///
/// # Errors
/// When the directory holds another plan, since a run is never continued as another one, or
/// somebody else's files.
pub fn settle_plan(dir: &Path, plan: &Plan) -> anyhow::Result<bool> {
    let path = dir.join("demo.json");
    if path.exists() {
        let kept: Plan = serde_json::from_slice(&std::fs::read(&path)?)
            .with_context(|| format!("{} is not a demo's plan", path.display()))?;
        if kept != *plan {
            bail!(
                "{} holds a run with other options ({kept:?}); give the same ones, or another \
                 --data-dir",
                dir.display()
            );
        }
        return Ok(true);
    }
    let partial = dir.join("demo.json.partial");
    let mut names = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    if let Some(other) = names.find(|path| *path != partial) {
        bail!(
            "{} holds {}, which is not a demo's; choose an empty directory",
            dir.display(),
            Path::new(other.file_name().unwrap_or_default()).display()
        );
    }
    std::fs::write(&partial, serde_json::to_vec(plan)?)?;
    std::fs::rename(&partial, &path)?;
    Ok(false)
}

/// The provider: in this process, or in one of its own.
pub struct Vendor {
    /// Where it answers.
    pub base_url: String,
    /// Where its ledger is.
    pub ledger: PathBuf,
    inside: Option<Simulator>,
}

impl Vendor {
    /// Starts a simulator in this process, or looks for the one that the options name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn open(args: &DemoArgs, dir: &Path, class: ProviderClass) -> anyhow::Result<Self> {
        if let (Some(url), Some(dir)) = (&args.simulator, &args.simulator_dir) {
            let base_url = url.trim_end_matches('/').to_owned();
            return Ok(Self { base_url, ledger: dir.join("ledger.jsonl"), inside: None });
        }
        Self::inside(dir.join("provider"), class).await
    }

    /// Starts a simulator in this process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn inside(dir: PathBuf, class: ProviderClass) -> anyhow::Result<Self> {
        let started = Simulator::builder().dir(dir).class(class.into()).start().await;
        let simulator = started.context("the simulated provider did not start")?;
        Ok(Self {
            base_url: simulator.base_url(),
            ledger: simulator.ledger_path().to_owned(),
            inside: Some(simulator),
        })
    }

    /// Arms a fault for the next matching call.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub async fn arm(&self, script: &str) -> anyhow::Result<()> {
        if let Some(simulator) = &self.inside {
            simulator.arm(script.parse()?)?;
            return Ok(());
        }
        let answer = reqwest::Client::new()
            .post(format!("{}/_simulator/faults", self.base_url))
            .bearer_auth(ADMIN_KEY_DEFAULT)
            .json(script)
            .send()
            .await?;
        answer.error_for_status().context("the simulator did not take the fault")?;
        Ok(())
    }

    /// Makes the ledger complete, and ends a simulator of this process.
    pub async fn close(self) {
        if let Some(simulator) = self.inside {
            simulator.stop().await;
        }
    }
}

/// Starts the node against the vendor.
///
/// # Errors
/// When the directory cannot be used.
pub async fn start_node(
    dir: &Path,
    vendor: &Vendor,
    plan: &Plan,
    stores: &StoreArgs,
) -> anyhow::Result<Node> {
    let builder = Node::builder(dir.join("node"))
        .provider(PROVIDER, provider(vendor, plan.class)?, policy())
        .program(DemoAgent { base_url: vendor.base_url.clone() });
    start_on(builder, stores, &TENANTS).await
}

/// The adapter that speaks to the vendor.
///
/// # Errors
/// When the vendor's address cannot be used.
pub fn provider(vendor: &Vendor, class: ProviderClass) -> anyhow::Result<Arc<OpenAi>> {
    let admin_key = Secret::new(ADMIN_KEY_DEFAULT.as_bytes().to_vec())?;
    let home = Home { project: "{tenant}".into(), account: Some("agents".into()) };
    // The tenants are made up: nothing is told that is not known.
    let homes = Homes::new(std::collections::BTreeMap::new())?.danger_with_template(home)?;
    let mut settings = ProviderSettings::new(admin_key, homes);
    settings.base_url = Some(format!("{}/v1", vendor.base_url));
    settings.class = class.into();
    Ok(Arc::new(OpenAi::new(settings)?))
}

/// Starts the node on the chosen stores, and asks them whether they are there.
///
/// # Errors
/// When the directory cannot be used, or a store does not answer.
pub async fn start_on<T: AsRef<str>>(
    builder: NodeBuilder,
    stores: &StoreArgs,
    tenants: &[T],
) -> anyhow::Result<Node> {
    let node = match stores.apply(builder)?.start().await {
        Err(
            StartError::Postgres(PostgresError::WrongKey)
            | StartError::RedisJournal(RedisStoreError::WrongKey),
        ) => bail!(
            "the database holds another run's journal; give an empty one, or the --data-dir of \
             that run"
        ),
        started => started?,
    };
    demand_stores(&node, stores, tenants).await?;
    Ok(node)
}

/// A node starts while its servers are away and waits for them; who looks at a demo does not.
async fn demand_stores<T: AsRef<str>>(
    node: &Node,
    stores: &StoreArgs,
    tenants: &[T],
) -> anyhow::Result<()> {
    for tenant in tenants {
        let pair = node.pair(tenant.as_ref(), PROVIDER)?;
        let ready = node.shared().ports.secrets.preflight(&pair).await;
        ready.with_context(|| format!("secrets cannot be kept ({})", node.stores().secrets))?;
    }
    if let Some(settings) = stores.redis()? {
        let answer = RedisBus::new(settings)?.ping().await;
        answer.with_context(|| format!("events cannot be told ({})", node.stores().bus))?;
    }
    Ok(())
}

/// Spawns every agent; those that are there already are followed.
///
/// # Errors
/// When one is not admitted.
pub async fn spawn_agents(node: &Node, plan: &Plan) -> anyhow::Result<Vec<TaskHandle<DemoAgent>>> {
    let mut handles = Vec::new();
    for (tenant, name, itinerary) in plan.agents() {
        let diary = Diary { itinerary, answers: Vec::new() };
        handles.push(node.spawn::<DemoAgent>(tenant, PROVIDER, &name, diary).await?);
    }
    Ok(handles)
}
