//! A real Vault with raft storage in a directory of its own: sealed, killed, paused and restarted
//! at will.
//!
//! **Invariant:** it dies with the test process, and is reaped before it is started again. All are
//! children of one thread that never ends, since the kernel's signal at a parent's death is tied to
//! the thread.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;

/// Longest wait for one answer to the administrator.
const ADMIN_WAIT: Duration = Duration::from_secs(30);

/// A Vault that was initialised and unsealed.
pub struct VaultServer {
    dir: TempDir,
    ports: [u16; 2],
    binary: PathBuf,
    child: Mutex<Option<Child>>,
    root: String,
    key: String,
}

impl VaultServer {
    /// Starts one. `None` where there is no Vault on this machine, which is said on standard error.
    ///
    /// # Panics
    /// When it does not start, and under `CI=true` when there is none.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(binary) = binary() else {
            use std::io::Write;
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
            assert!(!is_ci, "Vault is not on this machine");
            let said = "not run: Vault is not on this machine; name it in KEYBATON_VAULT";
            writeln!(std::io::stderr(), "{said}").expect("standard error is open");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("kb-vault").tempdir().expect("a directory");
        let ports = std::array::from_fn(|_| free_port());
        let (root, key) = (String::new(), String::new());
        let mut server = Self { dir, ports, binary, child: Mutex::new(None), root, key };
        server.write_config();
        server.launch();
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let (status, said) = server.nobody().ask("PUT", "sys/init", Some(init));
        assert_eq!(status, 200, "{said}");
        server.root = said["root_token"].as_str().expect("a token").to_owned();
        server.key = said["keys_base64"][0].as_str().expect("a key").to_owned();
        server.unseal();
        Some(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root
    }

    /// Speaks to it as that token.
    #[must_use]
    pub fn admin(&self) -> VaultCaller {
        self.caller(&self.root)
    }

    /// Speaks to it as another token.
    #[must_use]
    pub fn caller(&self, token: &str) -> VaultCaller {
        VaultCaller { address: self.address(), token: token.to_owned() }
    }

    fn nobody(&self) -> VaultCaller {
        self.caller("")
    }

    /// Unseals it and waits until it is active.
    ///
    /// # Panics
    /// When it stays sealed.
    pub fn unseal(&self) {
        let (status, said) =
            self.nobody().ask("PUT", "sys/unseal", Some(json!({ "key": self.key })));
        assert_eq!(status, 200, "{said}");
        self.wait_for("active", &[200]);
    }

    /// Seals it.
    ///
    /// # Panics
    /// When it does not.
    pub fn seal(&self) {
        let (status, said) = self.admin().ask("PUT", "sys/seal", None);
        assert_eq!(status, 204, "{said}");
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("whole").take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Starts it on the same directory and the same ports. It is sealed then.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&self) {
        self.kill();
        self.launch();
    }

    /// Stops it with SIGSTOP: connections are accepted by the kernel, and nobody answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().expect("whole");
        let pid = Pid::from_child(child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("sent");
    }

    fn write_config(&self) {
        let [port, cluster] = self.ports;
        let data = self.dir.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        let text = format!(
            "storage \"raft\" {{\n path = \"{}\"\n node_id = \"one\"\n}}\n\
             listener \"tcp\" {{\n address = \"127.0.0.1:{port}\"\n tls_disable = true\n}}\n\
             api_addr = \"http://127.0.0.1:{port}\"\n\
             cluster_addr = \"http://127.0.0.1:{cluster}\"\n\
             disable_mlock = true\n",
            data.display()
        );
        std::fs::write(self.dir.path().join("vault.hcl"), text).expect("written");
    }

    fn launch(&self) {
        let log = self.dir.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.binary)
            .args(["server", "-config"])
            .arg(self.dir.path().join("vault.hcl"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        *self.child.lock().expect("whole") = Some(spawn(command));
        self.wait_for("up", &[200, 501, 503]);
    }

    fn wait_for(&self, what: &str, statuses: &[u16]) {
        let begun = Instant::now();
        while !statuses.contains(&self.nobody().ask("GET", "sys/health", None).0) {
            let log = self.dir.path().join("log");
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "Vault is not {what}; it says:\n{}", said());
            std::thread::yield_now();
        }
    }
}

impl Drop for VaultServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody who speaks to a Vault.
pub struct VaultCaller {
    address: String,
    token: String,
}

impl VaultCaller {
    /// Asks and returns status and answer; status 0 when nobody answers. Blocks, on a thread of its
    /// own, so that asynchronous tests may call it.
    ///
    /// # Panics
    /// When a thread or a runtime cannot be made.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, bytes) = self.ask_bytes(method, path, body.map(|it| it.to_string().into()));
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Asks and returns status and body.
    ///
    /// # Panics
    /// When a thread or a runtime cannot be made.
    #[must_use]
    pub fn ask_bytes(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> (u16, Vec<u8>) {
        let url = format!("{}/v1/{path}", self.address);
        let token = self.token.clone();
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
                let client = client.timeout(ADMIN_WAIT).build();
                let mut request = client.expect("a client").request(method, url);
                if !token.is_empty() {
                    request = request.header("x-vault-token", token);
                }
                if let Some(body) = body {
                    request = request.body(body);
                }
                let Ok(response) = request.send().await else { return (0, Vec::new()) };
                let status = response.status().as_u16();
                (status, response.bytes().await.unwrap_or_default().to_vec())
            })
        });
        asked.join().expect("no panic")
    }

    /// Asks for something that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn must(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, said) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: status {status}: {said}");
        said
    }
}

/// `KEYBATON_VAULT`, or what was obtained for tests, or what a person installed.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KEYBATON_VAULT") {
        return Some(named.into());
    }
    let cache = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".cache/keybaton/servers/vault"))
        .into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|dir| dir.join("vault")).collect::<Vec<_>>();
    cache.chain(installed).find(|file| file.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Starts a command from the thread that never ends.
fn spawn(command: Command) -> Child {
    static PARENT: Mutex<Option<Sender<(Command, Sender<Child>)>>> = Mutex::new(None);
    let (answer, started) = channel();
    let mut parent = PARENT.lock().expect("whole");
    let orders = parent.get_or_insert_with(|| {
        let (sender, orders) = channel::<(Command, Sender<Child>)>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let child = command.spawn().expect("Vault and setpriv can be run");
                answer.send(child).expect("somebody waits");
            }
        });
        sender
    });
    orders.send((command, answer)).expect("the thread never ends");
    started.recv().expect("it was started")
}
