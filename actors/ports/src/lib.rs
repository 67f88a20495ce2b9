//! What the actors need from the world, one file per port, in the words of the one who asks.
//!
//! The doc comment of each method is the contract; `tests/conformance` checks it against every
//! adapter and every fake alike.
//!
//! **Invariant:** a call has three honest ends: it happened, it did not, or nobody can tell.

mod audit;
mod bus;
mod checkpoints;
mod clock;
pub mod crash_point;
mod journal;
pub mod limits;
mod provider;
mod refusal;
mod secret;
mod secrets;
mod tasks;

pub use audit::{
    AuditKey, AuditSink, BrokenChain, ChainWalk, SealedAudit, name_outstanding, seal, verify_chain,
};
pub use bus::{EventBus, EventStream};
pub use checkpoints::{CheckpointRef, CheckpointStore};
pub use clock::{Clock, Entropy};
pub use journal::{
    CommitError, GrantError, GrantRow, Journal, NodeLife, PairSummary, Standing, StoredPair,
    Transaction,
};
pub use provider::{AuthHeader, Capabilities, IssueRequest, IssuedKey, ListedKey, Provider};
pub use refusal::{Denial, Refusal};
pub use secret::{FingerprintKey, Secret};
pub use secrets::{Generation, SecretMeta, SecretStore, StoredSecret, Witness};
pub use tasks::{Claimed, Entry, TaskError, TaskJournal, TaskRow, TaskSpec, TaskState, TaskWrite};
