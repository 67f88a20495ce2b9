//! Redis or Valkey, with users (ACL) and an append-only file that is synced before every answer.

use std::path::{Path, PathBuf};

use ::redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, Value};
use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::limits::{ANSWER_MAX, PROBE_MAX};
use crate::process::{Home, Launch, Port, Server, on_free_ports};
use crate::program::{Found, Kind};

/// The user who may do everything; there is no user without a name.
pub const ADMIN: &str = "admin";

/// Its password. It protects nothing: the server is gone with the test.
const PASSWORD: &str = "redis-of-a-test";

/// Which server is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Whichever is there, Redis first.
    #[default]
    Any,
    /// Redis.
    Redis,
    /// Valkey; it has `WAITAOF` in every version.
    Valkey,
}

/// How it is started.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Which server.
    pub flavour: Flavour,
    /// Whether what was acknowledged survives a kill (`appendonly yes`, `appendfsync always`);
    /// otherwise everything is in memory.
    pub is_durable: bool,
    /// Lines of the file of users besides [`ADMIN`]'s, for example `user t1 on >word ~kb:* +get`.
    pub users: Vec<String>,
    /// Lines of the configuration besides the usual ones, for example `maxmemory 2mb`.
    pub settings: Vec<String>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        let (users, settings) = (Vec::new(), Vec::new());
        Self { flavour: Flavour::Any, is_durable: true, users, settings }
    }
}

/// A Redis or a Valkey that was started.
pub struct Redis {
    server: Server,
    port: Port,
    password_file: PathBuf,
    kind: Kind,
    version: String,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing) when it is not on this machine; otherwise why it did not start.
    pub fn start(config: RedisConfig) -> Result<Self> {
        let (kind, found) = find(config.flavour)?;
        on_free_ports(|[port]| Self::start_on(port, kind, &found, &config))
    }

    fn start_on(port: Port, kind: Kind, found: &Found, config: &RedisConfig) -> Result<Self> {
        let home = Home::make()?;
        let number = port.number;
        let password_file = home.write("password", PASSWORD)?;
        // Nobody can sign in as `default`; but while the server reads its file it acts as that user,
        // and leaves out transactions with commands that this user may not do.
        let mut users = format!(
            "user default off resetpass ~* &* +@all\nuser {ADMIN} on >{PASSWORD} ~* &* +@all\n"
        );
        users.extend(config.users.iter().map(|line| format!("{line}\n")));
        let users = home.write("users.acl", &users)?;
        let data = home.make_directory("data")?;
        let durability = match config.is_durable {
            true => "appendonly yes\nappendfsync always",
            false => "appendonly no",
        };
        let mut lines = format!(
            "bind 127.0.0.1\nport {number}\ndir {}\naclfile {}\n{durability}\nsave \"\"\n\
             maxmemory-policy noeviction\n",
            data.display(),
            users.display(),
        );
        lines.extend(config.settings.iter().map(|line| format!("{line}\n")));
        let lines = home.write("redis.conf", &lines)?;
        let launch = Launch::new(&found.program).args([lines]);
        let probe = move || {
            let client = client(number, ADMIN, PASSWORD)?;
            let mut connection = client.get_connection_with_timeout(PROBE_MAX)?;
            connection.set_read_timeout(Some(PROBE_MAX))?;
            ::redis::cmd("PING").exec(&mut connection).context("PING is not answered")
        };
        let server = Server::start(kind.name(), home, launch, Box::new(probe))?;
        Ok(Self { server, port, password_file, kind, version: found.version.clone() })
    }

    /// Where to reach it as [`ADMIN`]; there is no password in it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as(ADMIN)
    }

    /// Where to reach it as another user; there is no password in it.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        format!("redis://{user}@127.0.0.1:{}", self.port.number)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// A file with the password of [`ADMIN`] and nothing else.
    #[must_use]
    pub fn admin_password_file(&self) -> &Path {
        &self.password_file
    }

    /// The password of [`ADMIN`].
    #[must_use]
    pub fn admin_password(&self) -> &'static str {
        PASSWORD
    }

    /// Whether it is Redis or Valkey.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its version, such as `7.0.15`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it can be asked on how many disks a write is (`WAITAOF`: Redis 7.2, Valkey).
    #[must_use]
    pub fn has_waitaof(&self) -> bool {
        self.command_as_admin(&["COMMAND", "INFO", "WAITAOF"]).is_ok_and(|info| !info.is_empty())
    }

    /// The process: its id, its log, its directory.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Does one command as [`ADMIN`], for example `["ACL", "WHOAMI"]`, and returns the answer as
    /// text: an element a line, nothing for nil.
    ///
    /// # Errors
    /// What the server says, and when there is no answer within [`ANSWER_MAX`].
    pub fn command_as_admin(&self, words: &[&str]) -> Result<String> {
        self.command(ADMIN, PASSWORD, words)
    }

    /// The same as another user.
    ///
    /// # Errors
    /// As [`Redis::command_as_admin`]. What the user may not do has the code `NOPERM`.
    pub fn command(&self, user: &str, password: &str, words: &[&str]) -> Result<String> {
        let client = client(self.port.number, user, password)?;
        let connection = client.get_connection_with_timeout(ANSWER_MAX);
        let mut connection = connection.context("cannot connect to Redis")?;
        connection.set_read_timeout(Some(ANSWER_MAX))?;
        let (name, args) = words.split_first().context("a command has a name")?;
        let answer = ::redis::cmd(name).arg(args).query::<Value>(&mut connection);
        let answer = answer.map_err(|error| {
            let code = error.code().unwrap_or("no code").to_owned();
            anyhow::Error::new(error).context(format!("{} is refused: {code}", words.join(" ")))
        })?;
        Ok(text(&answer))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Lets it write everything down, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn stop(&self) -> Result<()> {
        self.server.stop(Signal::TERM)
    }

    /// Stops it, so that connections are accepted and nobody answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }

    /// Kills it if it runs, and starts it on the same data and the same port.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn restart(&self) -> Result<()> {
        self.server.restart()
    }
}

fn find(flavour: Flavour) -> Result<(Kind, Found)> {
    let kinds: &[Kind] = match flavour {
        Flavour::Any => &[Kind::Redis, Kind::Valkey],
        Flavour::Redis => &[Kind::Redis],
        Flavour::Valkey => &[Kind::Valkey],
    };
    let found = kinds.iter().find_map(|kind| Some((*kind, kind.find()?)));
    Ok(found.ok_or_else(|| kinds[0].missing())?)
}

fn client(port: u16, user: &str, password: &str) -> Result<Client> {
    let info = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port).into_connection_info()?;
    let login = RedisConnectionInfo::default().set_username(user).set_password(password);
    Ok(Client::open(info.set_redis_settings(login))?)
}

fn text(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Array(values) | Value::Set(values) => lines(values.iter()),
        Value::Map(pairs) => lines(pairs.iter().flat_map(|(name, value)| [name, value])),
        other => format!("{other:?}"),
    }
}

fn lines<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.map(text).collect::<Vec<_>>().join("\n")
}
