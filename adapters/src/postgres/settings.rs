//! Where Postgres is and how it is trusted: read once, checked once.
//!
//! **Invariant:** no password stands in an address, and nothing leaves this machine without TLS.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

use crate::limits::{
    PASSWORD_FILE_BYTES_MAX, POSTGRES_ANSWER_WAIT_MAX, POSTGRES_CONNECT_WAIT_MAX,
    POSTGRES_CONNECTIONS_MAX,
};
use crate::postgres::PostgresError;

/// The variable that may hold the password where no file can.
const PASSWORD_VARIABLE: &str = "KEYBATON_POSTGRES_PASSWORD";

/// How a Postgres store is reached.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// `postgres://user@host:port/database`, several hosts with commas; without a password.
    pub url: String,
    /// The file with the password, read again for every new connection. Without it the environment
    /// variable `KEYBATON_POSTGRES_PASSWORD` is used, and without that too, no password.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections at most.
    pub connections_max: usize,
    /// Whether a database without a store becomes one, and an older schema is brought up to date.
    /// Off for commands that only look.
    pub create: bool,
    /// Longest wait for one answer; after it the outcome of a write is unknown.
    pub answer_wait_max: Duration,
}

impl PostgresSettings {
    /// The usual settings for this address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            connections_max: POSTGRES_CONNECTIONS_MAX,
            create: true,
            answer_wait_max: POSTGRES_ANSWER_WAIT_MAX,
        }
    }

    /// Whether they can be used at all. Nothing is asked of the server.
    ///
    /// # Errors
    /// [`PostgresError`], which never repeats a password.
    pub fn check(&self) -> Result<(), PostgresError> {
        self.config().map(drop)
    }

    /// The checked address, with every limit that the server shall keep.
    pub(crate) fn config(&self) -> Result<Config, PostgresError> {
        let mut config: Config = self.url.parse().map_err(|error: tokio_postgres::Error| {
            PostgresError::Address(crate::postgres::why(&error))
        })?;
        if config.get_password().is_some() {
            return Err(PostgresError::PasswordInAddress);
        }
        if config.get_hosts().is_empty() {
            return Err(PostgresError::Address("it names no host".into()));
        }
        if let Some(host) = outside(&config) {
            if config.get_ssl_mode() == SslMode::Disable {
                return Err(PostgresError::Plain { host });
            }
            config.ssl_mode(SslMode::Require);
        } else if config.get_ssl_mode() == SslMode::Prefer {
            // The usual server on this machine has a certificate that nobody vouches for.
            config.ssl_mode(SslMode::Disable);
        }
        let wait = self.answer_wait_max.as_millis();
        let own = config.get_options().unwrap_or_default();
        // The server gives up before we do, so that a definite no arrives in time; and a session
        // that we lost holds its locks no longer than we waited. What we ask is short, so that
        // compiling it would take longer than doing it.
        let options = format!(
            "{own} -c statement_timeout={0}ms -c lock_timeout={0}ms \
             -c idle_in_transaction_session_timeout={wait}ms -c jit=off \
             -c default_transaction_isolation=read\\ committed",
            wait * 4 / 5
        );
        config
            .options(options)
            .application_name("keybaton")
            .connect_timeout(POSTGRES_CONNECT_WAIT_MAX.min(self.answer_wait_max))
            .tcp_user_timeout(self.answer_wait_max)
            .keepalives_idle(self.answer_wait_max)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        self.password()?;
        Ok(config)
    }

    /// The password, if there is one.
    pub(crate) fn password(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PostgresError> {
        match &self.password_file {
            Some(path) => read_password(path).map(Some),
            None => Ok(std::env::var_os(PASSWORD_VARIABLE)
                .map(|text| Zeroizing::new(text.into_encoded_bytes()))),
        }
    }
}

fn read_password(path: &Path) -> Result<Zeroizing<Vec<u8>>, PostgresError> {
    let bad = |why: String| PostgresError::Password { path: path.to_owned(), why };
    let meta = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
    if meta.mode() & 0o007 != 0 {
        let why = format!("it has mode {:o}; make it unreadable for others", meta.mode() & 0o777);
        return Err(bad(why));
    }
    if meta.len() > PASSWORD_FILE_BYTES_MAX {
        return Err(bad("it is too large for a password".into()));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| bad(error.to_string()))?);
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    if end == 0 {
        return Err(bad("it is empty".into()));
    }
    Ok(Zeroizing::new(bytes[..end].to_vec()))
}

/// A host of the address that is not this machine.
fn outside(config: &Config) -> Option<String> {
    let address = config.get_hostaddrs().iter().find(|address| !address.is_loopback());
    if let Some(address) = address {
        return Some(address.to_string());
    }
    let is_here = |name: &str| {
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    config.get_hosts().iter().find_map(|host| match host {
        Host::Tcp(name) if !is_here(name) => Some(name.clone()),
        Host::Tcp(_) | Host::Unix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(url: &str) -> Result<Config, PostgresError> {
        PostgresSettings::new(url).config()
    }

    #[test]
    fn nothing_leaves_this_machine_without_tls() {
        for (url, mode) in [
            ("postgres://u@127.0.0.1/db", SslMode::Disable),
            ("postgres://u@localhost/db?sslmode=require", SslMode::Require),
            ("postgres:///db?user=u&host=/run/postgresql", SslMode::Disable),
            ("postgres://u@db.example/db", SslMode::Require),
            ("postgres://u@db.example/db?sslmode=prefer", SslMode::Require),
            ("postgres://u@localhost,db.example/db", SslMode::Require),
            ("postgres://u@localhost/db?hostaddr=10.0.0.1", SslMode::Require),
        ] {
            assert_eq!(config(url).expect(url).get_ssl_mode(), mode, "{url}");
        }
        for url in [
            "postgres://u@db.example/db?sslmode=disable",
            "postgres://u@localhost/db?hostaddr=10.0.0.1&sslmode=disable",
        ] {
            let error = config(url).expect_err(url).to_string();
            assert!(error.contains("without TLS"), "{error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_with_the_remedy() {
        for url in ["postgres://u:word@localhost/db", "postgres://u@localhost/db?password=word"] {
            let error = config(url).expect_err(url).to_string();
            assert!(error.contains("password file") && !error.contains("word@"), "{error}");
        }
    }

    #[test]
    fn a_password_file_is_read_without_its_line_end_and_never_from_a_file_of_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let mut settings = PostgresSettings::new("postgres://u@localhost/db");
        settings.password_file = Some(path.clone());
        assert!(matches!(settings.config(), Err(PostgresError::Password { .. })), "no file");
        std::fs::write(&path, "pass word\r\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(&**settings.password().unwrap().unwrap(), b"pass word");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(settings.password().unwrap_err().to_string().contains("unreadable for others"));
    }
}
