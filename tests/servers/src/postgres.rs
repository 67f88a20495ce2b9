//! Postgres, with passwords (SCRAM) and every commit synced to disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::blocking::wait_for;
use crate::limits::{ANSWER_MAX, PROBE_MAX};
use crate::process::{Home, Launch, Port, Server, on_free_ports};
use crate::program::Kind;

/// The user who may do everything.
pub const ADMIN: &str = "keybaton";

/// Its password. It protects nothing: the server is gone with the test.
const PASSWORD: &str = "postgres-of-a-test";

/// The database that is always there.
pub const DATABASE: &str = "postgres";

/// Settings of every server. `fsync` and `synchronous_commit` as in production, small memory.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    // No Unix socket: its path would have to be short, and a test that cuts connections needs TCP.
    ("unix_socket_directories", ""),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("shared_buffers", "16MB"),
    ("max_connections", "200"),
    ("log_timezone", "UTC"),
];

/// A Postgres that was started.
pub struct Postgres {
    server: Server,
    port: Port,
    password_file: PathBuf,
    version: String,
}

/// The rows of an answer, as text.
pub type Rows = Vec<Vec<Option<String>>>;

impl Postgres {
    /// Starts one.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing) when it is not on this machine; otherwise why it did not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with these settings besides the usual ones, for example
    /// `("default_transaction_read_only", "on")`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let found = Kind::Postgres.find().ok_or_else(|| Kind::Postgres.missing())?;
        on_free_ports(|[port]| Self::start_on(port, &found.program, &found.version, settings))
    }

    fn start_on(
        port: Port,
        program: &Path,
        version: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let home = Home::make()?;
        let password_file = home.write("password", PASSWORD)?;
        let data = home.path().join("data");
        // Nothing is lost if the machine goes down now, so the fresh directory is not synced.
        let make = Launch::new(program.with_file_name("initdb"))
            .args(["--username", ADMIN, "--auth", "scram-sha-256", "--encoding", "UTF8"])
            .args(["--locale", "C", "--no-sync", "--no-instructions"])
            .args([Path::new("--pwfile"), &password_file, Path::new("--pgdata"), &data]);
        home.run(&make)?;
        let number = port.number;
        let mut launch = Launch::new(program);
        launch = launch.args([Path::new("-D"), &data]).args(["-p", &number.to_string()]);
        for (name, value) in SETTINGS.iter().chain(settings) {
            launch = launch.args(["-c", &format!("{name}={value}")]);
        }
        let probe = move || {
            let answer = query(number, ADMIN, PASSWORD, DATABASE, "select 1");
            wait_for(async { tokio::time::timeout(PROBE_MAX, answer).await? }).map(drop)
        };
        let server = Server::start(Kind::Postgres.name(), home, launch, Box::new(probe))?;
        Ok(Self { server, port, password_file, version: version.to_owned() })
    }

    /// Where to reach a database as a user; there is no password in it.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port.number)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// A file with the password of [`ADMIN`] and nothing else.
    #[must_use]
    pub fn password_file(&self) -> &Path {
        &self.password_file
    }

    /// The password of [`ADMIN`].
    #[must_use]
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Its version, such as `16.14`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The process: its id, its log, its directory.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Does what `sql` says, one or several statements, as [`ADMIN`] in [`DATABASE`].
    ///
    /// # Errors
    /// What Postgres says, and when there is no answer within [`ANSWER_MAX`].
    pub fn query_as_admin(&self, sql: &str) -> Result<Rows> {
        self.query_as_admin_in(DATABASE, sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// As [`Postgres::query_as_admin`].
    pub fn query_as_admin_in(&self, database: &str, sql: &str) -> Result<Rows> {
        self.query(ADMIN, PASSWORD, database, sql)
    }

    /// The same as another user.
    ///
    /// # Errors
    /// As [`Postgres::query_as_admin`].
    pub fn query(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<Rows> {
        let answer = query(self.port.number, user, password, database, sql);
        wait_for(async {
            let Ok(answer) = tokio::time::timeout(ANSWER_MAX, answer).await else {
                bail!("Postgres does not answer within {ANSWER_MAX:?}");
            };
            answer
        })
    }

    /// Kills it with SIGKILL, sessions and all, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Lets it end what runs and write everything down, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn stop(&self) -> Result<()> {
        // The "fast" shutdown: sessions are ended, no recovery is needed afterwards.
        self.server.stop(Signal::INT)
    }

    /// Stops the postmaster and every session, so that nothing at all answers.
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

async fn query(port: u16, user: &str, password: &str, database: &str, sql: &str) -> Result<Rows> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(password).dbname(database);
    let (client, connection) = config.connect(NoTls).await.context("cannot connect to Postgres")?;
    // It ends when the client is dropped.
    tokio::spawn(connection);
    let answer = client.simple_query(sql).await.with_context(|| format!("refused: {sql}"))?;
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cells = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect()
    };
    Ok(rows.map(cells).collect())
}
