//! What can go wrong on purpose, and on which call.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::FAULT_DELAY_MAX;
use crate::script::{ScriptError, shown};

/// The calls that a script can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Any call that creates a key, at either vendor shape.
    Issue,
    /// Deleting a key or a service account.
    Revoke,
    /// Listing keys.
    List,
    /// Reading one key's entry.
    Get,
    /// The free call that tells whether a tenant key works.
    Probe,
    /// A chat completion.
    Chat,
    /// A tool call.
    Tool,
}

impl Op {
    pub(crate) const ALL: [Self; 7] =
        [Self::Issue, Self::Revoke, Self::List, Self::Get, Self::Probe, Self::Chat, Self::Tool];

    /// The word in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Revoke => "revoke",
            Self::List => "list",
            Self::Get => "get",
            Self::Probe => "probe",
            Self::Chat => "chat",
            Self::Tool => "tool",
        }
    }

    fn needs_admin_key(self) -> bool {
        matches!(self, Self::Issue | Self::Revoke | Self::List | Self::Get)
    }
}

/// One way to go wrong. The table in the crate's head says what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Executed; the connection ends without an answer.
    AckLost,
    /// Not executed; the connection ends without an answer.
    Dropped,
    /// The connection ends without an answer; executed after the delay.
    Late(Duration),
    /// Nothing for the delay, then as usual; not executed when the caller gives up before.
    Stall(Duration),
    /// Not executed; 429 with `Retry-After` and `retry-after-ms`.
    RateLimited(Duration),
    /// Not executed; 500.
    ServerError,
    /// Not executed; 400 because a limit of keys is reached.
    Quota,
    /// Not executed; 403 because a scope is missing. The key is alive.
    Forbidden,
    /// Executed; 200 whose body breaks off.
    Truncated,
    /// Executed; 200 with an HTML page.
    HtmlBody,
    /// Executed; 200 with an empty body.
    EmptyBody,
    /// Executed; 200 with a body of 10 MiB.
    HugeBody,
    /// A key is created; the answer carries a secret that authenticates nowhere.
    BadKey,
    /// No key is created; the answer carries a key of another project or label.
    ForeignKey,
    /// A key is created and kills the older keys of its project.
    VoidOnIssue,
    /// A key is created and is missing from listings during the delay.
    EventualList(Duration),
    /// A key is created; its secret is answered with a line feed inside.
    KeyNewline,
    /// A key is created; its secret is answered with a NUL inside.
    KeyNul,
    /// A key is created; its secret is answered with letters outside ASCII.
    KeyNonAscii,
    /// A key is created; its secret is answered as an empty text.
    KeyEmpty,
    /// A key is created; its secret is answered with 100 000 more letters.
    KeyLong,
    /// A key is created; the answer has no key id.
    IdMissing,
    /// A key is created; the answer carries the id of an older key with the new secret.
    DuplicateId,
    /// Answered 200; the key dies after the delay.
    SlowRevoke(Duration),
}

