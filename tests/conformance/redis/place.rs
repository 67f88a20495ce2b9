//! A real server with keybaton's users on it, under the rights that `keybaton redis acl` prints.

use std::path::PathBuf;
use std::time::Duration;

use keybaton_adapters::buses::{RedisBus, RedisSettings, RedisUser};
use keybaton_ports::Secret;
use keybaton_servers::process::{Home, Port};
use keybaton_servers::redis::{ADMIN, RedisConfig};
use keybaton_servers::{Redis, unless_missing};
use redis::{Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo};

use super::tenant;

/// The password of every user but the administrator.
const PASSWORD: &str = "kb-test-password";

/// A certificate for `localhost` until 2124, signed by itself. Its key lies beside it for everybody
/// to see: nothing but a test's server ever shows it.
const CERTIFICATE: &str = include_str!("../tls/cert.pem");
const CERTIFICATE_KEY: &str = include_str!("../tls/key.pem");

/// Longest wait for an answer to the administrator.
const ADMIN_WAIT: Duration = Duration::from_secs(20);

/// A server with an access control list: an administrator, the node, and the tenants `acme` and
/// `acme2`, each with [`Place::password`].
pub struct Place {
    server: Redis,
    tls: Option<Tls>,
}

/// Where it speaks TLS, as `localhost`, under an authority of its own.
struct Tls {
    port: Port,
    /// Holds the certificate, and goes with the server.
    _home: Home,
    authority: PathBuf,
}

impl Place {
    /// Starts one that keeps what it is told. `None` where there is none on this machine, which is
    /// noted.
    pub fn start() -> Option<Self> {
        Self::open(RedisConfig::default(), None)
    }

    /// Starts one that also speaks TLS.
    pub fn start_with_tls() -> Option<Self> {
        let (port, home) = (Port::claim().expect("a port"), Home::make().expect("a directory"));
        let authority = home.write("cert.pem", CERTIFICATE).expect("written");
        let key = home.write("key.pem", CERTIFICATE_KEY).expect("written");
        let settings = vec![
            format!("tls-port {}", port.number),
            "tls-auth-clients no".to_owned(),
            format!("tls-cert-file {}", authority.display()),
            format!("tls-ca-cert-file {}", authority.display()),
            format!("tls-key-file {}", key.display()),
        ];
        let tls = Tls { port, _home: home, authority };
        Self::open(RedisConfig { settings, ..RedisConfig::default() }, Some(tls))
    }

    /// Starts one that forgets everything when it is killed.
    pub fn start_forgetful() -> Option<Self> {
        Self::open(RedisConfig { is_durable: false, ..RedisConfig::default() }, None)
    }

    fn open(mut config: RedisConfig, tls: Option<Tls>) -> Option<Self> {
        // As the how-to says: what is published may be lost, so nobody waits for the disk.
        config.settings.push("appendfsync everysec".to_owned());
        let password = password();
        let tenants = ["acme", "acme2"].map(tenant);
        config.users = vec![RedisUser::Node.acl_line(Some(&password))];
        let lines = tenants.iter().map(|it| RedisUser::Tenant(it).acl_line(Some(&password)));
        config.users.extend(lines);
        Some(Self { server: unless_missing(Redis::start(config))?, tls })
    }

    /// The authority that has signed the server's certificate, which is that certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.tls().authority.clone()
    }

    /// Where it speaks TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls().port.number)
    }

    fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("it speaks TLS")
    }

    /// The password of every user but the administrator.
    pub fn password(&self) -> Secret {
        password()
    }

    /// How a user reaches it.
    pub fn settings(&self, user: RedisUser<'_>) -> RedisSettings {
        let url = format!("redis://127.0.0.1:{}", self.server.port());
        let settings = RedisSettings::new(&url).expect("a URL");
        settings.user(&user.name(), self.password())
    }

    /// The node's bus on it.
    pub fn bus(&self) -> RedisBus {
        RedisBus::new(self.settings(RedisUser::Node)).expect("settings")
    }

    /// What the administrator is told.
    pub fn admin<T: FromRedisValue>(&self, question: &str) -> T {
        let mut command = Cmd::new();
        question.split_whitespace().for_each(|word| {
            command.arg(word);
        });
        let answer = self.ask_as(ADMIN, self.server.admin_password(), &command);
        answer.unwrap_or_else(|error| panic!("{question}: {error}"))
    }

    /// What a tenant's user is told to a command of its own.
    pub fn ask_as_tenant<T: FromRedisValue>(
        &self,
        name: &str,
        question: &Cmd,
    ) -> redis::RedisResult<T> {
        self.ask_as(&RedisUser::Tenant(&tenant(name)).name(), PASSWORD, question)
    }

    /// What the node's user is told to a command of its own.
    pub fn ask_as_node<T: FromRedisValue>(&self, question: &Cmd) -> redis::RedisResult<T> {
        self.ask_as(&RedisUser::Node.name(), PASSWORD, question)
    }

    /// What any user is told to a command of its own.
    pub fn ask_as<T: FromRedisValue>(
        &self,
        user: &str,
        password: &str,
        question: &Cmd,
    ) -> redis::RedisResult<T> {
        let login = RedisConnectionInfo::default().set_username(user).set_password(password);
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.server.port());
        let client = redis::Client::open(address.into_connection_info()?.set_redis_settings(login));
        let mut connection = client?.get_connection_with_timeout(ADMIN_WAIT)?;
        connection.set_read_timeout(Some(ADMIN_WAIT))?;
        question.query(&mut connection)
    }

    /// Kills it if it runs, and starts it on the same directory.
    pub fn restart(&self) {
        self.server.restart().expect("restarted");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.server.kill().expect("killed");
    }

    /// Stops it with SIGSTOP: connections are accepted, by the kernel, and nobody answers.
    pub fn pause(&self) {
        self.server.pause().expect("paused");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.server.resume().expect("resumed");
    }
}

fn password() -> Secret {
    Secret::new(PASSWORD.as_bytes().to_vec()).expect("a password")
}
