//! A node on a scratch directory with agents of one tenant, all of them on one pair.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use keybaton::messages::{
    Checkpoint, CheckpointReason, PairId, RotationId, TaskId, TaskKey, TenantId, Timestamp,
    Version, wire,
};
use keybaton::{DrainReport, Node, Policy, Program};
use keybaton_ports::Entry;

use super::agent::{Agent, Cues, Notes, OUTCOME_BYTES, Play, STATE_BYTES};
use super::scratch::Scratch;
use super::vendor::InstantVendor;

/// The tenant of a crew.
pub const TENANT: &str = "acme";

/// The provider's name.
pub const PROVIDER: &str = "instant";

/// Agents that are spawned at the same time; the store commits them together.
const SPAWNED_AT_ONCE: usize = 2048;

/// Longest wait for something that should be a matter of seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a row of the task journal has besides the encoded entry: head 25, envelope 32 + 16,
/// pointer 8.
const ROW_FRAME_BYTES: usize = 25 + 32 + 16 + 8;

/// Nothing waits longer than the work takes; the deadlines are never met.
#[must_use]
pub fn policy() -> Policy {
    Policy { set_expiry: false, overlap: Duration::ZERO, ..Policy::default() }
}

/// A runtime as the program itself has it: a worker for each core.
///
/// # Errors
/// When its threads cannot be started.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A node with agents.
pub struct Crew {
    /// The node.
    pub node: Node,
    /// What the agents wait for.
    pub cues: Arc<Cues>,
    /// The pair that all of them use.
    pub pair: PairId,
    /// How many there are.
    pub agents: usize,
}

impl Crew {
    /// Starts a node in `dir` with room for so many agents, and spawns some that know
    /// `state_bytes` each; returns when the first step of every one has begun.
    ///
    /// # Errors
    /// When the node does not start, or the agents do not within minutes.
    pub async fn start(
        dir: &Path,
        agents: usize,
        room: usize,
        state_bytes: usize,
        play: Play,
    ) -> anyhow::Result<Self> {
        let cues = Cues::new(room, play);
        let node = Node::builder(dir.join("node"))
            .provider(PROVIDER, Arc::new(InstantVendor::default()), policy())
            .program(Agent(cues.clone()))
            .tasks_max(room)
            .without_status_socket()
            .start()
            .await?;
        let pair = node.pair(TENANT, PROVIDER)?;
        node.provision(TENANT, PROVIDER).await?;
        let mut crew = Self { node, cues, pair, agents: 0 };
        crew.add(agents, state_bytes).await?;
        Ok(crew)
    }

    /// Spawns more agents; returns when the first step of every one has begun.
    ///
    /// # Errors
    /// When they do not begin within minutes.
    pub async fn add(&mut self, agents: usize, state_bytes: usize) -> anyhow::Result<()> {
        self.cues.expect(agents);
        let from = self.agents;
        self.agents += agents;
        self.spawn(from..self.agents, state_bytes).await?;
        self.all_began().await?;
        Ok(())
    }

    /// As [`Crew::start`], with the state of the rotation benches.
    ///
    /// # Errors
    /// As [`Crew::start`].
    pub async fn on(scratch: &Scratch, agents: usize, play: Play) -> anyhow::Result<Self> {
        Self::start(scratch.path(), agents, agents, STATE_BYTES, play).await
    }

