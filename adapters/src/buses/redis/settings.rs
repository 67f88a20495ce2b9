//! Where Redis is and who we are there. Parsed once, before anything is asked of it.
//!
//! **Invariant:** no password comes from a URL, where it would end in a process list or a log.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keybaton_ports::Secret;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::limits::{REDIS_CLAIM_AFTER, REDIS_PASSWORD_BYTES_MAX, REDIS_STREAM_EVENTS_MAX};

/// The variable that may hold the password where no file can.
pub const REDIS_PASSWORD_VARIABLE: &str = "KEYBATON_REDIS_PASSWORD";

/// The same for a journal in Redis, whose user is another one.
pub const REDIS_JOURNAL_PASSWORD_VARIABLE: &str = "KEYBATON_REDIS_JOURNAL_PASSWORD";

/// Where Redis is and who signs in there, without the password: enough to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisPlace {
    /// `redis://host:port/db`, `rediss://…` or `unix:///path?db=0`, without a user or a password.
    pub url: String,
    /// The user of the access control list; `default` when there is none.
    pub user: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// The certificate authorities to trust (PEM) instead of the public ones.
    pub authority_file: Option<PathBuf>,
}

impl RedisPlace {
    /// Settings with which one signs in there. The password comes from the file, and where none is
    /// named from `variable` of the environment. Whoever can read the process's environment can
    /// read that, so a file is better.
    ///
    /// # Errors
    /// [`RedisSettingsError`], which never repeats the URL.
    pub fn settings(&self, variable: &str) -> Result<RedisSettings, RedisSettingsError> {
        let mut settings = RedisSettings::new(&self.url)?;
        let password = match &self.password_file {
            Some(file) => Some(redis_password_file(file)?),
            None => password_from_environment(variable)?,
        };
        match (&self.user, password) {
            (user, Some(password)) => {
                settings = settings.user(user.as_deref().unwrap_or("default"), password);
            }
            (Some(user), None) => {
                let (user, variable) = (user.clone(), variable.to_owned());
                return Err(RedisSettingsError::NoPassword { user, variable });
            }
            (None, None) => {}
        }
        if let Some(file) = &self.authority_file {
            settings = settings.authority_file(file)?;
        }
        settings.place.user.clone_from(&self.user);
        settings.place.password_file.clone_from(&self.password_file);
        Ok(settings)
    }
}

/// How Redis is reached. The password stays in it until the bus is built; from then on the client
/// library holds a copy, which it needs whenever it connects again and does not wipe.
pub struct RedisSettings {
    place: RedisPlace,
    info: ConnectionInfo,
    password: Option<Secret>,
    authority: Option<Vec<u8>>,
    pub(super) events_max: usize,
    pub(super) claim_after: Duration,
}

/// Settings that cannot be used. Never repeats the URL: it may hold a password.
#[derive(Debug, Error)]
pub enum RedisSettingsError {
    /// The URL names a password or a user.
    #[error(
        "the redis URL must not hold a user or a password: name the user in the settings, and put \
         the password into a file or into {REDIS_PASSWORD_VARIABLE}"
    )]
    SecretInUrl,
    /// A user without a password.
    #[error("the redis user {user} needs a password: name a file with it, or set {variable}")]
    NoPassword {
        /// Which user.
        user: String,
        /// Which variable of the environment is looked at.
        variable: String,
    },
    /// The URL is of another form.
    #[error(
        "the redis URL cannot be used: write redis://host:port/db, rediss://host:port/db for TLS, \
         or unix:///path?db=0"
    )]
    Url,
    /// A file cannot be read.
    #[error("{path} could not be read; check that it is there and belongs to this user")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others can read the password file.
    #[error("{path} can be read by others (mode {mode:o}): chmod 0400 it")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What should be a password is none.
    #[error("{place} holds no password: one line of at most {REDIS_PASSWORD_BYTES_MAX} bytes")]
    Password {
        /// The file or the variable.
        place: String,
    },
    /// The certificate authority is not in PEM form.
    #[error("the certificate authority for redis cannot be used; name a PEM file")]
    Authority,
}

impl RedisSettings {
    /// Reads `redis://host:port/db`, `rediss://…` (TLS) or `unix:///path?db=0`.
    ///
    /// # Errors
    /// [`RedisSettingsError`] for another form, and for a URL that holds a user or a password.
    pub fn new(url: &str) -> Result<Self, RedisSettingsError> {
        let parsed = redis::parse_redis_url(url).ok_or(RedisSettingsError::Url)?;
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        let is_named = |name: &str| parsed.query_pairs().any(|(key, _)| key == name);
        if has_user || is_named("user") || is_named("pass") {
            return Err(RedisSettingsError::SecretInUrl);
        }
        // The one fragment there is switches the verification of certificates off.
        if parsed.fragment().is_some() {
            return Err(RedisSettingsError::Url);
        }
        let info = parsed.into_connection_info().map_err(|_| RedisSettingsError::Url)?;
        let url = url.to_owned();
        let place = RedisPlace { url, user: None, password_file: None, authority_file: None };
        Ok(Self {
            place,
            info,
            password: None,
            authority: None,
            events_max: REDIS_STREAM_EVENTS_MAX,
            claim_after: REDIS_CLAIM_AFTER,
        })
    }

    /// Signs in as this user of the access control list.
    #[must_use]
    pub fn user(mut self, name: &str, password: Secret) -> Self {
        self.place.user = Some(name.to_owned());
        self.password = Some(password);
        self
    }

    /// Where it is and who signs in there.
    #[must_use]
    pub fn place(&self) -> &RedisPlace {
        &self.place
    }

