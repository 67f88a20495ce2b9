//! The master key, and every key that is derived from it.
//!
//! `HKDF-SHA-256(master key, salt = store id, info = length-prefixed (purpose, tenant))`.
//! **Invariant:** no key is used for two purposes or two tenants, and none can be printed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use dashmap::DashMap;
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use foldhash::fast::RandomState;
use hkdf::Hkdf;
use keybaton_messages::TenantId;
use keybaton_ports::{AuditKey, Entropy, FingerprintKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::KEY_FILE_BYTES_MAX;
use crate::store::cipher::Cipher;
use crate::store::{KeyError, SystemEntropy};

/// The variable that may hold the master key where no file can.
const KEY_VARIABLE: &str = "KEYBATON_MASTER_KEY";

/// The key that everything in the embedded store is sealed under. No `Debug`, `Clone` or
/// `Serialize`; wiped on drop.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Takes 32 bytes from a generator or a key service.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key file: 32 raw bytes, or their hexadecimal or base64 form.
    ///
    /// # Errors
    /// [`KeyError`] when the file cannot be read, is readable for others, belongs to another user
    /// or does not hold a key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let io = |doing| move |source| KeyError::Io { doing, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        let meta = file.metadata().map_err(io("inspect"))?;
        if meta.mode() & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode: meta.mode() & 0o777 });
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(KeyError::Owner { path: path.to_owned(), owner: meta.uid() });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io("read"))?;
        Self::parse(&bytes).ok_or_else(|| KeyError::Format { place: path.display().to_string() })
    }

    /// Reads the key from `KEYBATON_MASTER_KEY`, if that is set. Whoever can read the process's
    /// environment can read the key, so the caller should warn.
    ///
    /// # Errors
    /// [`KeyError::Format`].
    pub fn from_environment() -> Result<Option<Self>, KeyError> {
        let Some(text) = std::env::var_os(KEY_VARIABLE) else {
            return Ok(None);
        };
        let text = Zeroizing::new(text.into_encoded_bytes());
        let key = Self::parse(&text)
            .ok_or_else(|| KeyError::Format { place: format!("the variable {KEY_VARIABLE}") })?;
        Ok(Some(key))
    }

    /// Makes a key and writes it to a new file that only this user can read (mode 0400).
    ///
    /// # Errors
    /// [`KeyError::Io`], also when the file is there already: a key is never overwritten.
    pub fn create_at(path: &Path) -> Result<Self, KeyError> {
        let io = |doing| move |source| KeyError::Io { doing, path: path.to_owned(), source };
        let mut bytes = Zeroizing::new([0; 32]);
        SystemEntropy.fill(bytes.as_mut_slice());
        let mut text = Zeroizing::new(HEXLOWER.encode(bytes.as_slice()));
        text.push('\n');
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path)
            .map_err(io("create"))?;
        file.write_all(text.as_bytes()).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of"))?;
        }
        Ok(Self(bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let decoded = if bytes.len() == 32 {
            Zeroizing::new(bytes.to_vec())
        } else {
            let text = bytes.trim_ascii();
            let encoding = match text.len() {
                64 => HEXLOWER_PERMISSIVE,
                43 => BASE64_NOPAD,
                44 => BASE64,
                _ => return None,
            };
            Zeroizing::new(encoding.decode(text).ok()?)
        };
        let key: [u8; 32] = decoded.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(key)))
    }
}

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Rows that belong to no tenant alone: records, versions, grants, audit, meta.
    Records,
    /// A tenant's secrets.
    Secrets,
    /// A tenant's tasks, the outcomes of their steps, and checkpoints that stand beside them.
    Tasks,
    /// A tenant's checkpoints in a store of their own.
    Checkpoints,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Secrets => "secrets",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
        }
    }
}

/// The keys of one store.
pub(crate) struct Keyring {
    master: MasterKey,
    salt: [u8; 16],
    id: [u8; 4],
    records: Cipher,
    tenants: DashMap<(Purpose, TenantId), Arc<Cipher>, RandomState>,
}

