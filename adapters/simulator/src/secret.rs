//! A key's secret text.
//!
//! **Invariant:** never printed, never copied, wiped on drop; only its SHA-256 reaches the disk.

use data_encoding::HEXLOWER;
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// SHA-256 of a secret: what the ledger stores and what authenticates.
pub(crate) type Digest = [u8; 32];

/// Secret text. It has no `Debug`, `Display`, `Clone` or `Serialize`: what cannot be printed or
/// copied cannot leak by accident.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Shows the text, to put it into an answer or a header.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Draws a fresh secret: `prefix` and 48 random letters and digits (285 bits).
    pub(crate) fn random(prefix: &str) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 48));
        text.push_str(prefix);
        Alphanumeric.append_string(&mut rand::rng(), &mut text, 48);
        Self(text)
    }

    pub(crate) fn digest(&self) -> Digest {
        digest(self.expose().as_bytes())
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

pub(crate) fn hex(digest: &Digest) -> String {
    HEXLOWER.encode(digest)
}

/// The digest that `hex` spells, if it spells one.
pub(crate) fn from_hex(hex: &str) -> Option<Digest> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).ok()?;
    Digest::try_from(bytes.as_slice()).ok()
}

/// A fresh id: `prefix` and 16 random hex digits.
pub(crate) fn fresh_id(prefix: &str) -> String {
    format!("{prefix}{:016x}", rand::random::<u64>())
}
