//! Names and numbers. Each is its own type, so that one can never be passed for another.
//!
//! **Invariant:** a name is checked once, where it enters; afterwards the type is the proof. Paths,
//! topics and labels are built from these types only.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::error::BadName;
use crate::limits::{NAME_BYTES_MAX, PROVIDER_KEY_ID_BYTES_MAX, TRIGGER_ID_BYTES_MAX};

const NAME_RULE: &str = "use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit";

fn is_name(text: &str) -> bool {
    let first_fits = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest_fits = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    first_fits && rest_fits && text.len() <= NAME_BYTES_MAX
}

fn is_key_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= PROVIDER_KEY_ID_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_trigger_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TRIGGER_ID_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Writes a checked text as text. A `serde(into)` would copy it for every field that is written.
macro_rules! serialized_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}
pub(crate) use serialized_as_text;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $fits:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rule of this name.
            ///
            /// # Errors
            /// [`BadName`] with the rule that was broken.
            pub fn new(text: &str) -> Result<Self, BadName> {
                if $fits(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(BadName::new($what, text, $rule))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(&text)
            }
        }

        serialized_as_text!($name);
    };
}

text_id!(
    /// Whose key it is. Rule: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    TenantId, "tenant", is_name, NAME_RULE
);
text_id!(
    /// A configured model provider. Rule: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    ProviderName, "provider", is_name, NAME_RULE
);
text_id!(
    /// One agent task, chosen by the caller, unique per tenant. Rule: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    TaskId, "task", is_name, NAME_RULE
);
text_id!(
    /// One node's lasting name. Rule: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    NodeId, "node", is_name, NAME_RULE
);
text_id!(
    /// The caller's name for one trigger; the same id twice is the same trigger.
    TriggerId, "trigger id", is_trigger_id, "use 1 to 128 printable ASCII characters"
);
text_id!(
    /// The provider's own name for one key. Opaque, never a secret.
    ProviderKeyId, "provider key id", is_key_id, "use 1 to 512 printable ASCII characters"
);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
        )]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows.
            ///
            /// # Panics
            /// Never in practice: the counter would have to be exhausted first.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("a counter is never exhausted"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number_id!(
    /// One issue attempt of a pair, never reused.
    Version(u32), "v"
);
number_id!(
    /// Revision of a pair's record, one more at every write.
    Rev(u64), "r"
);
number_id!(
    /// Fencing number of a pair's ownership, one more at every start or take-over.
    Epoch(u64), "e"
);
number_id!(
    /// One life of a node.
    Incarnation(u64), "i"
);
number_id!(
    /// Version number inside the secret store, which counts on its own.
    SecretVersion(u64), "s"
);
number_id!(
    /// Fencing number of a task's ownership, one more at every claim.
    TaskEpoch(u64), "te"
);

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }
    };
}

bytes_id!(
    /// One grant row; a new one at every grant, so that a return can only delete its own.
    GrantId, 16
);
bytes_id!(
    /// One transaction; asked again with the same id after an unknown outcome.
    TxnId, 16
);
bytes_id!(
    /// HMAC-SHA-256 of a secret under the deployment key: says "the same key" without the key.
    Fingerprint, 32
);

/// One tenant at one provider: what a rotation is about.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PairId {
    /// Whose key.
    pub tenant: TenantId,
    /// At which provider.
    pub provider: ProviderName,
}

impl PairId {
    /// Joins two checked names.
    #[must_use]
    pub fn new(tenant: TenantId, provider: ProviderName) -> Self {
        Self { tenant, provider }
    }
}

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.provider)
    }
}

impl fmt::Debug for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The n-th rotation of a pair, printed `tenant/openai#12`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RotationId {
    /// The pair that is rotated.
    pub pair: PairId,
    /// Counts from 1.
    pub n: u64,
}

impl fmt::Display for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.pair, self.n)
    }
}

impl fmt::Debug for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A task and the tenant it works for: task ids are unique per tenant only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskKey {
    /// Whose task.
    pub tenant: TenantId,
    /// The caller's name for it.
    pub task: TaskId,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.task)
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_look_alikes_are_refused() {
        let long = "a".repeat(10_000);
        let bad = [
            "",
            ".",
            "..",
            "../x",
            "..%2f",
            "%2e%2e",
            "a/b",
            "a\\b",
            "a\0b",
            " a",
            "a ",
            "A",
            "\u{422}\u{415}\u{41d}\u{410}\u{41d}\u{422}",
            "e\u{301}",
            "\u{e9}",
            "\u{202e}a",
            "🔑",
            "secret/data",
            "-a",
            "_a",
            "a\n",
            "a\u{1b}[31m",
            &long,
        ];
        for text in bad {
            let refusal = TenantId::new(text).expect_err(text);
            assert!(refusal.to_string().len() < 400, "the refusal of {text:?} is bounded");
            assert!(!refusal.to_string().contains('\n'), "the refusal of {text:?} is one line");
        }
        assert!(TenantId::new(&"a".repeat(63)).is_ok());
        assert!(TenantId::new(&"a".repeat(64)).is_err());
        assert!(TenantId::new("con").is_ok(), "no file is ever named after a tenant alone");
    }

    #[test]
    fn a_name_read_from_json_is_checked_too() {
        assert!(serde_json::from_str::<TenantId>("\"../x\"").is_err());
        let id: TenantId = serde_json::from_str("\"acme\"").expect("a good name");
        assert_eq!(id.as_str(), "acme");
    }
}