impl Fault {
    /// The word in scripts and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckLost => "ack-lost",
            Self::Dropped => "dropped",
            Self::Late(_) => "late",
            Self::Stall(_) => "stall",
            Self::RateLimited(_) => "rate-limited",
            Self::ServerError => "server-error",
            Self::Quota => "quota",
            Self::Forbidden => "forbidden",
            Self::Truncated => "truncated",
            Self::HtmlBody => "html-body",
            Self::EmptyBody => "empty-body",
            Self::HugeBody => "huge-body",
            Self::BadKey => "bad-key",
            Self::ForeignKey => "foreign-key",
            Self::VoidOnIssue => "void-on-issue",
            Self::EventualList(_) => "eventual-list",
            Self::KeyNewline => "key-newline",
            Self::KeyNul => "key-nul",
            Self::KeyNonAscii => "key-non-ascii",
            Self::KeyEmpty => "key-empty",
            Self::KeyLong => "key-long",
            Self::IdMissing => "id-missing",
            Self::DuplicateId => "duplicate-id",
            Self::SlowRevoke(_) => "slow-revoke",
        }
    }

    /// The delay, where the fault has one.
    pub fn delay(self) -> Option<Duration> {
        match self {
            Self::Late(delay)
            | Self::Stall(delay)
            | Self::RateLimited(delay)
            | Self::EventualList(delay)
            | Self::SlowRevoke(delay) => Some(delay),
            _ => None,
        }
    }

    /// Whether a call with this fault ends before anything is executed.
    pub(crate) fn is_before_execution(self) -> bool {
        matches!(
            self,
            Self::Dropped
                | Self::Late(_)
                | Self::RateLimited(_)
                | Self::ServerError
                | Self::Quota
                | Self::Forbidden
        )
    }

    /// Whether the caller of an issue gets to see the new key's id.
    pub(crate) fn hides_the_key(self) -> bool {
        matches!(
            self,
            Self::AckLost
                | Self::Late(_)
                | Self::Truncated
                | Self::HtmlBody
                | Self::EmptyBody
                | Self::HugeBody
                | Self::IdMissing
                | Self::DuplicateId
        )
    }

    pub(crate) fn fits(self, op: Op) -> bool {
        match self {
            Self::Late(_) => matches!(op, Op::Issue | Op::Revoke),
            Self::SlowRevoke(_) => op == Op::Revoke,
            Self::Quota => op == Op::Issue || !op.needs_admin_key(),
            Self::BadKey
            | Self::ForeignKey
            | Self::VoidOnIssue
            | Self::EventualList(_)
            | Self::KeyNewline
            | Self::KeyNul
            | Self::KeyNonAscii
            | Self::KeyEmpty
            | Self::KeyLong
            | Self::IdMissing
            | Self::DuplicateId => op == Op::Issue,
            _ => true,
        }
    }

    pub(crate) fn parse(name: &str, millis: Option<u64>) -> Result<Self, ScriptError> {
        let delay = || {
            let asked = Duration::from_millis(
                millis.ok_or(ScriptError::DelayMissing { fault: name.to_owned() })?,
            );
            if asked > FAULT_DELAY_MAX {
                return Err(ScriptError::DelayTooLong { millis: asked.as_millis() });
            }
            Ok(asked)
        };
        let fault = match name {
            "late" => return delay().map(Self::Late),
            "stall" => return delay().map(Self::Stall),
            "eventual-list" => return delay().map(Self::EventualList),
            "slow-revoke" => return delay().map(Self::SlowRevoke),
            "rate-limited" if millis.is_some() => return delay().map(Self::RateLimited),
            // One second, the smallest that `Retry-After` can say.
            "rate-limited" => Self::RateLimited(Duration::from_secs(1)),
            _ => *WITHOUT_DELAY
                .iter()
                .find(|fault| fault.name() == name)
                .ok_or_else(|| ScriptError::Fault { fault: shown(name) })?,
        };
        match millis {
            Some(_) if fault.delay().is_none() => {
                Err(ScriptError::DelayUnused { fault: name.to_owned() })
            }
            _ => Ok(fault),
        }
    }
}

/// The faults whose word stands alone.
pub(crate) const WITHOUT_DELAY: [Fault; 19] = [
    Fault::AckLost,
    Fault::Dropped,
    Fault::ServerError,
    Fault::Quota,
    Fault::Forbidden,
    Fault::Truncated,
    Fault::HtmlBody,
    Fault::EmptyBody,
    Fault::HugeBody,
    Fault::BadKey,
    Fault::ForeignKey,
    Fault::VoidOnIssue,
    Fault::KeyNewline,
    Fault::KeyNul,
    Fault::KeyNonAscii,
    Fault::KeyEmpty,
    Fault::KeyLong,
    Fault::IdMissing,
    Fault::DuplicateId,
];

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())?;
        match self.delay() {
            Some(delay) => write!(out, ":{}", delay.as_millis()),
            None => Ok(()),
        }
    }
}
