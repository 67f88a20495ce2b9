//! The stage of a run: a simulator, a node, tenants with a key each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use keybaton::{Node, Policy};
use tempfile::TempDir;

use super::super::demo::stage::{PROVIDER, Vendor, provider, start_on};
use super::agent::BenchAgent;
use super::limits::{SPAWNS_AT_ONCE, TASKS_ROOM};
use super::load::Load;
use super::options::DrainArgs;
use super::recorder::Recorder;

/// Everything that a run works on.
pub struct Stage {
    /// Its node.
    pub node: Node,
    /// Its provider.
    pub vendor: Vendor,
    /// What agents do.
    pub load: Arc<Load>,
    /// Who listens to them.
    pub recorder: Arc<Recorder>,
    /// Agents end at their next boundary.
    pub is_closing: Arc<AtomicBool>,
    /// Names of the tenants.
    pub tenants: Vec<String>,
    /// Where all of it lies, on the disk of the results; gone with the run.
    pub dir: TempDir,
}

/// The names of the tenants.
pub fn tenants(args: &DrainArgs) -> Vec<String> {
    (0..args.tenants).map(|number| format!("tenant-{number:05}")).collect()
}

/// The load that was asked for.
pub fn load(args: &DrainArgs) -> Load {
    Load {
        seed: args.seed,
        steps: args.step_dist.clone(),
        streaming: args.streaming,
        sessions: args.sessions,
        own_work: args.own_work,
    }
}

/// The rules as they are by default, but for what the options say.
pub fn policy(args: &DrainArgs) -> Policy {
    let usual = Policy::default();
    Policy {
        overlap: args.overlap,
        // The simulator's keys need not end by themselves.
        set_expiry: false,
        // Class B gives holders half a minute; a benchmark waits as long as it was told to.
        hard_deadline_b: args.deadline().clamp(usual.hard_deadline_b, usual.drain_max),
        ..usual
    }
}

impl Stage {
    /// Starts provider and node, and gives each tenant its first key.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub async fn open(args: &DrainArgs, out: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("work-").tempdir_in(out)?;
        let vendor = Vendor::inside(dir.path().join("provider"), args.provider_class).await?;
        let (load, recorder) = (Arc::new(load(args)), Arc::new(Recorder::new()));
        let is_closing = Arc::new(AtomicBool::new(false));
        let agent = BenchAgent {
            base_url: vendor.base_url.clone(),
            load: load.clone(),
            recorder: recorder.clone(),
            is_closing: is_closing.clone(),
        };
        let builder = Node::builder(dir.path().join("node"))
            .provider(PROVIDER, provider(&vendor, args.provider_class)?, policy(args))
            .program(agent)
            .tasks_max(TASKS_ROOM)
            .without_status_socket();
        let tenants = tenants(args);
        let node = start_on(builder, &args.stores, &tenants).await?;
        stream::iter(&tenants)
            .map(|tenant| node.provision(tenant, PROVIDER))
            .buffer_unordered(SPAWNS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(Self { node, vendor, load, recorder, is_closing, tenants, dir })
    }
}
