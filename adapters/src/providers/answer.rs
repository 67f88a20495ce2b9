//! What a vendor's answer is taken for, without a call: one recorded at the vendor, or made up.
//!
//! **Invariant:** it is read by what reads the answer to a real call, and nothing that is said of
//! it repeats its body.

use std::time::Duration;

use keybaton_messages::Label;
use keybaton_ports::{ListedKey, Refusal};
use keybaton_rotation::Health;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use zeroize::Zeroizing;

use super::http::Answer;
use super::kinds::{OPENAI, OPENROUTER};
use super::{openai, openrouter, retry_after};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// A key with this label. At OpenAI: an additional one of the account `svc_1`.
    Key(&'a Label),
    /// A key of its own account with this label; at OpenRouter the same as [`Asked::Key`].
    OwnKey(&'a Label),
    /// One page of a listing.
    Page,
    /// Deleting a key.
    Delete,
    /// Whether a key works.
    Probe,
}

/// What an answer is taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A key was made; this is its id.
    Made(keybaton_messages::ProviderKeyId),
    /// These keys are there.
    Listed(Vec<ListedKey>),
    /// The key was there, or was not.
    Deleted(bool),
    /// How the probed key is.
    Probed(Health),
    /// Anything else.
    Refused(Refusal),
}

/// Reads an answer of a vendor of this kind, as for the project `proj_1`. `None` when there is no
/// such kind or status.
#[must_use]
pub fn taken_for(kind: &str, asked: Asked<'_>, status: u16, body: &[u8]) -> Option<Taken> {
    const PROJECT: &str = "proj_1";
    const ACCOUNT: &str = "svc_1";
    let answer = Answer {
        status: StatusCode::from_u16(status).ok()?,
        retry_after: None,
        is_html: false,
        body: Ok(Zeroizing::new(body.to_vec())),
    };
    let made = |made: keybaton_ports::IssuedKey| Taken::Made(made.key_id);
    let taken = match (kind, asked) {
        (OPENAI, Asked::Key(label)) => openai::made_at(answer, PROJECT, ACCOUNT, label).map(made),
        (OPENAI, Asked::OwnKey(label)) => openai::made_own(answer, PROJECT, label).map(made),
        (OPENAI, Asked::Page) => openai::listed_of(answer, PROJECT).map(Taken::Listed),
        (OPENAI, Asked::Delete) => openai::was_deleted(&answer).map(Taken::Deleted),
        (OPENAI, Asked::Probe) => Ok(Taken::Probed(openai::probed(Ok(answer)))),
        (OPENROUTER, Asked::Key(label) | Asked::OwnKey(label)) => {
            openrouter::made(answer, PROJECT, label).map(made)
        }
        (OPENROUTER, Asked::Page) => openrouter::listed_of(answer, PROJECT).map(Taken::Listed),
        (OPENROUTER, Asked::Delete) => openrouter::was_deleted(&answer).map(Taken::Deleted),
        (OPENROUTER, Asked::Probe) => Ok(Taken::Probed(openrouter::probed(Ok(answer)))),
        _ => return None,
    };
    Some(taken.unwrap_or_else(Taken::Refused))
}

/// How long these headers of an answer ask to wait; `None` when they ask for nothing that makes
/// sense.
#[must_use]
pub fn wait_asked(headers: &HeaderMap) -> Option<Duration> {
    retry_after::retry_after(headers)
}