    async fn spawn(
        &self,
        agents: std::ops::Range<usize>,
        state_bytes: usize,
    ) -> anyhow::Result<()> {
        let spawned = futures::stream::iter(agents)
            .map(|agent| async move {
                let notes = notes(agent, state_bytes)?;
                let task = format!("agent-{agent}");
                self.node.spawn::<Agent>(TENANT, PROVIDER, &task, notes).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(SPAWNED_AT_ONCE);
        spawned.try_collect::<()>().await
    }

    /// Waits until the expected steps have begun; the moment when the last one did.
    ///
    /// # Errors
    /// When they do not within minutes.
    pub async fn all_began(&self) -> anyhow::Result<Instant> {
        tokio::time::timeout(PATIENCE, self.cues.complete())
            .await
            .context("the agents did not begin their steps in time")
    }

    /// Waits until every agent rests or waits for its cue in a step: no result is on its way.
    ///
    /// # Errors
    /// When they do not come to rest within minutes.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let quiet = async {
            let mut before = 0;
            // A step that is under way begins or ends another one within this time.
            while before != self.cues.entered() {
                before = self.cues.entered();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, quiet)
            .await
            .context("the agents did not come to rest in time")
    }

    /// Waits until the first step of every agent is durable, in a crew that rests afterwards.
    ///
    /// # Errors
    /// When they do not come to rest within minutes.
    pub async fn all_rest(&self) -> anyhow::Result<()> {
        let resting = async {
            while !self.node.tasks(None).iter().all(|(_, view)| view.step > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, resting)
            .await
            .context("the agents did not come to rest in time")
    }

    /// The version that is handed out.
    ///
    /// # Errors
    /// When there is none.
    pub fn version(&self) -> anyhow::Result<Version> {
        let current = self.node.shared().broker.cell(&self.pair).current();
        let (version, _) = current.context("no version is handed out")?;
        Ok(version)
    }

    /// Rotates, up to where the old version is closed. Its holders leave at their own boundaries.
    ///
    /// # Errors
    /// When the rotation is refused or does not come this far.
    pub async fn promote(&self) -> anyhow::Result<(RotationId, Version)> {
        let old = self.version()?;
        let id = self.node.rotate(TENANT, PROVIDER, "bench").await?;
        let closed = async {
            while self.drain(old).is_none() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed)
            .await
            .context("the old version was not closed in time")?;
        Ok((id, old))
    }

    /// Waits until a rotation has ended.
    ///
    /// # Errors
    /// When it failed, or takes minutes.
    pub async fn finish(&self, id: &RotationId) -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, self.node.finished(id))
            .await
            .context("the rotation did not end in time")??;
        Ok(())
    }

    /// How a version left, once it was closed.
    #[must_use]
    pub fn drain(&self, version: Version) -> Option<DrainReport> {
        let mut drains = self.node.drains(&self.pair).into_iter().rev();
        drains.find(|drain| drain.version == version)
    }

    /// Ends the node.
    ///
    /// # Errors
    /// When tasks did not stop in time.
    pub async fn end(self) -> anyhow::Result<()> {
        self.cues.set_play(Play::Rest);
        self.cues.cue_all();
        if !self.node.shutdown(PATIENCE).await {
            bail!("the agents did not stop in time");
        }
        Ok(())
    }

    /// Bytes of the row that a hand-over at the end of a step writes: result and checkpoint.
    ///
    /// # Errors
    /// When the store refuses the checkpoint.
    pub async fn hand_over_bytes(&self) -> anyhow::Result<usize> {
        let key = TaskKey {
            tenant: TenantId::new(TENANT)?,
            task: TaskId::new(&format!("agent-{}", self.agents - 1))?,
        };
        let checkpoint = Checkpoint {
            task: key,
            kind: Agent::KIND.to_owned(),
            step: 1,
            state: wire::encode(1, &notes(self.agents - 1, STATE_BYTES)?)?,
            version: Some(self.version()?),
            reason: CheckpointReason::HandOver,
            at: Timestamp(u64::MAX >> 20),
        };
        let sealed = self.node.shared().ports.checkpoints.put(&checkpoint).await?;
        row_bytes(Some(sealed))
    }
}

/// Bytes of the row that an ordinary step writes.
///
/// # Errors
/// When it cannot be encoded.
pub fn step_bytes() -> anyhow::Result<usize> {
    row_bytes(None)
}

fn row_bytes(checkpoint: Option<keybaton_ports::CheckpointRef>) -> anyhow::Result<usize> {
    let entry = Entry::Result {
        n: 1,
        idem: [0xff; 16],
        version: Some(Version(1)),
        outcome: outcome()?,
        checkpoint,
        at: Timestamp(u64::MAX >> 20),
    };
    Ok(wire::encode(1, &entry)?.len() + ROW_FRAME_BYTES)
}

/// What the steps of all benches come to, as the journal keeps it: rest, done, outcome.
///
/// # Errors
/// Never: it can be encoded.
pub(super) fn outcome() -> anyhow::Result<Vec<u8>> {
    Ok(wire::encode(1, &(None::<Duration>, false, "o".repeat(OUTCOME_BYTES)))?)
}

fn notes(agent: usize, bytes: usize) -> anyhow::Result<Notes> {
    Ok(Notes { agent: u32::try_from(agent)?, steps: 0, text: "n".repeat(bytes) })
}
