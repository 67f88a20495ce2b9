//! What an operator says about one Vault, checked once at start.
//!
//! **Invariant:** a token or a secret id comes from a file or is handed over as a [`Secret`]; it
//! never stands in an address.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keybaton_ports::{Denial, Refusal, Secret};
use thiserror::Error;
use zeroize::Zeroizing;

use super::limits::{CALL_WAIT_DEFAULT, CALL_WAIT_MAX, CREDENTIAL_BYTES_MAX, PLACE_BYTES_MAX};

/// Where a credential comes from.
pub enum CredentialSource {
    /// A file, read again at every login: Vault Agent, an operator or an orchestrator replaces
    /// its content when the credential changes. Others than owner and group must not be able to
    /// read it.
    File(PathBuf),
    /// The credential itself, for example out of the environment.
    Given(Secret),
}

impl CredentialSource {
    /// The credential as it is at this moment. White space around it does not count.
    pub(super) fn read(&self) -> Result<Credential<'_>, Refusal> {
        match self {
            Self::Given(secret) => Ok(Credential::Given(secret)),
            Self::File(path) => read_file(path).map(Credential::Read),
        }
    }
}

/// A credential on its way to Vault.
pub(super) enum Credential<'a> {
    Given(&'a Secret),
    Read(Zeroizing<Vec<u8>>),
}

impl Credential<'_> {
    /// The text, if Vault could have made it: it must fit into a header.
    pub(super) fn text(&self) -> Result<&str, Refusal> {
        let bytes = match self {
            Self::Given(secret) => secret.expose(),
            Self::Read(bytes) => bytes,
        };
        std::str::from_utf8(bytes.trim_ascii())
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| {
                let why = "Vault's token or secret id is empty or holds a character that none has";
                Refusal::denied(Denial::Admin, why)
            })
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let shown = path.display();
    let busy = |_| Refusal::busy(format!("cannot read {shown}; check that it exists and is yours"));
    let file = File::open(path).map_err(busy)?;
    let mode = file.metadata().map_err(busy)?.mode();
    if mode & 0o007 != 0 {
        let why = format!("{shown} is readable for everybody; use `chmod o= {shown}`");
        return Err(Refusal::denied(Denial::Admin, why));
    }
    let capacity = usize::try_from(CREDENTIAL_BYTES_MAX).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + 1));
    file.take(CREDENTIAL_BYTES_MAX).read_to_end(&mut bytes).map_err(busy)?;
    Ok(bytes)
}

/// How keybaton proves to Vault who it is.
pub enum Login {
    /// A token that somebody else made. It is renewed in place; when it has ended, the source is
    /// asked for another.
    Token(CredentialSource),
    /// The AppRole method: tokens are made as they are needed.
    AppRole {
        /// Where the method is mounted, `approle` as a rule.
        mount: String,
        /// The role's id; it names, and does not prove.
        role_id: String,
        /// The secret id, which proves.
        secret_id: CredentialSource,
    },
}

/// Everything that the adapter has to be told.
pub struct VaultSettings {
    /// Where Vault is, for example `https://vault.example:8200`. Plain http is for this machine
    /// only.
    pub address: String,
    /// Who we are.
    pub login: Login,
    /// Where the KV v2 engine is mounted.
    pub mount: String,
    /// What stands before `tenants/…` in the mount; may be empty.
    pub prefix: String,
    /// The namespace (Vault Enterprise, `OpenBao`), if there is one.
    pub namespace: Option<String>,
    /// Authorities to trust besides those of the machine, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for one call.
    pub call_wait_max: Duration,
}

/// The mount unless said otherwise.
pub const MOUNT_DEFAULT: &str = "kv";

/// The prefix unless said otherwise.
pub const PREFIX_DEFAULT: &str = "keybaton";

impl VaultSettings {
    /// Settings with the defaults.
    #[must_use]
    pub fn new(address: &str, login: Login) -> Self {
        Self {
            address: address.to_owned(),
            login,
            mount: MOUNT_DEFAULT.to_owned(),
            prefix: PREFIX_DEFAULT.to_owned(),
            namespace: None,
            ca_file: None,
            call_wait_max: CALL_WAIT_DEFAULT,
        }
    }

