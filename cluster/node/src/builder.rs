//! Puts a node together: data directory, master key, providers, programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keybaton_actors::fence::{Fence, LeaseView};
use keybaton_actors::limits::TASKS_MAX;
use keybaton_actors::program::{Program, Programs};
use keybaton_actors::shared::{Ports, ProviderEntry, Shared};
use keybaton_adapters::audit::JsonlSink;
use keybaton_adapters::buses::LocalBus;
use keybaton_adapters::store::{MasterKey, holds_store};
use keybaton_adapters::{Embedded, Options};
use keybaton_messages::{NodeId, ProviderName};
use keybaton_ports::{EventBus, Provider, SecretStore};
use keybaton_rotation::Policy;

use crate::error::StartError;
use crate::limits::CONNECT_WAIT_MAX;
use crate::node::Node;

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
    bus: Arc<dyn EventBus>,
    secrets: Option<Arc<dyn SecretStore>>,
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
            bus: Arc::new(LocalBus::default()),
            secrets: None,
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

    /// Publishes events there; in this process unless said otherwise. Nothing waits for them.
    #[must_use]
    pub fn bus(mut self, bus: Arc<dyn EventBus>) -> Self {
        self.bus = bus;
        self
    }

    /// Keeps secrets there, for example in Vault; in the data directory unless said otherwise.
    #[must_use]
    pub fn secrets(mut self, secrets: Arc<dyn SecretStore>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Starts the node. Rotations and tasks that were under way go on.
    ///
    /// # Errors
    /// [`StartError`], each saying what to do next; nothing is changed then.
    pub async fn start(self) -> Result<Node, StartError> {
        let node = NodeId::new(&self.node)?;
        let mut providers = HashMap::new();
        for (name, entry) in self.providers {
            entry.policy.validate().map_err(|bad| StartError::Policy(name.clone(), bad))?;
            providers.insert(ProviderName::new(&name)?, entry);
        }
        let (key, made) = master_key(&self.dir, self.master_key.as_deref())?;
        let embedded = Embedded::open(&self.dir, key, &Options::default()).inspect_err(|_| {
            // A key that opens nothing; one that cannot be removed opens nothing either.
            if let Some(made) = made.filter(|_| !holds_store(&self.dir)) {
                let _ = std::fs::remove_file(made);
            }
        })?;
        for notice in &embedded.notices {
            tracing::warn!("{notice}");
        }
        let audit = JsonlSink::open(&self.dir.join(AUDIT_FILE)).map_err(StartError::Audit)?;
        let life = embedded.journal.begin_life(&node).await.map_err(StartError::Store)?;
        let ports = Ports {
            journal: embedded.journal.clone(),
            tasks: embedded.tasks.clone(),
            secrets: self.secrets.unwrap_or_else(|| embedded.secrets.clone()),
            checkpoints: embedded.checkpoints.clone(),
            bus: self.bus,
            audit: Arc::new(audit),
            clock: embedded.clock.clone(),
            entropy: embedded.entropy.clone(),
            providers,
            fingerprints: embedded.fingerprint_key.clone(),
            deployment: embedded.deployment.clone(),
        };
        let shared = Shared::new(
            life,
            ports,
            Fence::new(LeaseView::Held),
            self.programs,
            http_client()?,
            self.tasks_max,
        );
        Node::start(shared, embedded, &self.dir, self.status_socket).await
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
        && !holds_store(dir);
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
