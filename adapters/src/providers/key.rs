//! A key as an answer tells it: read without a copy, believed only when it looks like a key.
//!
//! **Invariant:** the text of a key is in wiped memory from the first byte that is parsed.

use std::fmt;

use keybaton_ports::Secret;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use zeroize::Zeroizing;

use super::limits::{KEY_BYTES_MAX, KEY_BYTES_MIN};

/// The secret field of an answer. Nothing prints it.
pub(super) struct KeyText(Zeroizing<Vec<u8>>);

impl KeyText {
    /// The secret, if a header could carry it and nobody could guess it.
    pub(super) fn into_secret(mut self) -> Result<Secret, &'static str> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&self.0.len()) {
            return Err("the key is too short or too long to be one");
        }
        if !self.0.iter().all(u8::is_ascii_graphic) {
            return Err("the key holds a character that no key has");
        }
        Secret::new(std::mem::take(&mut *self.0)).map_err(|_| "the key is no secret")
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = KeyText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    /// The text is borrowed from the answer's buffer; only a key with escapes, which is refused
    /// later, passes through a buffer of the parser.
    fn visit_str<E: Error>(self, text: &str) -> Result<KeyText, E> {
        Ok(KeyText(Zeroizing::new(text.as_bytes().to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<u8>, String> {
        let text: KeyText = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let secret = text.into_secret().map_err(str::to_owned)?;
        Ok(secret.expose().to_vec())
    }

    #[test]
    fn a_key_is_taken_as_it_is() {
        let key = "sk-svcacct-0123456789abcdef";
        assert_eq!(read(&format!("\"{key}\"")), Ok(key.as_bytes().to_vec()));
    }

    #[test]
    fn what_is_not_a_key_is_refused_and_never_repeated() {
        let long = format!("\"sk-canary-{}\"", "k".repeat(100_000));
        for json in [
            "\"\"",
            "\"sk-canary\"",
            "\"sk-canary-0123456789\\nabcdef\"",
            "\"sk-canary-0123456789\\u0000abcdef\"",
            "\"sk-canary-0123456789ключ\"",
            "\"sk-canary-0123456789 abcdef\"",
            "null",
            "17",
            "[\"sk-canary-0123456789abcdef\"]",
            &long,
        ] {
            let error = read(json).expect_err(json);
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
