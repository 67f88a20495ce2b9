//! A provider and a node on a temporary directory, and the judge at the end.
//!
//! The node lives in a runtime of its own. Dropping that runtime stops everything at whatever
//! await it stands, which is what a killed process looks like from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keybaton::messages::{PairId, ProviderKeyId, RotationId, Version};
use keybaton::{
    Class, Export, Node, NodeBuilder, PairView, Policy, Provider, Secret, StartError, TaskHandle,
    TaskState,
};
use keybaton_actors::program::decode_state;
use keybaton_adapters::providers::{Home, Homes, OpenAi, ProviderSettings};
use keybaton_oracle::{Files, Held, Kill, PairName, Rules, Verdict, judge_files};
use keybaton_ports::{EventBus, SecretStore, TaskRow};
use keybaton_rotation::Phase;
use keybaton_simulator::{ADMIN_KEY_DEFAULT, Simulator};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::bus::DeadBus;
use super::puppet::{Puppet, Role};
use super::recorder::Recorder;
use super::strings::Strings;
use super::wait::{PATIENCE, soon, soon_so};

/// The provider's name on every node of the scenarios.
pub const PROVIDER: &str = "openai";

/// Threads of a node: two, so that what can race does.
const THREADS: usize = 2;

/// Stands between a node and its provider.
pub type StandIn = fn(Arc<dyn Provider>) -> Arc<dyn Provider>;

/// Makes the secret store of one life of a node.
pub type MakeSecrets = Box<dyn Fn() -> Arc<dyn SecretStore> + Send + Sync>;

/// Chooses the stores of one life of a node.
pub type ChooseStores = Box<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

/// Somebody who waits for a key.
pub type Asking = JoinHandle<Result<(), keybaton::AcquireError>>;

/// How a world is set up.
pub struct Setup {
    /// What issuing does to older keys.
    pub class: Class,
    /// How keys are rotated.
    pub policy: Policy,
    /// Live tasks that the node admits.
    pub tasks_max: usize,
    /// Where the node's threads log to, if anywhere.
    pub log: Option<tracing::Dispatch>,
    /// Whether the node knows the program [`Puppet`].
    pub knows_puppets: bool,
    /// Names under which the node knows the one provider. Sweeps are paced for each.
    pub providers: Vec<String>,
    /// The provider that the node is given instead of the real adapter, if any.
    pub stand_in: Option<StandIn>,
    /// Where the node publishes its events; none: where a node does by itself.
    pub bus: Option<Arc<dyn EventBus>>,
    /// Makes what each life of the node keeps secrets in; none: its directory. A connection does not
    /// outlive the life that opened it.
    pub secrets: Option<MakeSecrets>,
    /// Chooses stores on real servers; none: everything is in the node's directory.
    pub stores: Option<ChooseStores>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            class: Class::A,
            policy: policy(),
            tasks_max: 10_000,
            log: None,
            knows_puppets: true,
            providers: vec![PROVIDER.to_owned()],
            stand_in: None,
            bus: DeadBus::if_asked(),
            secrets: None,
            stores: None,
        }
    }
}

/// The real rules at a speed at which a rotation takes a second or two. Deadlines that only
/// matter when something is stuck are long: two busy cores are not stuck.
#[must_use]
pub fn policy() -> Policy {
    let ms = Duration::from_millis;
    Policy {
        overlap: ms(300),
        soft_deadline: ms(2_000),
        hard_deadline: ms(40_000),
        hard_deadline_b: ms(40_000),
        drain_max: ms(60_000),
        call_time_max: ms(60_000),
        settle: ms(1_500),
        emergency_grace: ms(300),
        revoke_deadline: ms(10_000),
        call_timeout: ms(5_000),
        probe_every: ms(200),
        probe_unknown_max: ms(20_000),
        count_every: ms(100),
        retry_min: ms(200),
        retry_max: ms(1_000),
        retry_keyless_max: ms(500),
        attempt_every: ms(100),
        sweep_horizon: ms(3_000),
        set_expiry: false,
        ..Policy::default()
    }
}