impl Keyring {
    pub(crate) fn new(master: MasterKey, store_id: [u8; 16]) -> Self {
        let id = derive(&master, &store_id, "key id", "");
        let records = derive(&master, &store_id, Purpose::Records.word(), "");
        Self {
            id: [id[0], id[1], id[2], id[3]],
            records: Cipher::new(records),
            tenants: DashMap::default(),
            salt: store_id,
            master,
        }
    }

    pub(crate) fn into_master(self) -> MasterKey {
        self.master
    }

    /// Names the master key in every envelope, so that a wrong one is told from a damaged value.
    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    pub(crate) fn records(&self) -> &Cipher {
        &self.records
    }

    pub(crate) fn tenant(&self, purpose: Purpose, tenant: &TenantId) -> Arc<Cipher> {
        let name = (purpose, tenant.clone());
        if let Some(cipher) = self.tenants.get(&name) {
            return Arc::clone(&cipher);
        }
        let key = derive(&self.master, &self.salt, purpose.word(), tenant.as_str());
        let cipher = Arc::new(Cipher::new(key));
        self.tenants.insert(name, Arc::clone(&cipher));
        cipher
    }

    pub(crate) fn fingerprint_key(&self) -> FingerprintKey {
        FingerprintKey::new(*derive(&self.master, &self.salt, "fingerprints", ""))
    }

    pub(crate) fn audit_key(&self) -> AuditKey {
        AuditKey::new(*derive(&self.master, &self.salt, "audit", ""))
    }
}

fn derive(master: &MasterKey, salt: &[u8; 16], purpose: &str, tenant: &str) -> Zeroizing<[u8; 32]> {
    let mut info = Vec::with_capacity(64);
    for part in ["keybaton", purpose, tenant] {
        info.extend_from_slice(&(part.len() as u64).to_be_bytes());
        info.extend_from_slice(part.as_bytes());
    }
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), master.0.as_slice())
        .expand(&info, key.as_mut_slice())
        .expect("32 bytes are within what HKDF-SHA-256 can derive");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_key_file_is_unreadable_for_others_and_reads_back_as_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let made = MasterKey::create_at(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
        let read = MasterKey::read(&path).unwrap();
        assert!(made.0 == read.0);
        assert!(MasterKey::create_at(&path).is_err(), "a key is never overwritten");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::create_at(&path).unwrap();
        for mode in [0o440, 0o404, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::read(&path).err().expect("refused");
            assert!(error.to_string().contains("chmod 400"), "{error}");
        }
    }

    #[test]
    fn the_same_key_is_read_from_raw_bytes_hex_and_base64_and_nothing_else_is() {
        let raw: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hex = HEXLOWER.encode(&raw);
        for text in [
            raw.to_vec(),
            format!("{hex}\n").into_bytes(),
            hex.to_uppercase().into_bytes(),
            BASE64.encode(&raw).into_bytes(),
            format!(" {}\r\n", BASE64_NOPAD.encode(&raw)).into_bytes(),
        ] {
            assert!(*MasterKey::parse(&text).unwrap().0 == raw);
        }
        for text in [&b""[..], b"password", &[b'g'; 64], &[0; 31], &[b'a'; 200]] {
            assert!(MasterKey::parse(text).is_none());
        }
    }

    #[test]
    fn purposes_tenants_and_stores_never_share_a_key() {
        let master = MasterKey::from_bytes([3; 32]);
        let salts = [[1; 16], [2; 16]];
        let mut keys = std::collections::HashSet::new();
        for salt in &salts {
            for purpose in ["records", "secrets", "tasks", "checkpoints"] {
                for tenant in ["", "a", "b"] {
                    keys.insert(*derive(&master, salt, purpose, tenant));
                }
            }
        }
        assert_eq!(keys.len(), 2 * 4 * 3);
    }
}
