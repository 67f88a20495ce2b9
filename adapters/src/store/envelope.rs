//! The envelope around every stored value.
//!
//! `clear ‖ [magic "KE", schema u16, key id 4, nonce 24] ‖ XChaCha20-Poly1305(value)`, numbers
//! big-endian. Associated data = length-prefixed (store id, table, primary key, schema, clear), so
//! that a value opens only in the place it was written for.
//!
//! **Invariant:** an unknown schema is refused, never guessed.

use std::cell::RefCell;

use keybaton_messages::{TenantId, wire};
use keybaton_ports::Entropy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use thiserror::Error;

use crate::store::cipher::{Cipher, Forged, NONCE_BYTES, TAG_BYTES};
use crate::store::keys::Keyring;
use crate::store::{MasterKey, Purpose, SystemEntropy};

const MAGIC: [u8; 2] = *b"KE";
const HEAD_BYTES: usize = 2 + 2 + 4 + NONCE_BYTES;

/// Associated data up to this many bytes needs no allocation: the lengths, the names, and a key of
/// two names and a number.
const AAD_BYTES: usize = 256;

/// Where a value lies. It opens nowhere else.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The table's name.
    pub(crate) table: &'a str,
    /// The row's primary key.
    pub(crate) key: &'a [u8],
    /// Bytes that stand readable before the envelope, and are authenticated with it.
    pub(crate) clear: &'a [u8],
    /// The schema of the value.
    pub(crate) schema: u16,
}

/// Under whose key.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// The store's own.
    Store,
    /// One tenant's, for one purpose.
    Tenant(Purpose, &'a TenantId),
}

/// Why stored bytes were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Broken {
    #[error("the bytes are cut short or not an envelope")]
    Foreign,
    #[error("schema {found} is not readable here, expected {expected}")]
    Schema { found: u16, expected: u16 },
    #[error("sealed under another master key")]
    Key,
    #[error("changed, or moved from another place")]
    Tag,
    #[error("{0}")]
    Value(String),
}

thread_local! {
    /// Random bytes for the next nonces and how many are used: asking the operating system for
    /// each one costs as much as sealing a small value.
    static NONCES: RefCell<([u8; NONCE_BYTES * 64], usize)> =
        const { RefCell::new(([0; NONCE_BYTES * 64], NONCE_BYTES * 64)) };
}

fn fresh_nonce() -> [u8; NONCE_BYTES] {
    NONCES.with_borrow_mut(|(bytes, used)| {
        if *used == bytes.len() {
            SystemEntropy.fill(bytes);
            *used = 0;
        }
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&bytes[*used..*used + NONCE_BYTES]);
        *used += NONCE_BYTES;
        nonce
    })
}

/// Seals and opens the values of one store.
pub(crate) struct Sealer {
    keyring: Keyring,
    store_id: [u8; 16],
}

impl Sealer {
    pub(crate) fn new(master: MasterKey, store_id: [u8; 16]) -> Self {
        Self { keyring: Keyring::new(master, store_id), store_id }
    }

