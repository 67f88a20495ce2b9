//! Secret bytes, and the one thing that may be told about them: their fingerprint.
//!
//! **Invariant:** a secret cannot be printed, cloned, serialized or compared by accident.

use hmac::{Hmac, KeyInit, Mac};
use keybaton_messages::Fingerprint;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::limits::SECRET_BYTES_MAX;
use crate::refusal::{Denial, Refusal};

/// Secret bytes, wiped on drop. No `Debug`, `Display`, `Clone`, `Serialize` or `PartialEq`: what
/// cannot be printed or copied cannot leak by accident.
///
/// ```compile_fail
/// let secret = keybaton_ports::Secret::new(b"sk-canary".to_vec()).ok().unwrap();
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = keybaton_ports::Secret::new(b"sk-canary".to_vec()).ok().unwrap();
/// let _ = secret.clone();
/// ```
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes the bytes over; the vector's own buffer is wiped if it has to move.
    ///
    /// # Errors
    /// [`Denial::TooLarge`] beyond [`SECRET_BYTES_MAX`], [`Denial::BadRequest`] for no bytes at all.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() {
            return Err(Refusal::denied(Denial::BadRequest, "the secret is empty"));
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(Refusal::denied(Denial::TooLarge, "the secret is larger than any key"));
        }
        Ok(Self(Zeroizing::new(bytes.as_slice().into())))
    }

    /// The bytes themselves, for the secret store and the header builder only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether two secrets are the same, in time that does not depend on where they differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The deployment's key for fingerprints: the state of an HMAC that has taken the key in, since
/// tasks ask for a digest at every step. Wiped on drop.
pub struct FingerprintKey(Hmac<Sha256>);

/// An HMAC is two states of its hash. Its crate promises to wipe them; if it ceases to, this does
/// not compile.
const fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
const _: () = is_wiped::<Sha256>();

impl FingerprintKey {
    /// Takes 32 derived bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let taken = <Hmac<Sha256> as KeyInit>::new_from_slice(bytes.as_slice());
        Self(taken.expect("HMAC takes a key of any length"))
    }

    /// HMAC-SHA-256 of the secret: the same secret has the same fingerprint under every tenant.
    #[must_use]
    pub fn fingerprint(&self, secret: &Secret) -> Fingerprint {
        Fingerprint(self.digest(b"secret", &[secret.expose()]))
    }

    /// Keyed digest of length-prefixed parts, for tags and ids. `purpose` keeps uses apart.
    #[must_use]
    pub fn digest(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec()).expect("fits")
    }

    #[test]
    fn the_same_secret_has_the_same_fingerprint_and_another_has_not() {
        let key = FingerprintKey::new([1; 32]);
        assert_eq!(key.fingerprint(&secret("sk-a")), key.fingerprint(&secret("sk-a")));
        assert_ne!(key.fingerprint(&secret("sk-a")), key.fingerprint(&secret("sk-b")));
        let other = FingerprintKey::new([2; 32]);
        assert_ne!(key.fingerprint(&secret("sk-a")), other.fingerprint(&secret("sk-a")));
    }

    #[test]
    fn parts_are_never_glued() {
        let key = FingerprintKey::new([1; 32]);
        assert_ne!(key.digest(b"x", &[b"ab", b"c"]), key.digest(b"x", &[b"a", b"bc"]));
    }

    #[test]
    fn nothing_and_too_much_are_no_secret() {
        assert!(Secret::new(Vec::new()).is_err());
        assert!(Secret::new(vec![b'x'; SECRET_BYTES_MAX + 1]).is_err());
    }
}