    /// Where it is, in words for people.
    #[must_use]
    pub fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Trusts the certificate authorities of this PEM file instead of the public ones.
    ///
    /// # Errors
    /// [`RedisSettingsError::File`].
    pub fn authority_file(mut self, path: &Path) -> Result<Self, RedisSettingsError> {
        let read = std::fs::read(path);
        let io = |source| RedisSettingsError::File { path: path.to_owned(), source };
        self.authority = Some(read.map_err(io)?);
        self.place.authority_file = Some(path.to_owned());
        Ok(self)
    }

    /// Keeps this many events of a tenant, [`REDIS_STREAM_EVENTS_MAX`] unless said otherwise.
    #[must_use]
    pub fn events_max(mut self, events: usize) -> Self {
        self.events_max = events.max(1);
        self
    }

    /// A member of a group that has not finished an event for this long loses it to another one,
    /// [`REDIS_CLAIM_AFTER`] unless said otherwise.
    #[must_use]
    pub fn claim_after(mut self, idle: Duration) -> Self {
        self.claim_after = idle.max(Duration::from_millis(1));
        self
    }

    /// The client of the library, which connects when it is asked to.
    pub(crate) fn client(&self) -> Result<Client, RedisSettingsError> {
        let mut redis = self.info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &self.place.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            let place = || "the redis password".to_owned();
            let text = std::str::from_utf8(password.expose());
            let text = text.map_err(|_| RedisSettingsError::Password { place: place() })?;
            redis = redis.set_password(text);
        }
        let info = self.info.clone().set_redis_settings(redis);
        match &self.authority {
            None => Client::open(info).map_err(|_| RedisSettingsError::Url),
            Some(pem) => {
                let root_cert = Some(pem.clone());
                let certificates = TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(info, certificates)
                    .map_err(|_| RedisSettingsError::Authority)
            }
        }
    }
}

/// Reads a password file: one line, readable by this user alone.
///
/// # Errors
/// [`RedisSettingsError`] when it cannot be read, others can read it, or it holds no password.
pub fn redis_password_file(path: &Path) -> Result<Secret, RedisSettingsError> {
    let io = |source| RedisSettingsError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(RedisSettingsError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * REDIS_PASSWORD_BYTES_MAX));
    file.take(REDIS_PASSWORD_BYTES_MAX as u64 + 2).read_to_end(&mut bytes).map_err(io)?;
    password(&bytes, &path.display().to_string())
}

fn password_from_environment(variable: &str) -> Result<Option<Secret>, RedisSettingsError> {
    let Some(text) = std::env::var_os(variable) else {
        return Ok(None);
    };
    let text = Zeroizing::new(text.into_encoded_bytes());
    password(&text, variable).map(Some)
}

fn password(bytes: &[u8], place: &str) -> Result<Secret, RedisSettingsError> {
    let line = bytes.trim_ascii();
    let is_one = std::str::from_utf8(line).is_ok_and(|text| !text.contains(char::is_control));
    let refused = || RedisSettingsError::Password { place: place.to_owned() };
    if !is_one || line.len() > REDIS_PASSWORD_BYTES_MAX {
        return Err(refused());
    }
    Secret::new(line.to_vec()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_url_with_a_user_or_a_password_is_refused_and_not_repeated() {
        for url in [
            "redis://:hunter2@h:6379/0",
            "redis://keybaton:hunter2@h:6379",
            "redis://keybaton@h:6379",
            "rediss://:hunter2@h",
            "unix:///run/r.sock?pass=hunter2",
            "unix:///run/r.sock?db=1&user=keybaton",
        ] {
            let refusal = RedisSettings::new(url).err().expect(url);
            assert!(matches!(refusal, RedisSettingsError::SecretInUrl), "{url}");
            assert!(!refusal.to_string().contains("hunter2"));
        }
        for url in ["", "http://h:6379", "redis://h/x", "rediss://h:6379/0#insecure", "h:6379"] {
            let refusal = RedisSettings::new(url).err().expect(url);
            assert!(matches!(refusal, RedisSettingsError::Url), "{url}: {refusal}");
        }
        for url in ["redis://h:6379/3", "rediss://h:6379", "unix:///run/r.sock?db=1", "redis://h"] {
            assert!(RedisSettings::new(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn settings_know_the_way_back_and_not_the_password() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let file = dir.path().join("password");
        std::fs::write(&file, "hunter2").expect("written");
        let only_us = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(&file, only_us).expect("set");
        let place = RedisPlace {
            url: "redis://h:6379/3".into(),
            user: Some("node".into()),
            password_file: Some(file),
            authority_file: None,
        };
        let settings = place.settings("KEYBATON_UNSET").expect("good settings");
        assert_eq!(*settings.place(), place);
        assert!(!format!("{:?}", settings.place()).contains("hunter2"));
        let without = RedisPlace { password_file: None, ..place };
        let refusal = without.settings("KEYBATON_UNSET").err().expect("no password");
        assert!(refusal.to_string().contains("set KEYBATON_UNSET"), "{refusal}");
    }

    #[test]
    fn a_password_file_is_one_line_that_nobody_else_can_read() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("password");
        let put = |text: &str, mode| {
            std::fs::write(&path, text).expect("written");
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("set");
            redis_password_file(&path)
        };
        let read = put("hunter2\n", 0o600).expect("a password");
        assert_eq!(read.expose(), b"hunter2");
        assert!(matches!(put("hunter2\n", 0o640), Err(RedisSettingsError::Exposed { .. })));
        for bad in ["", "\n", "two\nlines", &"x".repeat(REDIS_PASSWORD_BYTES_MAX + 1)] {
            assert!(matches!(put(bad, 0o600), Err(RedisSettingsError::Password { .. })), "{bad:?}");
        }
        let missing = redis_password_file(&dir.path().join("nothing"));
        assert!(matches!(missing, Err(RedisSettingsError::File { .. })));
    }
}
