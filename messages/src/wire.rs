//! The one place that turns values into bytes and back.
//!
//! `[magic "KB", schema u16 big-endian, bincode body]`. **Invariant:** nothing is decoded beyond
//! [`WIRE_BYTES_MAX`], and an unknown schema is refused, never guessed. Replacing the codec is a
//! change of this file and of the golden bytes.

use bincode::enc::write::SizeWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::WIRE_BYTES_MAX;

const MAGIC: [u8; 2] = *b"KB";
const HEAD_BYTES: usize = 4;

/// Why bytes were refused, or could not be written.
#[derive(Debug, Error)]
pub enum WireError {
    /// The bytes do not start with the magic of this codec.
    #[error("not keybaton data: the first bytes are foreign")]
    Foreign,
    /// The bytes were written by another version of this program.
    #[error(
        "schema {found} is not readable here, expected {expected}; use the keybaton that wrote it"
    )]
    Schema {
        /// What the bytes say.
        found: u16,
        /// What this program reads.
        expected: u16,
    },
    /// The value is larger than this codec carries.
    #[error("value is larger than {WIRE_BYTES_MAX} bytes")]
    TooLarge,
    /// The body does not decode to the expected type.
    #[error("corrupt value: {0}")]
    Corrupt(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<WIRE_BYTES_MAX>()
}

/// Encodes `value` under `schema`.
///
/// # Errors
/// [`WireError::TooLarge`], or [`WireError::Corrupt`] for a type that bincode cannot carry.
pub fn encode<T: Serialize>(schema: u16, value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(encoded_bytes(value)?);
    encode_into(&mut bytes, schema, value)?;
    Ok(bytes)
}

/// How many bytes [`encode`] makes of `value`. Counting is cheap beside growing a buffer that was
/// too small, and a buffer that never moves leaves no copies behind.
///
/// # Errors
/// As [`encode`].
pub fn encoded_bytes<T: Serialize>(value: &T) -> Result<usize, WireError> {
    let mut counted = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut counted, config())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    let bytes = HEAD_BYTES + counted.bytes_written;
    if bytes > WIRE_BYTES_MAX { Err(WireError::TooLarge) } else { Ok(bytes) }
}

/// Appends to `bytes` what [`encode`] makes of `value`. Whoever has reserved [`encoded_bytes`]
/// keeps the buffer where it is.
///
/// # Errors
/// As [`encode`]; some bytes may have been appended then.
pub fn encode_into<T: Serialize>(
    bytes: &mut Vec<u8>,
    schema: u16,
    value: &T,
) -> Result<(), WireError> {
    let start = bytes.len();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&schema.to_be_bytes());
    bincode::serde::encode_into_std_write(value, bytes, config())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    if bytes.len() - start > WIRE_BYTES_MAX { Err(WireError::TooLarge) } else { Ok(()) }
}

/// Decodes what [`encode`] wrote under the same schema; every byte must be used.
///
/// # Errors
/// Any [`WireError`]; never a panic, and never an allocation beyond the limit.
pub fn decode<T: DeserializeOwned>(schema: u16, bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > WIRE_BYTES_MAX {
        return Err(WireError::TooLarge);
    }
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(WireError::Foreign)?;
    if head[..2] != MAGIC {
        return Err(WireError::Foreign);
    }
    let found = u16::from_be_bytes([head[2], head[3]]);
    if found != schema {
        return Err(WireError::Schema { found, expected: schema });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    if used == body.len() {
        Ok(value)
    } else {
        Err(WireError::Corrupt(format!("{} bytes left over", body.len() - used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventKind, PairId, ProviderName, Rev, RotationId, TenantId, Version};

    fn event() -> Event {
        let pair = PairId::new(
            TenantId::new("acme").expect("a name"),
            ProviderName::new("openai").expect("a name"),
        );
        Event {
            rotation: RotationId { pair: pair.clone(), n: 12 },
            pair,
            rev: Rev(300),
            kind: EventKind::NewKeyReady,
            old: Some(Version(4)),
            new: Some(Version(5)),
        }
    }

    #[test]
    fn an_event_has_the_bytes_it_had_from_the_first_day() {
        let bytes = encode(1, &event()).expect("encodes");
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        assert_eq!(
            hex,
            "4b4200010461636d65066f70656e61690461636d65066f70656e61690cfb2c010101040105"
        );
        assert_eq!(decode::<Event>(1, &bytes).expect("decodes"), event());
    }

    #[test]
    fn foreign_newer_short_long_and_boasting_bytes_are_refused() {
        let good = encode(1, &event()).expect("encodes");
        assert!(matches!(decode::<Event>(1, b"PK\0\x01"), Err(WireError::Foreign)));
        assert!(matches!(decode::<Event>(1, b"K"), Err(WireError::Foreign)));
        assert!(matches!(decode::<Event>(2, &good), Err(WireError::Schema { found: 1, .. })));
        for cut in 4..good.len() {
            assert!(
                matches!(decode::<Event>(1, &good[..cut]), Err(WireError::Corrupt(_))),
                "{cut}"
            );
        }
        let mut longer = good;
        longer.push(0);
        assert!(matches!(decode::<Event>(1, &longer), Err(WireError::Corrupt(_))));
        // A length of 2^46 in 13 bytes: an unbounded decoder would try to allocate it.
        let boast = [b'K', b'B', 0, 1, 0xfd, 0, 0, 0, 0, 0, 0x40, 0, 0];
        assert!(matches!(decode::<Vec<u8>>(1, &boast), Err(WireError::Corrupt(_))));
    }
}
