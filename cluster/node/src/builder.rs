//! Puts a node together: data directory, master key, providers, programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keybaton_actors::fence::{Fence, LeaseView};
use keybaton_actors::limits::TASKS_MAX;
use keybaton_actors::program::{Program, Programs};
use keybaton_actors::shared::{Ports, ProviderEntry, Shared};
use keybaton_adapters::audit::JsonlSink;
use keybaton_adapters::buses::RedisSettings;
use keybaton_adapters::journals::RedisJournalSettings;
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_adapters::secrets::vault::VaultSettings;
use keybaton_adapters::store::MasterKey;
use keybaton_messages::{NodeId, ProviderName};
use keybaton_ports::{EventBus, Provider, SecretStore};
use keybaton_rotation::Policy;

use crate::error::StartError;
use crate::limits::CONNECT_WAIT_MAX;
use crate::node::Node;
use crate::stores::{self, BusChoice, Choice, JournalChoice, SecretsChoice, holds_node};

/// The shipped audit trail, in the data directory.
pub(crate) const AUDIT_FILE: &str = "audit.jsonl";

/// Collects what a node needs, and starts it.
pub struct NodeBuilder {
    dir: PathBuf,
    node: String,
    master_key: Option<PathBuf>,
    providers: Vec<(String, ProviderEntry)>,
    programs: Programs,
    tasks_max: usize,
    status_socket: bool,
    stores: Choice,
}

impl NodeBuilder {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            node: "node-1".into(),
            master_key: None,
            providers: Vec::new(),
            programs: Programs::default(),
            tasks_max: TASKS_MAX,
            status_socket: true,
            stores: Choice {
                journal: JournalChoice::Embedded,
                secrets: SecretsChoice::Embedded,
                bus: BusChoice::Local,
            },
        }
    }

    /// The node's lasting name; `node-1` unless said otherwise.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        name.clone_into(&mut self.node);
        self
    }

    /// The file with the master key (mode 0400). Without it the environment variable
    /// `KEYBATON_MASTER_KEY` is used; without that too, a key is made beside the data directory,
    /// in `<dir>.master-key`.
    #[must_use]
    pub fn master_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.master_key = Some(path.into());
        self
    }

    /// Adds a provider under a name, with the policy of its rotations.
    #[must_use]
    pub fn provider(mut self, name: &str, provider: Arc<dyn Provider>, policy: Policy) -> Self {
        self.providers.push((name.to_owned(), ProviderEntry { provider, policy }));
        self
    }

    /// Adds a kind of task.
    #[must_use]
    pub fn program<P: Program>(mut self, program: P) -> Self {
        self.programs.add(program);
        self
    }

    /// Admits at most this many live tasks.
    #[must_use]
    pub fn tasks_max(mut self, tasks: usize) -> Self {
        self.tasks_max = tasks;
        self
    }

    /// Leaves out the socket in the data directory that `keybaton status` asks.
    #[must_use]
    pub fn without_status_socket(mut self) -> Self {
        self.status_socket = false;
        self
    }

    /// Keeps records, tasks and checkpoints in Postgres; in the data directory unless said
    /// otherwise. A directory stays with what it began with.
    #[must_use]
    pub fn postgres(mut self, settings: PostgresSettings) -> Self {
        self.stores.journal = JournalChoice::Postgres(Box::new(settings));
        self
    }

    /// Keeps records and tasks in Redis, as best effort: a failover of Redis may lose what it has
    /// acknowledged. The node does not start unless the settings accept that
    /// ([`RedisJournalSettings::accepted_loss`]), and says so in its status. A directory stays with
    /// what it began with.
    #[must_use]
    pub fn redis_journal(mut self, settings: RedisJournalSettings) -> Self {
        self.stores.journal = JournalChoice::Redis(Box::new(settings));
        self
    }

    /// Keeps secrets in Vault; in the data directory unless said otherwise. A directory stays with
    /// what it began with.
    #[must_use]
    pub fn vault(mut self, settings: VaultSettings) -> Self {
        self.stores.secrets = SecretsChoice::Vault(settings);
        self
    }

    /// Publishes events on Redis; in this process unless said otherwise. Nothing waits for them,
    /// and the node starts without them too.
    #[must_use]
    pub fn redis(mut self, settings: RedisSettings) -> Self {
        self.stores.bus = BusChoice::Redis(Box::new(settings));
        self
    }

    /// Publishes events on a bus of the program's own.
    #[must_use]
    pub fn bus(mut self, bus: Arc<dyn EventBus>) -> Self {
        self.stores.bus = BusChoice::Given(bus);
        self
    }

    /// Keeps secrets in a store of the program's own.
    #[must_use]
    pub fn secrets(mut self, secrets: Arc<dyn SecretStore>) -> Self {
        self.stores.secrets = SecretsChoice::Given(secrets);
        self
    }

    /// Starts the node. Rotations and tasks that were under way go on.
    ///
    /// # Errors
    /// [`StartError`], each saying what to do next. No record is changed then.
    pub async fn start(self) -> Result<Node, StartError> {
        let node = NodeId::new(&self.node)?;
        let mut providers = HashMap::new();
        for (name, entry) in self.providers {
            entry.policy.validate().map_err(|bad| StartError::Policy(name.clone(), bad))?;
            providers.insert(ProviderName::new(&name)?, entry);
        }
        let key_file = self.master_key.as_deref();
        let (key, made) = master_key(&self.dir, key_file)?;
        let opened = stores::open(&self.dir, key, key_file, self.stores).await;
        let stores = opened.inspect_err(|_| {
            // A key that opens nothing; one that cannot be removed opens nothing either.
            if let Some(made) = made.filter(|_| !holds_node(&self.dir)) {
                let _ = std::fs::remove_file(made);
            }
        })?;
        let audit = JsonlSink::open(&self.dir.join(AUDIT_FILE)).map_err(StartError::Audit)?;
        let life = stores.journal.begin_life(&node).await.map_err(StartError::Store)?;
        let ports = Ports {
            journal: stores.journal.clone(),
            tasks: stores.tasks.clone(),
            secrets: stores.secrets.clone(),
            checkpoints: stores.checkpoints.clone(),
            bus: stores.bus.clone(),
            audit: Arc::new(audit),
            clock: stores.clock.clone(),
            entropy: stores.entropy.clone(),
            providers,
            fingerprints: stores.fingerprint_key.clone(),
            deployment: stores.deployment.clone(),
        };
        let shared = Shared::new(
            life,
            ports,
            Fence::new(LeaseView::Held),
            self.programs,
            http_client()?,
            self.tasks_max,
        );
        Node::start(shared, stores, &self.dir, self.status_socket).await
    }
}