/// A provider, a node, a directory.
pub struct World {
    dir: TempDir,
    simulator: Option<Simulator>,
    life: Option<Life>,
    /// The setup; a changed one counts from the next start on.
    pub setup: Setup,
    /// What moves the puppets.
    pub strings: Arc<Strings>,
    /// Every secret that came from the provider or went to it.
    pub secrets: Arc<Mutex<Vec<Vec<u8>>>>,
    kills: Vec<Kill>,
}

/// One life of the node.
struct Life {
    node: Option<Node>,
    runtime: Option<Runtime>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl World {
    /// Opens the usual world.
    pub async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    /// Opens a world.
    pub async fn with(setup: Setup) -> Self {
        log_if_asked();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let class = match setup.class {
            Class::A => keybaton_simulator::Class::A,
            Class::B => keybaton_simulator::Class::B,
        };
        let simulator = Simulator::builder()
            .dir(dir.path().join("provider"))
            .class(class)
            .start()
            .await
            .expect("a simulator starts on a free port");
        let mut world = Self {
            dir,
            simulator: Some(simulator),
            life: None,
            setup,
            strings: Arc::default(),
            secrets: Arc::default(),
            kills: Vec::new(),
        };
        world.start().await;
        world
    }

    /// The provider.
    #[must_use]
    pub fn simulator(&self) -> &Simulator {
        self.simulator.as_ref().expect("the simulator runs")
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        let life = self.life.as_ref().expect("the node runs");
        life.node.as_ref().expect("a life has its node until it ends")
    }

    /// Everything of this world on disk.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The node's data directory.
    #[must_use]
    pub fn node_dir(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    /// Arms a fault, as in `issue@acme:1=ack-lost`.
    pub fn arm(&self, script: &str) {
        let script = script.parse().expect("a script");
        self.simulator().arm(script).expect("room for a script");
    }

    /// Starts the node on its directory.
    pub async fn start(&mut self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = async {
            loop {
                match self.try_start(self.builder()).await {
                    Ok(life) => return life,
                    // The threads of the life before are still on their way out.
                    Err(error) if error.to_string().contains("in use by another") => {
                        ticks.tick().await;
                    }
                    Err(error) => panic!("the node starts: {error}"),
                }
            }
        };
        self.life = Some(soon("a start of the node", started).await);
    }

    /// Starts a node of the caller's making in a life of this world.
    ///
    /// # Errors
    /// As the builder's start.
    pub async fn start_as(&mut self, builder: NodeBuilder) -> Result<(), StartError> {
        self.life = Some(self.try_start(builder).await?);
        Ok(())
    }

    /// A builder for this world's node.
    #[must_use]
    pub fn builder(&self) -> NodeBuilder {
        let base_url = self.simulator().base_url();
        let adapter = self.provider();
        let adapter = match self.setup.stand_in {
            Some(stand_in) => stand_in(adapter),
            None => adapter,
        };
        let mut builder = Node::builder(self.node_dir()).tasks_max(self.setup.tasks_max);
        for name in &self.setup.providers {
            builder = builder.provider(name, adapter.clone(), self.setup.policy.clone());
        }
        if let Some(bus) = &self.setup.bus {
            builder = builder.bus(Arc::clone(bus));
        }
        if let Some(secrets) = &self.setup.secrets {
            builder = builder.secrets(secrets());
        }
        if let Some(choose) = &self.setup.stores {
            builder = choose(builder);
        }
        if self.setup.knows_puppets {
            builder.program(Puppet { base_url, strings: self.strings.clone() })
        } else {
            builder
        }
    }

    /// The provider as the node sees it.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn Provider> {
        let admin_key = Secret::new(ADMIN_KEY_DEFAULT.as_bytes().to_vec())
            .map_err(|refusal| refusal.to_string())
            .expect("the admin key is a key");
        let home = Home { project: "{tenant}".into(), account: Some("agents".into()) };
        let homes = Homes::new(std::collections::BTreeMap::new())
            .and_then(|homes| homes.danger_with_template(home))
            .expect("a template with a tenant");
        let mut settings = ProviderSettings::new(admin_key, homes);
        settings.base_url = Some(format!("{}/v1", self.simulator().base_url()));
        settings.class = self.setup.class;
        let adapter = OpenAi::new(settings).expect("settings that fit");
        Arc::new(Recorder::new(Arc::new(adapter), self.secrets.clone()))
    }

    async fn try_start(&self, builder: NodeBuilder) -> Result<Life, StartError> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(THREADS).enable_all();
        if let Some(log) = self.setup.log.clone() {
            threads.on_thread_start(move || {
                // Stays for the life of the thread.
                std::mem::forget(tracing::dispatcher::set_default(&log));
            });
        }
        let runtime = threads.build().expect("threads");
        let started = runtime.spawn(builder.start()).await.expect("no panic");
        match started {
            Ok(node) => Ok(Life { node: Some(node), runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Ends the node as a kill does: nothing is said, nothing is written any more.
    pub async fn crash(&mut self) {
        self.note_kill();
        let mut life = self.life.take().expect("the node runs");
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(runtime) = life.runtime.take() {
                runtime.shutdown_timeout(PATIENCE);
            }
        });
        ended.await.expect("a runtime that ends");
    }

    /// Remembers that something of ours was killed at this instant, so that the judge counts
    /// the calls that died with it apart.
    pub fn note_kill(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = now.expect("after 1970").as_micros();
        self.kills.push(Kill { at_us: u64::try_from(micros).expect("before the year 500 000") });
    }

    /// Stops the node politely.
    pub async fn stop(&mut self) {
        let mut life = self.life.take().expect("the node runs");
        let node = life.node.take().expect("the node runs");
        assert!(node.shutdown(PATIENCE).await, "every task stops politely");
        let ended = tokio::task::spawn_blocking(move || drop(life.runtime.take()));
        ended.await.expect("a runtime that ends");
    }

    /// Spawns a puppet.
    pub async fn spawn(&self, tenant: &str, task: &str, role: Role) -> TaskHandle<Puppet> {
        let spawned = self.node().spawn::<Puppet>(tenant, PROVIDER, task, role);
        soon("a spawn", spawned).await.expect("a task")
    }

    /// Asks for the first key and waits for it.
    pub async fn provision(&self, tenant: &str) {
        let provisioned = self.node().provision(tenant, PROVIDER);
        soon("the first key", provisioned).await.expect("a key");
    }

    /// Rotates, and does not wait for the end.
    pub async fn rotate(&self, tenant: &str) -> RotationId {
        let asked = self.node().rotate(tenant, PROVIDER, "a test");
        soon("a rotation's begin", asked).await.expect("accepted")
    }

    /// Waits until a rotation is complete.
    pub async fn complete(&self, rotation: &RotationId) {
        let finished = self.node().finished(rotation);
        let what = format!("the end of {rotation}");
        soon(&what, finished).await.expect("a rotation that completes");
    }

    /// The pair of a tenant.
    #[must_use]
    pub fn pair(&self, tenant: &str) -> PairId {
        self.node().pair(tenant, PROVIDER).expect("a pair")
    }

    /// Waits until the pair of a tenant looks like this.
    pub async fn until(&self, tenant: &str, what: &str, is_so: impl FnMut(&PairView) -> bool) {
        let mut views = self.node().watch(&self.pair(tenant));
        let came = soon(what, views.wait_for(is_so)).await;
        came.expect("the node outlives the wait");
    }

    /// Waits until the present rotation of a tenant has reached this phase. It may have left it
    /// again, unless something holds it there.
    pub async fn until_phase(&self, tenant: &str, name: &str) {
        let is_reached = |view: &PairView| {
            let rotation = view.record.as_ref().and_then(|record| record.rotation.as_ref());
            let marks = view.timeline.iter();
            marks.rev().any(|mark| {
                rotation.is_some_and(|rotation| rotation.id == mark.rotation)
                    && phase_name(&mark.phase) == name
            })
        };
        self.until(tenant, &format!("phase {name}"), is_reached).await;
    }

    /// Waits until the node hands a version out no more: whoever comes to a boundary from now on
    /// moves there.
    pub async fn until_closed(&self, tenant: &str, version: Version) {
        let cell = self.node().shared().broker.cell(&self.pair(tenant));
        soon_so(&format!("the end of handing out {version}"), || !cell.is_open(version)).await;
    }

    /// Asks for a key that nobody can give now, and waits until the reason for the wait has this
    /// word in it. What comes back is still asking.
    pub async fn ask_and_be_told(&self, tenant: &str, word: &str) -> Asking {
        let handle = self.node().credential(tenant, PROVIDER, "somebody").expect("a handle");
        let asking = tokio::spawn(async move { handle.call().await.map(drop) });
        let cell = self.node().shared().broker.cell(&self.pair(tenant));
        soon_so("the reason", || cell.why().contains(word)).await;
        assert!(!asking.is_finished(), "nobody has the key");
        asking
    }

    /// Waits until nothing is owed for a tenant: burned labels looked for, secrets destroyed.
    pub async fn debts_paid(&self, tenant: &str) {
        self.until(tenant, "the end of all debts", |view| {
            let record = view.record.as_ref();
            record.is_some_and(|record| record.obligations.is_empty())
        })
        .await;
    }

    /// Writes down what happened, stops everything and has it judged. `rotated` are the tenants
    /// whose key was to be replaced.
    pub async fn judge(self, rotated: &[&str], change: impl FnOnce(&mut Rules)) -> Verdict {
        self.judged(rotated, change).await.0
    }

    /// Demands that the judge finds nothing wrong.
    pub async fn demand_held(self, rotated: &[&str], change: impl FnOnce(&mut Rules)) -> Verdict {
        let verdict = self.judge(rotated, change).await;
        let shown = serde_json::to_string_pretty(&verdict).expect("a verdict is JSON");
        assert_eq!(verdict.verdict, Held::Held, "{shown}");
        verdict
    }

    /// As [`World::judge`], and leaves the world's directory to the caller.
    pub async fn judged(
        mut self,
        rotated: &[&str],
        change: impl FnOnce(&mut Rules),
    ) -> (Verdict, TempDir) {
        let (tasks, pairs) = (self.path().join("tasks.jsonl"), self.path().join("pairs.jsonl"));
        self.export(&tasks, &pairs).await;
        self.stop().await;
        let simulator = self.simulator.take().expect("the simulator runs");
        let ledger = simulator.ledger_path().to_owned();
        simulator.stop().await;
        let audit = Some(self.node_dir().join("audit.jsonl"));
        let files = Files { ledger, tasks, pairs, audit };
        let mut rules = Rules {
            rotated: rotated.iter().map(|tenant| PairName::new(*tenant, PROVIDER)).collect(),
            kills: std::mem::take(&mut self.kills),
            ..Rules::default()
        };
        change(&mut rules);
        let verdict = judge_files(&files, &rules).expect("evidence");
        (verdict, self.dir)
    }

    async fn export(&self, tasks: &Path, pairs: &Path) {
        let ports = &self.node().shared().ports;
        let export = Export { journal: ports.journal.as_ref(), tasks: ports.tasks.as_ref() };
        let key_name = |key: &ProviderKeyId| {
            let name = key.as_str().rsplit('/').next();
            name.unwrap_or_default().to_owned()
        };
        export
            .pairs(pairs, |pair| pair.tenant.to_string(), key_name)
            .await
            .expect("the records can be read");
        export.tasks(tasks, steps_of).await.expect("the task journals can be read");
    }
}

/// For looking into a failure: `KEYBATON_LOG=debug cargo test ... -- --nocapture`.
fn log_if_asked() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("KEYBATON_LOG") {
        // Another world of this process may have been first.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

/// How many steps a puppet was meant to take.
fn steps_of(row: &TaskRow) -> Option<u64> {
    let role: Role = decode_state(&row.spec.input).ok()?;
    let is_ended_early = matches!(row.state, TaskState::Cancelled | TaskState::Failed(_));
    (!is_ended_early).then_some(role.deeds.len() as u64)
}

/// The name of a phase, without its data.
#[must_use]
pub fn phase_name(phase: &Phase) -> String {
    let text = format!("{phase:?}");
    let name = text.split([' ', '{', '(']).next();
    name.unwrap_or_default().to_owned()
}
