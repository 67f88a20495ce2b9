//! Vault, one node that keeps everything in a raft log on disk, so that it survives a kill; it comes
//! back sealed, as in production.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::blocking::wait_for;
use crate::limits::{ANSWER_MAX, PROBE_MAX};
use crate::process::{Home, Launch, Port, Server, on_free_ports};
use crate::program::{Kind, on_path};

/// What Vault's database engine calls the plugin for Postgres.
pub const POSTGRES_PLUGIN: &str = "postgresql-database-plugin";

/// Where its raft log gives and takes snapshots.
/// Source: Vault's API documentation of `/sys/storage/raft`.
const SNAPSHOT: &str = "sys/storage/raft/snapshot";

/// A Vault that was started.
pub struct Vault {
    server: Server,
    api: Port,
    /// Its other port; nobody else may have it.
    _cluster: Port,
    unseal_key: String,
    root_token: String,
    root_token_file: PathBuf,
    has_postgres_plugin: bool,
    version: String,
}

impl Vault {
    /// Starts one, initialises it with one key share, unseals it, and tells it of the plugin for
    /// Postgres where that is on the machine. No engine is mounted.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing) when it is not on this machine; otherwise why it did not start.
    pub fn start() -> Result<Self> {
        let found = Kind::Vault.find().ok_or_else(|| Kind::Vault.missing())?;
        let plugin = Kind::VaultPostgresPlugin.find().map(|plugin| plugin.program);
        on_free_ports(|[api, cluster]| {
            let ports = [api.number, cluster.number];
            let home = Home::make()?;
            let command = plugin.as_deref().map(|plugin| wrap(&home, plugin)).transpose()?;
            let server = launch(&found.program, home, ports)?;
            Self::initialise(server, [api, cluster], command.as_deref(), &found.version)
        })
    }

    /// The same, and [`Missing`](crate::Missing) also when the plugin for Postgres is not there.
    ///
    /// # Errors
    /// As [`Vault::start`].
    pub fn start_with_postgres_plugin() -> Result<Self> {
        let plugin = Kind::VaultPostgresPlugin;
        plugin.find().ok_or_else(|| plugin.missing())?;
        Self::start()
    }

    fn initialise(
        server: Server,
        [api, cluster]: [Port; 2],
        plugin: Option<&str>,
        version: &str,
    ) -> Result<Self> {
        let one_share = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let initialised = call(api.number, "PUT", "sys/init", "", Some(&one_share), ANSWER_MAX)?;
        let word = |pointer: &str| {
            let word = initialised.1.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            word.with_context(|| format!("Vault was not initialised: {}", initialised.1))
        };
        let (unseal_key, root_token) = (word("/keys_base64/0")?, word("/root_token")?);
        let root_token_file = server.home().write("root-token", &root_token)?;
        let vault = Self {
            server,
            api,
            _cluster: cluster,
            unseal_key,
            root_token,
            root_token_file,
            has_postgres_plugin: plugin.is_some(),
            version: version.to_owned(),
        };
        vault.unseal()?;
        if let Some(command) = plugin {
            let checksum = data_encoding::HEXLOWER.encode(&Sha256::digest(command));
            let register = json!({ "sha256": checksum, "command": POSTGRES_PLUGIN });
            let path = format!("sys/plugins/catalog/database/{POSTGRES_PLUGIN}");
            vault.request_as_root("PUT", &path, Some(&register))?;
        }
        Ok(vault)
    }

