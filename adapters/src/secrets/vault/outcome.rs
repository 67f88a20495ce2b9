//! What an answer of Vault means: it happened, it did not, or nobody can tell.
//!
//! **Invariant:** "nothing happened" is said only of an answer that says so itself, or of a call
//! that could change nothing.
//! **Invariant:** no text made here holds a body: Vault's own words are recognised, not repeated.

use std::time::Duration;

use keybaton_ports::{Denial, Refusal};
use serde::Deserialize;
use vaultrs::error::ClientError;

/// Whether a call may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Read,
    Write,
}

/// A call that did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 403: the token has ended, or its policies do not allow this. Nothing happened.
    Forbidden,
    /// 404: there is no such thing.
    Absent,
    /// Another write came first. Nothing happened.
    Lost,
    /// All others.
    Refused(Refusal),
}

const NO_SUCH_MOUNT: &str = "Vault knows no such path: check mount, prefix and namespace";

impl Failure {
    pub(crate) fn busy(why: impl Into<String>) -> Self {
        Self::Refused(Refusal::busy(why))
    }

    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self::Refused(Refusal::unknown(why))
    }

    fn denied(denial: Denial, why: impl Into<String>) -> Self {
        Self::Refused(Refusal::denied(denial, why))
    }

    /// For callers to whom the first three mean nothing special.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Forbidden => Refusal::denied(
                Denial::Admin,
                "Vault's policies do not allow this: compare them with `keybaton vault policy`",
            ),
            Self::Absent => Refusal::denied(Denial::BadRequest, NO_SUCH_MOUNT),
            Self::Lost => Refusal::busy("another write to Vault came first"),
            Self::Refused(refusal) => refusal,
        }
    }
}

/// `{"errors": ["…"]}`, in every answer of Vault's that is a refusal.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// Vault's own words, or none when it was not Vault that answered.
pub(crate) fn words_of(body: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<Errors>(body).ok().map(|it| it.errors)
}

/// What a status that is no success says. `words` are Vault's, `None` when somebody between us
/// and Vault answered.
pub(crate) fn judge(
    status: u16,
    words: Option<&[String]>,
    after: Option<Duration>,
    act: Act,
) -> Failure {
    let says = |part: &str| words.is_some_and(|words| words.iter().any(|it| it.contains(part)));
    let why = format!("Vault answers status {status}");
    match status {
        400 if says("check-and-set parameter did not match") => Failure::Lost,
        // The engine converts itself for a moment after it was mounted.
        400 if says("Upgrading from non-versioned") => Failure::busy("Vault prepares the mount"),
        400 | 405 if says("unsupported operation") || says("unsupported path") => {
            Failure::denied(Denial::BadRequest, "the mount is not a KV engine of version 2")
        }
        // What is asked of a lease that has ended or never was.
        400 if says("invalid lease") || says("lease not found") => Failure::Absent,
        403 if words.is_some() => Failure::Forbidden,
        // Said of a mount, where "there is no such version" would be a lie.
        404 if says("no handler for route") => Failure::denied(Denial::BadRequest, NO_SUCH_MOUNT),
        404 => Failure::Absent,
        413 => Failure::denied(Denial::TooLarge, why),
        // Not yet consistent (412), over a quota (429), a standby that redirects instead of
        // forwarding (307), a replica that serves no requests (472, 473).
        307 | 412 | 429 | 472 | 473 => Failure::Refused(Refusal::Busy { after, why }),
        500 if says("active cluster node not found") => Failure::busy("Vault elects a leader"),
        503 if says("sealed") => Failure::busy("Vault is sealed: unseal it"),
        503 if says("not been initialized") => Failure::busy("Vault is not initialized"),
        408 | 500.. if act == Act::Write => Failure::unknown(why),
        408 | 500.. => Failure::busy(why),
        400..500 => Failure::denied(Denial::BadRequest, why),
        // Redirects and the like: Vault would not have acted, and it was not Vault.
        _ => Failure::busy(why),
    }
}

/// What an error of the library says.
pub(crate) fn of_library(error: &ClientError, act: Act) -> Failure {
    if let ClientError::APIError { code, errors } = error {
        return judge(*code, Some(errors), None, act);
    }
    match transport(error) {
        Some(error) => lost(error, act),
        None if act == Act::Read => Failure::busy("Vault's answer cannot be read"),
        None => Failure::unknown("Vault's answer cannot be read"),
    }
}

fn transport(error: &ClientError) -> Option<&reqwest::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<reqwest::Error>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// A call of which no answer came back. The error's own text names the URL, so only its kind is
/// used.
pub(crate) fn lost(error: &reqwest::Error, act: Act) -> Failure {
    if error.is_builder() || error.is_connect() {
        return Failure::busy("no connection to Vault");
    }
    let why = match error.is_timeout() {
        true => "Vault did not answer in time",
        false => "the connection to Vault broke",
    };
    match act {
        Act::Read => Failure::busy(why),
        Act::Write => Failure::unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, words: Option<&str>, act: Act) -> String {
        let words = words.map(|text| vec![text.to_owned()]);
        match judge(status, words.as_deref(), Some(Duration::from_secs(3)), act) {
            Failure::Refused(Refusal::Busy { .. }) => "busy".to_owned(),
            Failure::Refused(Refusal::Unknown { .. }) => "unknown".to_owned(),
            Failure::Refused(Refusal::Denied { denial, .. }) => denial.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_status_tells_whether_anything_happened() {
        let cas = "check-and-set parameter did not match the current version";
        for (status, words, act, expected) in [
            (400, Some(cas), Act::Write, "Lost"),
            (400, Some("bad"), Act::Write, "bad request"),
            (400, Some("invalid lease"), Act::Read, "Absent"),
            (400, Some("lease not found"), Act::Write, "Absent"),
            (403, Some("permission denied"), Act::Read, "Forbidden"),
            (403, None, Act::Write, "bad request"),
            (404, Some(""), Act::Read, "Absent"),
            (404, Some("no handler for route \"nowhere/\""), Act::Read, "bad request"),
            (307, None, Act::Write, "busy"),
            (412, Some("required index state not present"), Act::Read, "busy"),
            (413, None, Act::Write, "too large"),
            (429, Some("request path quota exceeded"), Act::Write, "busy"),
            (473, None, Act::Write, "busy"),
            (
                500,
                Some("local node not active but active cluster node not found"),
                Act::Write,
                "busy",
            ),
            (500, Some("internal error"), Act::Write, "unknown"),
            (500, Some("internal error"), Act::Read, "busy"),
            (502, None, Act::Write, "unknown"),
            (503, Some("Vault is sealed"), Act::Write, "busy"),
            (503, None, Act::Write, "unknown"),
            (503, None, Act::Read, "busy"),
            (302, None, Act::Write, "busy"),
        ] {
            assert_eq!(shown(status, words, act), expected, "{status} {words:?} {act:?}");
        }
    }

    #[test]
    fn the_words_of_an_answer_are_recognised_and_not_repeated() {
        let words = words_of(br#"{"errors":["hvs.canary is bad"]}"#).expect("Vault's form");
        let failure = judge(400, Some(&words), None, Act::Write);
        assert!(!failure.into_refusal().to_string().contains("canary"));
        assert_eq!(words_of(b"<html>sealed</html>"), None);
    }
}
