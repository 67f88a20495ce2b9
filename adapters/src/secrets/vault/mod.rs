//! Secrets in HashiCorp Vault or `OpenBao`: one path per pair in a KV engine of version 2.
//!
//! ```text
//!   settings ──► session ──► store      the port: put, read, find, destroy, list, witness
//!                   │          │  ├── place      where a pair lies, and the policies for it
//!                   │          │  ├── document   one version: value and what is known of it
//!                   │          │  └── shelf      numbers, bounds and witness of one path
//!                   └── wire ◄─┘               one call with secret bytes, all buffers wiped
//!                        └── outcome           what an answer means
//! ```
//!
//! The library `vaultrs` makes the calls that carry no secret bytes: login, renewal, metadata,
//! destruction. Only what Vault and `OpenBao` have in common is used.
//!
//! Session, wire and outcome also serve `providers::VaultLeases`, which reaches the same server.
//!
//! **Invariant:** Vault decides nothing about a rotation. It keeps versions, and says what it has.

mod document;
pub mod limits;
mod outcome;
mod place;
mod session;
mod settings;
mod shelf;
mod store;
mod wire;

pub(crate) use document::Text;
pub(crate) use outcome::{Act, Failure};
pub use place::{Place, Role, policy_name};
pub(crate) use session::Session;
pub(crate) use settings::check_place;
pub use settings::{
    CredentialSource, Login, MOUNT_DEFAULT, PREFIX_DEFAULT, VaultError, VaultSettings,
};
pub use store::VaultSecrets;
pub(crate) use wire::{Answer, Call};