    /// Where it is, as `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.api.number)
    }

    /// A token that may do everything. It protects nothing: the server is gone with the test.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// A file with [`Vault::root_token`] and nothing else.
    #[must_use]
    pub fn root_token_file(&self) -> &Path {
        &self.root_token_file
    }

    /// Whether its database engine can make users of Postgres, with [`POSTGRES_PLUGIN`].
    #[must_use]
    pub fn has_postgres_plugin(&self) -> bool {
        self.has_postgres_plugin
    }

    /// Its version, such as `1.21.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The process: its id, its log, its directory.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Unseals it and waits until it answers requests.
    ///
    /// # Errors
    /// When it does not become active.
    pub fn unseal(&self) -> Result<()> {
        let key = json!({ "key": self.unseal_key });
        let port = self.api.number;
        let (status, answer) = call(port, "PUT", "sys/unseal", "", Some(&key), ANSWER_MAX)?;
        if status != 200 || answer["sealed"] != false {
            bail!("Vault stays sealed: {status} {answer}");
        }
        self.server.wait_until("active", || match health(port)? {
            200 => Ok(()),
            status => bail!("sys/health answers {status}"),
        })
    }

    /// Seals it: it runs, and answers every request with 503.
    ///
    /// # Errors
    /// When it does not.
    pub fn seal(&self) -> Result<()> {
        self.request_as_root("PUT", "sys/seal", None).map(drop)
    }

    /// Whether it is sealed.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn is_sealed(&self) -> Result<bool> {
        Ok(health(self.api.number)? == 503)
    }

    /// Asks as [`Vault::root_token`]; `path` is what follows `/v1/`, `method` may be `LIST`.
    ///
    /// # Errors
    /// Every status but the 200s, and when there is no answer within [`ANSWER_MAX`].
    pub fn request_as_root(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.request(&self.root_token, method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} is answered with {status}: {answer}");
        }
        Ok(answer)
    }

    /// Asks with any token and returns the status with the answer, whatever it is; `null` where
    /// there is none.
    ///
    /// # Errors
    /// When there is no answer within [`ANSWER_MAX`].
    pub fn request(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        call(self.api.number, method, path, token, body, ANSWER_MAX)
    }

    /// Everything that it keeps, as of this moment.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn snapshot(&self) -> Result<Vec<u8>> {
        let asked = ask(self.api.number, "GET", SNAPSHOT, &self.root_token, Vec::new(), ANSWER_MAX);
        let (status, snapshot) = asked?;
        if status != 200 {
            bail!("the question for a snapshot is answered with {status}");
        }
        Ok(snapshot)
    }

    /// Replaces everything that it keeps by a snapshot of its own. It says so before it has done
    /// it: wait for something that only the snapshot has.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn restore_snapshot(&self, snapshot: Vec<u8>) -> Result<()> {
        let asked = ask(self.api.number, "POST", SNAPSHOT, &self.root_token, snapshot, ANSWER_MAX);
        let (status, answer) = asked?;
        if status != 204 {
            bail!("the snapshot is answered with {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    /// Mounts a key-value engine, version 2, and waits until it takes writes: it prepares itself
    /// after the mount has been answered.
    ///
    /// # Errors
    /// When something is mounted there.
    pub fn mount_kv(&self, path: &str) -> Result<()> {
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        self.request_as_root("POST", &format!("sys/mounts/{path}"), Some(&mount))?;
        let config = format!("{path}/config");
        self.server.wait_until("mounted", || {
            self.request_as_root("POST", &config, Some(&json!({}))).map(drop)
        })
    }

    /// Kills it and its plugins with SIGKILL and waits until they are gone.
    ///
    /// # Errors
    /// When they do not go.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Lets it end what runs, and waits until it is gone.
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

    /// Kills it if it runs, and starts it on the same data and the same port. It is sealed then:
    /// see [`Vault::unseal`].
    ///
    /// # Errors
    /// Why it did not start.
    pub fn restart(&self) -> Result<()> {
        self.server.restart()
    }
}

fn launch(program: &Path, home: Home, [api, cluster]: [u16; 2]) -> Result<Server> {
    let (data, plugins) = (home.make_directory("raft")?, home.path().join("plugins"));
    if !plugins.exists() {
        home.make_directory("plugins")?;
    }
    let lines = format!(
        "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  \
           performance_multiplier = 1\n}}\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{api}\"\n  \
           cluster_address = \"127.0.0.1:{cluster}\"\n  tls_disable = true\n}}\n\
         api_addr = \"http://127.0.0.1:{api}\"\n\
         cluster_addr = \"https://127.0.0.1:{cluster}\"\n\
         plugin_directory = \"{}\"\n\
         disable_mlock = true\n\
         log_level = \"warn\"\n",
        data.display(),
        plugins.canonicalize().context("cannot find the directory of plugins")?.display(),
    );
    let lines = home.write("vault.hcl", &lines)?;
    let launch = Launch::new(program).args([Path::new("server"), Path::new("-config"), &lines]);
    // Sealed, and not initialised, are both ways of being up.
    let probe = move || match health(api)? {
        200 | 501 | 503 => Ok(()),
        status => bail!("sys/health answers {status}"),
    };
    Server::start(Kind::Vault.name(), home, launch, Box::new(probe))
}

/// Makes the program that Vault starts as its plugin, and returns its text. Vault's plugins outlive
/// a Vault that is killed unless the kernel is asked to take them along.
fn wrap(home: &Home, plugin: &Path) -> Result<String> {
    home.make_directory("plugins")?;
    let with_us = on_path("setpriv")
        .map(|setpriv| format!("{} --pdeathsig KILL -- ", setpriv.display()))
        .unwrap_or_default();
    let script = format!("#!/bin/sh\nexec {with_us}{} \"$@\"\n", plugin.display());
    home.write_program(&format!("plugins/{POSTGRES_PLUGIN}"), &script)?;
    Ok(script)
}

/// The status of `sys/health`: 200 active, 429 standby, 501 not initialised, 503 sealed.
/// Source: Vault's API documentation of `/sys/health`.
fn health(port: u16) -> Result<u16> {
    call(port, "GET", "sys/health", "", None, PROBE_MAX).map(|(status, _)| status)
}

fn call(
    port: u16,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
    longest: Duration,
) -> Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, answer) = ask(port, method, path, token, body.into_bytes(), longest)?;
    Ok((status, serde_json::from_slice(&answer).unwrap_or(Value::Null)))
}

fn ask(
    port: u16,
    method: &str,
    path: &str,
    token: &str,
    body: Vec<u8>,
    longest: Duration,
) -> Result<(u16, Vec<u8>)> {
    wait_for(async {
        let client = reqwest::Client::builder().no_proxy().timeout(longest).build()?;
        let url = format!("http://127.0.0.1:{port}/v1/{path}");
        let mut request = client.request(Method::from_bytes(method.as_bytes())?, url);
        if !token.is_empty() {
            request = request.header("X-Vault-Token", token);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = request.send().await.context("cannot reach Vault")?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.context("Vault's answer is cut short")?;
        Ok((status, bytes.to_vec()))
    })
}