    pub(super) fn check(&self) -> Result<(), VaultError> {
        if self.call_wait_max.is_zero() || self.call_wait_max > CALL_WAIT_MAX {
            return Err(VaultError::CallWait { given: self.call_wait_max });
        }
        if let Login::AppRole { mount, role_id, .. } = &self.login {
            check_place("the mount of AppRole", mount, false)?;
            if role_id.is_empty() || !role_id.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(VaultError::RoleId);
            }
        }
        match &self.namespace {
            Some(namespace) => check_place("the namespace", namespace.trim_end_matches('/'), false),
            None => Ok(()),
        }
    }
}

/// Whether `text` may stand in a path: parts of letters, digits, `-`, `_` and `.`, divided by
/// single slashes, none of which climbs.
pub(crate) fn check_place(
    what: &'static str,
    text: &str,
    may_be_empty: bool,
) -> Result<(), VaultError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(is_plain) && !part.bytes().all(|b| b == b'.')
    };
    let fits = text.len() <= PLACE_BYTES_MAX && text.split('/').all(is_part);
    if fits || (may_be_empty && text.is_empty()) {
        Ok(())
    } else {
        Err(VaultError::Place { what, shown: text.chars().take(40).collect() })
    }
}

/// Settings that were refused.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum VaultError {
    /// The address may not be called.
    #[error("Vault's address is refused: {why}")]
    Address {
        /// What is wrong with it.
        why: String,
    },
    /// A mount, prefix or namespace that cannot stand in a path.
    #[error(
        "{what} {shown:?} does not fit: use letters, digits, '-', '_' and '.', parted by single \
         slashes, none at the ends"
    )]
    Place {
        /// Which.
        what: &'static str,
        /// Its beginning.
        shown: String,
    },
    /// No role has such an id.
    #[error("the role id is empty or holds a character that none has: look for a line feed")]
    RoleId,
    /// Out of bounds.
    #[error("a call cannot wait {given:?}: use more than zero and at most {CALL_WAIT_MAX:?}")]
    CallWait {
        /// What was given.
        given: Duration,
    },
    /// The bundle of authorities cannot be used.
    #[error("{} does not hold certificates in PEM: {why}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS or the resolver could not be set up.
    #[error("the HTTP client cannot be built: check the certificate store of this machine")]
    Client,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_place_that_could_climb_or_escape_is_refused() {
        for text in ["kv", "keybaton", "team-a/kv_2", "a/b/c.d"] {
            assert_eq!(check_place("the mount", text, false), Ok(()), "{text}");
        }
        let long = "a".repeat(1000);
        for text in ["/kv", "kv/", "a//b", "..", "a/../b", "a/./b", "a b", "a?b", "a%2f", &long] {
            assert!(check_place("the mount", text, false).is_err(), "{text}");
        }
        assert!(check_place("the mount", "", false).is_err());
        assert_eq!(check_place("the prefix", "", true), Ok(()));
    }

    #[test]
    fn a_credential_that_everybody_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        std::fs::write(&path, " hvs.canary\n").expect("written");
        let source = CredentialSource::File(path.clone());
        for (mode, is_read) in [(0o400, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            match source.read() {
                Ok(credential) => assert_eq!(credential.text(), Ok("hvs.canary")),
                Err(refusal) => assert!(refusal.to_string().contains("chmod o="), "{refusal}"),
            }
            assert_eq!(source.read().is_ok(), is_read, "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_holds_no_credential_is_refused_without_repeating_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        for text in ["", "  \n", "hvs.canary\nhvs.second", "hvs.can\u{e4}ry", "hvs canary"] {
            std::fs::write(&path, text).expect("written");
            let mode = std::fs::Permissions::from_mode(0o400);
            std::fs::set_permissions(&path, mode).expect("set");
            let source = CredentialSource::File(path.clone());
            let read = source.read().expect("readable");
            let error = read.text().expect_err(text).to_string();
            assert!(!error.contains("canary"), "{error}");
            std::fs::remove_file(&path).expect("removed");
        }
    }
}
