//! Labels: the name that a key gets at the provider, written down before the provider is asked.
//!
//! `kb1-<deployment>-<pair>-<version>`: random deployment id, keyed digest of the pair, number of
//! the version. **Invariant:** no tenant name leaves the house, two pairs never share a label, and
//! everything of ours at a provider can be told from everything else by its prefix.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use serde::Deserialize;

use crate::error::BadName;
use crate::ids::{Version, serialized_as_text};
use crate::limits::LABEL_BYTES_MAX;

const RULE: &str = "a label reads kb1-<8>-<10>-<8> in a-z and 2-7";

fn base32_lower(bytes: &[u8], chars: usize) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text.truncate(chars);
    text
}

fn is_base32_lower(text: &str, chars: usize) -> bool {
    text.len() == chars
        && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident, $what:literal, $chars:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the first characters of the base32 form of `digest`.
            #[must_use]
            pub fn from_digest(digest: &[u8; 16]) -> Self {
                Self(base32_lower(digest, $chars).into())
            }

            /// The text that stands in a label.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                if is_base32_lower(&text, $chars) {
                    Ok(Self(text.into()))
                } else {
                    Err(BadName::new($what, &text, RULE))
                }
            }
        }

        serialized_as_text!($name);

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
    };
}

part!(
    /// Random id of one deployment: the part of a label that says "ours". 40 bits in base32.
    DeploymentId, "deployment id", 8
);
part!(
    /// Keyed digest of a pair, computed once and kept in its record. 50 bits in base32.
    PairTag, "pair tag", 10
);

/// The unique name given to the provider for one version, sent at most once, ever.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(Arc<str>);

serialized_as_text!(Label);

impl Label {
    /// The label of `version` of the pair behind `tag`.
    #[must_use]
    pub fn new(deployment: &DeploymentId, tag: &PairTag, version: Version) -> Self {
        Self(format!("{}{tag}-{}", Self::prefix(deployment), version_part(version)).into())
    }

    /// What every label of `deployment` starts with.
    #[must_use]
    pub fn prefix(deployment: &DeploymentId) -> String {
        format!("kb1-{deployment}-")
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Base32 of the number, least significant digit last, padded with `a` (zero).
fn version_part(version: Version) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..8u32)
        .rev()
        .map(|place| char::from(DIGITS[((u64::from(version.0) >> (5 * place)) & 31) as usize]))
        .collect()
}

impl TryFrom<String> for Label {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let mut parts = text.split('-');
        let fits = text.len() <= LABEL_BYTES_MAX
            && parts.next() == Some("kb1")
            && [8, 10, 8]
                .into_iter()
                .all(|chars| parts.next().is_some_and(|part| is_base32_lower(part, chars)))
            && parts.next().is_none();
        if fits { Ok(Self(text.into())) } else { Err(BadName::new("label", &text, RULE)) }
    }
}

impl FromStr for Label {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(version: u32) -> Label {
        let deployment = DeploymentId::from_digest(&[7; 16]);
        Label::new(&deployment, &PairTag::from_digest(&[9; 16]), Version(version))
    }

    #[test]
    fn a_label_is_its_own_golden_text() {
        assert_eq!(label(1).as_str(), "kb1-a4dqobyh-beeqscijbe-aaaaaaab");
        assert_eq!(label(u32::MAX).as_str().rsplit('-').next(), Some("ad777777"));
    }

    #[test]
    fn every_version_has_a_label_of_its_own_and_it_parses() {
        let labels: std::collections::HashSet<_> = (0..5000).map(label).collect();
        assert_eq!(labels.len(), 5000);
        assert!(labels.iter().all(|l| l.as_str().parse::<Label>().as_ref() == Ok(l)));
    }

    #[test]
    fn a_label_of_somebody_else_is_refused() {
        for text in [
            "",
            "kb1",
            "kb1-A4dqobyh-beeqscijbe-aaaaaaab",
            "prod key",
            "kb2-a4dqobyh-beeqscijbe-aaaaaaab",
        ] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }
}