/// For the calls of tasks: no redirects, since a redirected request would carry the key elsewhere.
fn http_client() -> Result<reqwest::Client, StartError> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WAIT_MAX)
        .build()
        .map_err(|error| StartError::Actors(error.to_string()))
}

/// The key, and where it was made if it is new.
fn master_key(dir: &Path, file: Option<&Path>) -> Result<(MasterKey, Option<PathBuf>), StartError> {
    let beside = key_beside(dir);
    // A store whose key is gone is not a new one: another key would only hide the loss.
    let is_new = file.is_none()
        && MasterKey::from_environment()?.is_none()
        && !beside.exists()
        && !holds_node(dir);
    if is_new {
        Ok((MasterKey::create_at(&beside)?, Some(beside)))
    } else {
        Ok((existing_master_key(dir, file)?, None))
    }
}

/// The key of a directory that has one already.
pub(crate) fn existing_master_key(
    dir: &Path,
    file: Option<&Path>,
) -> Result<MasterKey, StartError> {
    if let Some(file) = file {
        return Ok(MasterKey::read(file)?);
    }
    match MasterKey::from_environment()? {
        Some(key) => Ok(key),
        None => Ok(MasterKey::read(&key_beside(dir))?),
    }
}

/// Where the master key lies when nobody said: beside the data directory, not in it, so that a
/// copy of the directory alone opens nothing.
fn key_beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".master-key");
    dir.with_file_name(name)
}
