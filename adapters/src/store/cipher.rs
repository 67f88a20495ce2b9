//! XChaCha20-Poly1305: a random nonce of 24 bytes for each message, so that nobody needs to count.
//!
//! HChaCha20 makes of the key and the nonce's first 16 bytes a key for one message; under that key
//! ChaCha20-Poly1305 (RFC 8439) seals with the other 8. That is how draft-irtf-cfrg-xchacha-03,
//! section 2.3, defines it. The second part is the TLS library's, because nothing else that every
//! step of a task does takes as long: it seals 400 bytes in a quarter of the time of portable code.
//!
//! **Invariant:** keys are wiped when they are no longer needed.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::{R20, hchacha};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 24;

/// Bytes of the tag behind a sealed message.
pub(crate) const TAG_BYTES: usize = 16;

/// The first bytes of the nonce, that go into the key.
const PREFIX_BYTES: usize = 16;

/// A key for many messages.
pub(crate) struct Cipher(Zeroizing<[u8; KEY_BYTES]>);

/// The bytes are not what was sealed, or not here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forged;

impl Cipher {
    pub(crate) fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(key)
    }

    /// Encrypts in place; the tag belongs behind.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        plain: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let (key, nonce) = self.for_one_message(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(associated), plain)
            .expect("a value is far shorter than the cipher's 256 GiB");
        tag.as_ref().try_into().expect("a tag of Poly1305 has 16 bytes")
    }

    /// Opens sealed bytes with the tag behind them, in place; the plain ones.
    pub(crate) fn open<'a>(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Forged> {
        let (key, nonce) = self.for_one_message(nonce);
        let opened = key.open_in_place(nonce, Aad::from(associated), sealed);
        opened.map(|plain| &*plain).map_err(|_| Forged)
    }

    /// The key is wiped by its library when it is dropped.
    fn for_one_message(&self, nonce: &[u8; NONCE_BYTES]) -> (LessSafeKey, Nonce) {
        let (prefix, rest) = nonce.split_first_chunk::<PREFIX_BYTES>().expect("24 bytes");
        let mut derived = hchacha::<R20>((&*self.0).into(), prefix.into());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derived).expect("a key of 32 bytes");
        derived.as_mut_slice().zeroize();
        let mut short = [0; 12];
        short[4..].copy_from_slice(rest);
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// The example of draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_example_of_the_definition_is_sealed_and_opened() {
        let bytes = |range: std::ops::RangeInclusive<u8>| range.collect::<Vec<u8>>();
        let key: [u8; KEY_BYTES] = bytes(0x80..=0x9f).try_into().unwrap();
        let nonce: [u8; NONCE_BYTES] = bytes(0x40..=0x57).try_into().unwrap();
        let associated = [bytes(0x50..=0x53), bytes(0xc0..=0xc7)].concat();
        let plain = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                     for the future, sunscreen would be it.";
        let expected = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
                        731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
                        2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                        21f9664c97637da9768812f615c68b13b52e";
        let cipher = Cipher::new(Zeroizing::new(key));
        let mut sealed = plain.as_bytes().to_vec();
        let tag = cipher.seal(&nonce, &associated, &mut sealed);
        assert_eq!(HEXLOWER.encode(&sealed), expected);
        assert_eq!(HEXLOWER.encode(&tag), "c0875924c1c7987947deafd8780acf49");
        sealed.extend(tag);
        assert_eq!(cipher.open(&nonce, &associated, &mut sealed), Ok(plain.as_bytes()));
    }

    #[test]
    fn every_part_counts() {
        let cipher = Cipher::new(Zeroizing::new([1; KEY_BYTES]));
        let mut sealed = b"value".to_vec();
        let tag = cipher.seal(&[2; NONCE_BYTES], b"here", &mut sealed);
        sealed.extend(tag);
        let open = |key: u8, nonce: [u8; NONCE_BYTES], associated: &[u8]| {
            let cipher = Cipher::new(Zeroizing::new([key; KEY_BYTES]));
            cipher.open(&nonce, associated, &mut sealed.clone()).map(<[u8]>::to_vec)
        };
        assert_eq!(open(1, [2; NONCE_BYTES], b"here"), Ok(b"value".to_vec()));
        assert_eq!(open(3, [2; NONCE_BYTES], b"here"), Err(Forged));
        assert_eq!(open(1, [2; NONCE_BYTES], b"there"), Err(Forged));
        for at in [0, PREFIX_BYTES - 1, PREFIX_BYTES, NONCE_BYTES - 1] {
            let mut nonce = [2; NONCE_BYTES];
            nonce[at] ^= 1;
            assert_eq!(open(1, nonce, b"here"), Err(Forged), "{at}");
        }
    }
}