    /// Gives the master key back, for a store of another id.
    pub(crate) fn into_master(self) -> MasterKey {
        self.keyring.into_master()
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Seals `plain`; the answer begins with the clear bytes.
    pub(crate) fn seal(&self, whose: Whose<'_>, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(sealed_bytes(place, plain.len()));
        let start = write_head(&mut bytes, place, self.keyring.id(), fresh_nonce());
        bytes.extend_from_slice(plain);
        self.encrypt(&mut bytes, start, whose, place);
        bytes
    }

    /// Encodes and seals a value.
    pub(crate) fn seal_value<T: Serialize>(
        &self,
        whose: Whose<'_>,
        place: &Place<'_>,
        value: &T,
    ) -> Result<Vec<u8>, wire::WireError> {
        self.seal_value_with_room(whose, place, value, 0)
    }

    /// The same, with room for more bytes behind it. The value is encoded where it is encrypted: no
    /// copy of the plain bytes is made.
    pub(crate) fn seal_value_with_room<T: Serialize>(
        &self,
        whose: Whose<'_>,
        place: &Place<'_>,
        value: &T,
        room: usize,
    ) -> Result<Vec<u8>, wire::WireError> {
        let plain_bytes = wire::encoded_bytes(value)?;
        let mut bytes = Vec::with_capacity(sealed_bytes(place, plain_bytes) + room);
        let start = write_head(&mut bytes, place, self.keyring.id(), fresh_nonce());
        wire::encode_into(&mut bytes, place.schema, value)?;
        self.encrypt(&mut bytes, start, whose, place);
        Ok(bytes)
    }

    /// Encrypts what stands behind the head, in place, and adds the tag.
    fn encrypt(&self, bytes: &mut Vec<u8>, start: usize, whose: Whose<'_>, place: &Place<'_>) {
        let (head, plain) = bytes.split_at_mut(start);
        let nonce = head.last_chunk::<NONCE_BYTES>().expect("the head ends with the nonce");
        let aad = self.associated(place);
        let tag = self.with_cipher(whose, |cipher| cipher.seal(nonce, &aad, plain));
        bytes.extend_from_slice(&tag);
    }

    /// Opens what [`Self::seal`] made for the same place. `place.clear` must be the clear bytes
    /// that `bytes` begin with; the caller reads them from there.
    pub(crate) fn open(
        &self,
        whose: Whose<'_>,
        place: &Place<'_>,
        bytes: &[u8],
    ) -> Result<Vec<u8>, Broken> {
        let sealed = bytes.strip_prefix(place.clear).ok_or(Broken::Foreign)?;
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(Broken::Foreign)?;
        if head[..2] != MAGIC {
            return Err(Broken::Foreign);
        }
        let found = u16::from_be_bytes([head[2], head[3]]);
        if found != place.schema {
            return Err(Broken::Schema { found, expected: place.schema });
        }
        if head[4..8] != self.keyring.id() {
            return Err(Broken::Key);
        }
        let nonce = head.last_chunk::<NONCE_BYTES>().ok_or(Broken::Foreign)?;
        if body.len() < TAG_BYTES {
            return Err(Broken::Foreign);
        }
        let mut bytes = body.to_vec();
        let aad = self.associated(place);
        let plain_bytes = self
            .with_cipher(whose, |cipher| cipher.open(nonce, &aad, &mut bytes).map(<[u8]>::len))
            .map_err(|Forged| Broken::Tag)?;
        bytes.truncate(plain_bytes);
        Ok(bytes)
    }

    /// Opens and decodes a value.
    pub(crate) fn open_value<T: DeserializeOwned>(
        &self,
        whose: Whose<'_>,
        place: &Place<'_>,
        bytes: &[u8],
    ) -> Result<T, Broken> {
        let plain = self.open(whose, place, bytes)?;
        wire::decode(place.schema, &plain).map_err(|error| Broken::Value(error.to_string()))
    }

    fn with_cipher<T>(&self, whose: Whose<'_>, act: impl FnOnce(&Cipher) -> T) -> T {
        match whose {
            Whose::Store => act(self.keyring.records()),
            Whose::Tenant(purpose, tenant) => act(&self.keyring.tenant(purpose, tenant)),
        }
    }

    fn associated(&self, place: &Place<'_>) -> SmallVec<[u8; AAD_BYTES]> {
        let schema = place.schema.to_be_bytes();
        let parts: [&[u8]; 5] =
            [&self.store_id, place.table.as_bytes(), place.key, &schema, place.clear];
        let mut aad = SmallVec::new();
        for part in parts {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part);
        }
        aad
    }
}

/// Bytes of an envelope with its clear bytes.
fn sealed_bytes(place: &Place<'_>, plain_bytes: usize) -> usize {
    place.clear.len() + HEAD_BYTES + plain_bytes + TAG_BYTES
}

