//! keybaton in one process: a node that runs agent tasks and replaces their keys under them.
//!
//! ```no_run
//! use keybaton::{Node, Policy, Program, Progress, Step, StepContext};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize, Default)] struct Notes(Vec<String>);
//! # struct Agent;
//! # impl Program for Agent {
//! #     const KIND: &'static str = "agent/1";
//! #     type State = Notes;
//! #     type Outcome = String;
//! #     async fn step(&self, _: &Notes, _: &StepContext<'_>) -> Step<String> { Ok(Progress::Done("hi".into())) }
//! #     fn apply(&self, notes: &mut Notes, line: String) { notes.0.push(line); }
//! # }
//! # async fn run(openai: std::sync::Arc<dyn keybaton::Provider>) -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder("/var/lib/keybaton")
//!     .provider("openai", openai, Policy::default())
//!     .program(Agent)
//!     .start()
//!     .await?;
//! let task = node.spawn::<Agent>("acme", "openai", "report-7", Notes::default()).await?;
//! node.rotate("acme", "openai", "quarterly").await?;
//! let notes = task.join().await?;
//! # Ok(()) }
//! ```
//!
//! A program that runs thousands of tasks should choose an allocator in which one thread frees cheaply
//! what another one allocated, as keybaton's own program does: with glibc's a node takes a third
//! fewer steps.
//!
//! **Invariant:** this crate wires and shows; it decides nothing about rotations.

mod asking;
mod audit;
mod builder;
mod error;
mod export;
mod keeper;
mod limits;
mod node;
mod node_tasks;
mod status;
mod status_server;
mod stores;
mod task_handle;
mod wiring;

pub use audit::{AuditReport, verify_audit};
pub use builder::NodeBuilder;
pub use error::{OrderError, SpawnError, StartError, TaskFailure, WiringError};
pub use export::{Export, ExportError};
pub use keybaton_actors::broker::{DrainReport, HolderView};
pub use keybaton_actors::credential::{
    AcquireError, CallError, CallLease, CredentialHandle, HeldResponse, SessionLease,
};
pub use keybaton_actors::program::{
    CredentialUse, Effects, Program, Progress, RestartPolicy, Step, StepContext, StepError,
};
pub use keybaton_actors::task_table::TaskView;
pub use keybaton_actors::view::{PairView, PhaseAt};
pub use keybaton_adapters::journals::{AcceptedLoss, RedisJournalSettings, RedisStoreError};
pub use keybaton_adapters::secrets::vault;
pub use keybaton_adapters::{buses, postgres, providers};
pub use keybaton_messages as messages;
pub use keybaton_ports::{Provider, Secret, TaskState};
pub use keybaton_rotation::{Class, OnStuck, Order, Policy, Reply};
pub use node::Node;
pub use status::{KeyStatus, NodeStatus, PairStatus, TaskCounts, read_status};
pub use stores::StoreNames;
pub use task_handle::TaskHandle;
pub use wiring::provider;
