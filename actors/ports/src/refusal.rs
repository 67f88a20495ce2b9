//! How a call to the world ends when it does not succeed: by what the caller should do next.

use std::time::Duration;

use thiserror::Error;

/// A call that did not succeed.
///
/// The texts are for people; they never hold a secret, a body or a URL with a query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing happened. Try again, not before `after`.
    #[error("not now: {why}")]
    Busy {
        /// What the other side asked for, if it did (Retry-After).
        after: Option<Duration>,
        /// One line.
        why: String,
    },
    /// It may or may not have happened: look before asking again.
    #[error("unknown outcome: {why}")]
    Unknown {
        /// One line.
        why: String,
    },
    /// Nothing happened, and it will never succeed as asked; a person must act.
    #[error("refused ({denial}): {why}")]
    Denied {
        /// Which kind of refusal.
        denial: Denial,
        /// One line.
        why: String,
    },
}

/// Kinds of definite refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denial {
    /// Our own credential for the administration of keys is refused (401, 403, 404).
    #[error("admin credential")]
    Admin,
    /// A limit of the account is reached (number of keys).
    #[error("quota")]
    Quota,
    /// The request itself does not fit (4xx).
    #[error("bad request")]
    BadRequest,
    /// What was asked for belongs to somebody else.
    #[error("wrong tenant")]
    WrongTenant,
    /// The stored bytes are not what was written: corrupt, foreign or of another schema.
    #[error("corrupt")]
    Corrupt,
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// The value is larger than the port carries.
    #[error("too large")]
    TooLarge,
}

impl Refusal {
    /// Nothing happened; the caller may try again when it likes.
    pub fn busy(why: impl Into<String>) -> Self {
        Self::Busy { after: None, why: why.into() }
    }

    /// Nobody can tell whether it happened.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// Nothing happened and asking again will not help.
    pub fn denied(denial: Denial, why: impl Into<String>) -> Self {
        Self::Denied { denial, why: why.into() }
    }
}