/// Writes what stands before the sealed bytes; the length so far.
fn write_head(
    bytes: &mut Vec<u8>,
    place: &Place<'_>,
    key_id: [u8; 4],
    nonce: [u8; NONCE_BYTES],
) -> usize {
    bytes.extend_from_slice(place.clear);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&place.schema.to_be_bytes());
    bytes.extend_from_slice(&key_id);
    bytes.extend_from_slice(&nonce);
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// Sealed on the first day under key 07…, in store 01…, with nonce 02….
    const GOLDEN: &str = include_str!("../../golden/envelope-1.hex");

    fn sealer() -> Sealer {
        Sealer::new(MasterKey::from_bytes([7; 32]), [1; 16])
    }

    fn place<'a>(table: &'a str, key: &'a [u8], clear: &'a [u8], schema: u16) -> Place<'a> {
        Place { table, key, clear, schema }
    }

    fn tenant() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    #[test]
    fn an_envelope_has_the_bytes_it_had_from_the_first_day() {
        let tenant = tenant();
        let whose = Whose::Tenant(Purpose::Secrets, &tenant);
        let place = place("secrets", b"key", b"clear", 1);
        let (sealer, mut sealed) = (sealer(), Vec::new());
        let start = write_head(&mut sealed, &place, sealer.keyring.id(), [2; NONCE_BYTES]);
        sealed.extend_from_slice(b"value");
        sealer.encrypt(&mut sealed, start, whose, &place);
        assert_eq!(HEXLOWER.encode(&sealed), GOLDEN.trim());
        assert_eq!(sealer.open(whose, &place, &sealed), Ok(b"value".to_vec()));
    }

    #[test]
    fn a_value_opens_nowhere_but_in_its_place() {
        let (ours, theirs) = (tenant(), TenantId::new("umbrella").unwrap());
        let whose = Whose::Tenant(Purpose::Tasks, &ours);
        let home = place("t", b"key", b"c", 1);
        let sealed = sealer().seal(whose, &home, b"value");
        let elsewhere = [
            (whose, place("u", b"key", b"c", 1)),
            (whose, place("t", b"kez", b"c", 1)),
            (whose, place("t", b"keyc", b"", 1)),
            (Whose::Store, home),
            (Whose::Tenant(Purpose::Tasks, &theirs), home),
            (Whose::Tenant(Purpose::Secrets, &ours), home),
        ];
        for (whose, place) in elsewhere {
            assert!(sealer().open(whose, &place, &sealed).is_err());
        }
        let other_store = Sealer::new(MasterKey::from_bytes([7; 32]), [9; 16]);
        assert_eq!(other_store.open(whose, &home, &sealed), Err(Broken::Key));
        assert_eq!(sealer().open(whose, &home, &sealed), Ok(b"value".to_vec()));
    }

    #[test]
    fn an_unknown_schema_and_another_master_key_are_told_from_damage() {
        let home = place("t", b"key", b"", 2);
        let sealed = sealer().seal(Whose::Store, &home, b"value");
        let reads_1 = place("t", b"key", b"", 1);
        assert_eq!(
            sealer().open(Whose::Store, &reads_1, &sealed),
            Err(Broken::Schema { found: 2, expected: 1 })
        );
        let other = Sealer::new(MasterKey::from_bytes([8; 32]), [1; 16]);
        assert_eq!(other.open(Whose::Store, &home, &sealed), Err(Broken::Key));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let home = place("t", b"key", b"c", 1);
        let sealed = sealer().seal(Whose::Store, &home, b"value");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(sealer().open(Whose::Store, &home, &changed).is_err(), "{place}");
            assert!(sealer().open(Whose::Store, &home, &sealed[..place]).is_err());
        }
    }

    #[test]
    fn two_seals_of_one_value_have_nothing_in_common() {
        let home = place("t", b"key", b"", 1);
        let sealer = sealer();
        let nonces: std::collections::HashSet<_> =
            (0..1000).map(|_| sealer.seal(Whose::Store, &home, b"value")[8..32].to_vec()).collect();
        assert_eq!(nonces.len(), 1000);
    }
}
