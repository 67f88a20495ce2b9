//! The vocabulary: what can be said between the parts of keybaton, and in its files.
//!
//! Knows nobody. Every other crate uses these words, one word per thing:
//!
//! | word | means |
//! |---|---|
//! | pair | one tenant at one provider |
//! | record | all that is durably known of a pair |
//! | version | one issue attempt of a pair, at most one provider key |
//! | holder | a lease object that lets code use a version |
//! | slot | the registry's cell for one version of one pair |
//! | grant | durable: this node may hand out this version |
//! | gate | open or paused: may anyone acquire? |
//! | label | the unique name given to the provider before asking for a key |
//! | obligation | something still owed: revoke this key, look for that label |
//! | epoch | fencing number of ownership of a pair, one more at every start |
//! | incarnation | one life of a node |
//! | fence | the word that stops a node that lost its lease |
//!
//! **Invariant:** nothing in this crate can hold a secret byte. Keys appear as version numbers,
//! provider key ids and fingerprints.

mod checkpoint;
mod error;
mod event;
mod ids;
mod label;
pub mod limits;
mod phase;
mod time;
mod trace;
pub mod wire;

pub use checkpoint::{Checkpoint, CheckpointReason};
pub use error::BadName;
pub use event::{Event, EventKind};
pub use ids::{
    Epoch, Fingerprint, GrantId, Incarnation, NodeId, PairId, ProviderKeyId, ProviderName, Rev,
    RotationId, SecretVersion, TaskEpoch, TaskId, TaskKey, TenantId, TriggerId, TxnId, Version,
};
pub use label::{DeploymentId, Label, PairTag};
pub use phase::{Shown, VersionStatus};
pub use time::Timestamp;
pub use trace::TraceParent;
