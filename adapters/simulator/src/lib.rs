//! A model vendor to hand keys over against.
mod config;
mod fault;
mod http;
mod issue;
mod keys;
pub mod ledger;
pub mod limits;
mod requests;
mod script;
mod secret;
mod server;
mod state;
mod tools;

pub use config::{ADMIN_KEY_DEFAULT, Builder, Class, ClassError, KeyDelete, Pace};
pub use fault::{Fault, Op};
pub use script::{Script, ScriptError};
pub use secret::Secret;
pub use server::{Refused, Seeded, Simulator, StartError};
pub use state::{KeyView, Snapshot};
