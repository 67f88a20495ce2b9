//! Real servers for tests, without a container engine: found on the machine, started in a temporary
//! directory, killed, paused and restarted.
//!
//! | module | question it answers |
//! |---|---|
//! | [`program`] | which servers are on this machine, from where, which version? |
//! | [`missing`] | what does a test do when a server is not there? |
//! | [`process`] | how is any server started, killed, paused, resumed, restarted? |
//! | [`postgres`], [`mod@redis`], [`vault`] | what is particular about each of them? |
//!
//! ```no_run
//! use keybaton_servers::{Postgres, unless_missing};
//!
//! // Ends the test as "not run" where there is no Postgres, and fails it under `CI=true`.
//! let Some(postgres) = unless_missing(Postgres::start()) else { return };
//! postgres.query_as_admin("create table t (n int)").expect("made");
//! postgres.kill().expect("killed");
//! postgres.restart().expect("back, on the same data and the same port");
//! ```
//!
//! All calls are blocking and may be made from asynchronous tests too: whatever waits for an answer
//! does so on a thread of its own.
//!
//! **Invariant:** no server outlives its test: it is killed when it is dropped, and by the kernel
//! when the test itself is killed, where `setpriv` can ask for that.
//! **Invariant:** no server runs as root, so that what is forbidden to it stays forbidden.

pub mod limits;
pub mod missing;
pub mod program;

#[cfg(feature = "start")]
mod blocking;
#[cfg(feature = "start")]
mod home;
#[cfg(feature = "start")]
mod port;
#[cfg(feature = "start")]
pub mod postgres;
#[cfg(feature = "start")]
pub mod process;
#[cfg(feature = "start")]
pub mod redis;
#[cfg(feature = "start")]
mod tree;
#[cfg(feature = "start")]
pub mod vault;

#[cfg(feature = "start")]
pub use self::redis::{Redis, RedisConfig};
pub use missing::{Missing, unless_missing};
#[cfg(feature = "start")]
pub use postgres::Postgres;
#[cfg(feature = "start")]
pub use process::Server;
#[cfg(feature = "start")]
pub use vault::Vault;
