//! Model providers: one file per vendor, behind the port `Provider`.
//!
//! ```text
//!   settings ──► kinds::build("openai", …) ──► openai.rs, openrouter.rs     paths and fields
//!                                                  │
//!                    base_url ◄── http ◄───────────┤   one call, bounded, sent at most once
//!                    retry_after ◄─┘               ├── outcome   what an answer means
//!                                                  └── key       a secret, parsed without a copy
//!   settings ──► vault_leases.rs, over the session of `secrets::vault`
//!   answer ──► openai.rs, openrouter.rs            the same readers, without a call
//! ```
//!
//! A new vendor is one file here, one line in `kinds` and one line in the conformance tests.
//!
//! **Invariant:** no adapter decides anything about a rotation; it says what happened at the
//! vendor, or that nobody can tell.

pub mod answer;
mod base_url;
mod http;
mod key;
mod kinds;
pub mod limits;
mod openai;
mod openrouter;
mod outcome;
mod retry_after;
mod settings;
mod vault_leases;
#[cfg(test)]
mod vendor;

pub use base_url::check_base_url;
pub(crate) use base_url::{BaseUrl, Screened};
pub(crate) use http::read_wiped;
pub use kinds::{build, kinds};
pub use openai::{OPENAI_BASE_URL, OpenAi};
pub use openrouter::{OPENROUTER_BASE_URL, OpenRouter};
pub use settings::{Home, Homes, ProviderSettings, SettingsError};
pub use vault_leases::VaultLeases;
