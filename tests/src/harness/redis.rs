//! A real redis-server on a socket in a directory of its own: killed, paused and restarted at will.
//!
//! **Invariant:** it dies with the thread of the test that started it, and is reaped before it is
//! started again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use keybaton_adapters::buses::{RedisBus, RedisSettings, RedisUser};
use keybaton_messages::TenantId;
use keybaton_ports::Secret;
use redis::{Cmd, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::PATIENCE;

/// What is said where there is none.
const MISSING: &str = "redis-server is not on this machine: apt-get install -y redis-server";

/// The administrator's password, in a server that only this test can reach.
const ADMIN: &str = "admin-password";

/// A certificate for `localhost` until 2124, signed by itself. Its key lies beside it for everybody
/// to see: nothing but a test's server ever shows it.
const CERTIFICATE: &str = include_str!("tls/cert.pem");
const CERTIFICATE_KEY: &str = include_str!("tls/key.pem");

/// Longest wait for an answer to the administrator.
const ADMIN_WAIT: Duration = Duration::from_secs(20);

/// A server with an access control list: an administrator, the node, and the tenants `acme` and
/// `acme2`, each with [`RedisServer::password`].
pub struct RedisServer {
    dir: TempDir,
    keeps: bool,
    /// Where it speaks TLS, if it does.
    tls_port: Option<u16>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one that keeps what it is told, synced at every write.
    ///
    /// # Panics
    /// When there is none on this machine.
    #[must_use]
    pub fn start() -> Self {
        Self::open(true, None)
    }

    /// Starts one that also speaks TLS, as `localhost`, under an authority of its own.
    ///
    /// # Panics
    /// When there is none on this machine.
    #[must_use]
    pub fn start_with_tls() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
        Self::open(true, Some(free.expect("a free port").port()))
    }

    /// Starts one that forgets everything when it is killed.
    ///
    /// # Panics
    /// When there is none on this machine.
    #[must_use]
    pub fn start_forgetful() -> Self {
        Self::open(false, None)
    }

    fn open(keeps: bool, tls_port: Option<u16>) -> Self {
        // Paths of sockets are short.
        let dir = tempfile::Builder::new().prefix("kb-redis").tempdir_in("/tmp");
        let mut server = Self { dir: dir.expect("a directory"), keeps, tls_port, child: None };
        if tls_port.is_some() {
            server.put_certificate();
        }
        let tenants = ["acme", "acme2"].map(tenant);
        let mut lines = vec![
            "user default off".to_owned(),
            format!("user admin on >{ADMIN} ~* &* +@all"),
            RedisUser::Node.acl_line(Some(&server.password())),
        ];
        lines.extend(
            tenants.iter().map(|it| RedisUser::Tenant(it).acl_line(Some(&server.password()))),
        );
        lines.push(String::new());
        std::fs::write(server.path("users.acl"), lines.join("\n")).expect("written");
        server.restart();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put_certificate(&self) {
        std::fs::write(self.authority_file(), CERTIFICATE).expect("written");
        std::fs::write(self.path("key.pem"), CERTIFICATE_KEY).expect("written");
    }

    /// The authority that has signed the server's certificate, which is that certificate.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// Where it speaks TLS.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port.expect("it speaks TLS"))
    }

    /// The password of every user but the administrator.
    #[must_use]
    pub fn password(&self) -> Secret {
        Secret::new(b"kb-test-password".to_vec()).expect("a password")
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.path("r.sock").display())
    }

    /// How a user reaches it.
    #[must_use]
    pub fn settings(&self, user: RedisUser<'_>) -> RedisSettings {
        let settings = RedisSettings::new(&self.url()).expect("a URL");
        settings.user(&user.name(), self.password())
    }

    /// The node's bus on it.
    #[must_use]
    pub fn bus(&self) -> RedisBus {
        RedisBus::new(self.settings(RedisUser::Node)).expect("settings")
    }

    /// What the administrator is told.
    ///
    /// # Panics
    /// When the server refuses, or does not answer.
    pub fn admin<T: FromRedisValue>(&self, question: &str) -> T {
        let mut words = question.split_whitespace();
        let mut command = Cmd::new();
        words.by_ref().for_each(|word| {
            command.arg(word);
        });
        self.ask_as("admin", ADMIN, &command).unwrap_or_else(|error| panic!("{question}: {error}"))
    }

    /// What a tenant's user is told to a command of its own.
    ///
    /// # Errors
    /// What the server says.
    pub fn ask_as_tenant<T: FromRedisValue>(
        &self,
        name: &str,
        question: &Cmd,
    ) -> redis::RedisResult<T> {
        self.ask_as(&RedisUser::Tenant(&tenant(name)).name(), "kb-test-password", question)
    }

    /// What the node's user is told to a command of its own.
    ///
    /// # Errors
    /// What the server says.
    pub fn ask_as_node<T: FromRedisValue>(&self, question: &Cmd) -> redis::RedisResult<T> {
        self.ask_as(&RedisUser::Node.name(), "kb-test-password", question)
    }

    /// What any user is told to a command of its own.
    ///
    /// # Errors
    /// What the server says.
    pub fn ask_as<T: FromRedisValue>(
        &self,
        user: &str,
        password: &str,
        question: &Cmd,
    ) -> redis::RedisResult<T> {
        let url = format!("{}?user={user}&pass={password}", self.url());
        let client = redis::Client::open(url)?;
        let mut connection = client.get_connection_with_timeout(ADMIN_WAIT)?;
        connection.set_read_timeout(Some(ADMIN_WAIT))?;
        question.query(&mut connection)
    }

    /// Kills it if it runs, and starts it on the same directory.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "redis-server"]);
        command.args(["--port", "0", "--save", "", "--maxmemory-policy", "noeviction"]);
        command.arg("--unixsocket").arg(self.path("r.sock"));
        command.arg("--dir").arg(self.dir.path());
        command.arg("--aclfile").arg(self.path("users.acl"));
        let append = if self.keeps { "yes" } else { "no" };
        command.args(["--appendonly", append, "--appendfsync", "everysec"]);
        if let Some(port) = self.tls_port {
            command.args(["--bind", "127.0.0.1", "--tls-port", &port.to_string()]);
            command.args(["--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(self.authority_file());
            command.arg("--tls-ca-cert-file").arg(self.authority_file());
            command.arg("--tls-key-file").arg(self.path("key.pem"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect(MISSING);
        let stdout = child.stdout.take().expect("piped");
        self.child = Some(child);
        // Read to the end, so that the server never waits for somebody to listen.
        let (tell, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = tell.send(());
                }
                said.push_str(&line);
                said.push('\n');
            }
            said
        });
        ready.recv_timeout(PATIENCE).expect(MISSING);
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that ended by itself is reaped all the same.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it with SIGSTOP: connections are accepted, by the kernel, and nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is ours");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}
