//! The real program on stores that were chosen: real servers, their deaths, and what is refused.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use keybaton_adapters::buses::RedisUser;
use keybaton_ports::Secret;
use keybaton_servers::program::{CACHE, Kind, on_path};
use keybaton_servers::{Missing, Postgres, Redis, RedisConfig, unless_missing};
use keybaton_tests::harness::{Ended, Running, keybaton, plain_run, start, start_as};
use serde_json::Value;
use tempfile::TempDir;

const AGENTS: &str = "24";

/// The words of the users; each is looked for where it must not be.
const POSTGRES_WORD: &str = "canary-of-postgres";
const REDIS_WORD: &str = "canary-of-redis";

const USER: &str = "keybaton_node";

pub fn demand_held(name: &str, ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
    let verdict = ended.object();
    assert_eq!(verdict["verdict"], "held", "{name}: {ended:?}");
    assert_eq!(verdict["tasks"], 24, "{name}");
    assert_eq!(verdict["old_key_dead"], true, "{name}");
    for none in ["tasks_dropped", "steps_lost", "steps_doubled", "other_tenants_touched"] {
        assert_eq!(verdict[none], 0, "{name}: {none}: {ended:?}");
    }
    verdict
}

/// What a program that did not start said.
fn refused<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    let ended = plain_run(args);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    ended.stderr
}

/// A Postgres and a Redis with the rights that the pages of `docs/howto` give, and a run on them.
pub struct Run {
    pub postgres: Postgres,
    pub redis: Redis,
    postgres_word: String,
    redis_word: String,
    dir: TempDir,
}

impl Run {
    pub fn open() -> Result<Self> {
        let postgres = Postgres::start()?;
        let make = format!("create role {USER} login createrole password '{POSTGRES_WORD}'");
        postgres.query_as_admin(&make)?;
        let word = Secret::new(REDIS_WORD.as_bytes().to_vec())?;
        let users = vec![RedisUser::Node.acl_line(Some(&word))];
        let redis = Redis::start(RedisConfig { users, ..RedisConfig::default() })?;
        let shown = |path: PathBuf| path.display().to_string();
        let postgres_word = shown(postgres.server().home().write("word", POSTGRES_WORD)?);
        let redis_word = shown(redis.server().home().write("word", REDIS_WORD)?);
        let run = Self { postgres, redis, postgres_word, redis_word, dir: tempfile::tempdir()? };
        run.make_database("one")?;
        Ok(run)
    }

    fn make_database(&self, name: &str) -> Result<()> {
        self.postgres.query_as_admin(&format!("create database {name} owner {USER}")).map(drop)
    }

    fn data(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn args(&self, data: &str, database: &str) -> Vec<String> {
        let mut args: Vec<String> =
            ["demo", "--tasks", AGENTS, "-o", "json", "--data-dir"].map(str::to_owned).to_vec();
        args.push(self.data(data));
        args.extend(["--journal".into(), self.postgres.url(USER, database)]);
        args.extend(["--postgres-password-file".into(), self.postgres_word.clone()]);
        args.extend(["--bus".into(), format!("redis://127.0.0.1:{}/0", self.redis.port())]);
        args.extend(["--redis-user".into(), RedisUser::Node.name()]);
        args.extend(["--redis-password-file".into(), self.redis_word.clone()]);
        args
    }

    fn live(&self) -> Running {
        start(self.args("d", "one"))
    }

    fn status(&self) -> Value {
        plain_run(["status", "--data-dir", &self.data("d"), "-o", "json"]).object()
    }
}

#[test]
fn a_demo_on_postgres_and_redis_is_killed_and_goes_on_and_status_explains_it_each_time() {
    let Some(run) = unless_missing(Run::open()) else { return };
    let mut life = run.live();
    life.line(|line| line.contains("Draining")).expect("a phase");
    let running = run.status();
    drop(life.kill());
    let killed = run.status();
    let mut life = run.live();
    life.line(|line| line.contains("Overlap")).expect("a phase");
    drop(life.kill());
    let ended = run.live().end();

    assert_eq!((&running["running"], &killed["running"]), (&true.into(), &false.into()));
    for status in [&running, &killed] {
        let stores = &status["stores"];
        let journal = stores["journal"].as_str().expect("a word");
        assert!(journal.contains("Postgres") && journal.contains("/one"), "{stores}");
        assert!(stores["bus"].as_str().is_some_and(|bus| bus.contains("Redis")), "{stores}");
        let pairs = status["pairs"].as_array().expect("a list");
        let acme = pairs.iter().find(|pair| pair["pair"] == "acme/openai").expect("a pair");
        assert_eq!(acme["rotation"], "acme/openai#2", "{acme}");
    }
    assert!(killed["tasks"]["running"].as_u64() > Some(0), "{killed}");
    let verdict = demand_held("killed twice", &ended);
    assert!(ended.stderr.contains("going on with"), "{ended:?}");
    assert_eq!(verdict["live_keys"]["expected"], verdict["live_keys"]["found"]);
    // The stores were used: the records are in one, the events of the rotation in the other.
    let count = "select count(*) from keybaton.pair";
    let pairs = run.postgres.query_as_admin_in("one", count).expect("counted");
    assert_eq!(pairs, [[Some("4".to_owned())]]);
    let told = run.redis.command_as_admin(&["XRANGE", "kb.acme", "-", "+"]).expect("read");
    for event in ["rotation.new_key_ready", "rotation.drain_complete"] {
        assert!(told.contains(event), "{event} in {told}");
    }
    let verified = plain_run(["audit", "verify", "--data-dir", &run.data("d")]);
    assert!(verified.stdout.contains("whole"), "{verified:?}");
    demand_no_word_in(&run, &ended);
}

#[test]
fn postgres_and_redis_are_killed_in_the_middle_of_a_rotation_and_come_back() {
    let Some(run) = unless_missing(Run::open()) else { return };
    let mut life = run.live();
    life.line(|line| line.contains("Draining")).expect("a phase");
    run.redis.kill().expect("killed");
    run.postgres.kill().expect("killed");
    run.postgres.restart().expect("back on its data");
    run.redis.restart().expect("back on its data");
    demand_held("both servers were killed", &life.end());
}

/// Neither what the program said nor what it kept in its directory holds a password.
fn demand_no_word_in(run: &Run, ended: &Ended) {
    for word in [POSTGRES_WORD, REDIS_WORD] {
        assert!(!ended.stderr.contains(word) && !ended.stdout.contains(word), "{ended:?}");
        let found = Command::new("grep").args(["-rlF", word]).arg(run.dir.path()).output();
        let found = found.expect("grep runs");
        assert!(found.stdout.is_empty(), "{word}: {}", String::from_utf8_lossy(&found.stdout));
    }
}

#[test]
fn a_directory_stays_with_its_journal_and_a_journal_with_one_process() {
    let Some(run) = unless_missing(Run::open()) else { return };
    run.make_database("two").expect("made");
    let mut life = run.live();
    life.line(|line| line.contains("begins")).expect("the rotation");

    // Another run on the database of this one: its master key is another.
    let other = plain_run(run.args("e", "one"));
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains("another run's journal"), "{other:?}");
    demand_held("the first one", &life.end());

    let embedded = refused(["demo", "--tasks", AGENTS, "--data-dir", &run.data("d")]);
    assert!(embedded.contains("the journal of") && embedded.contains("same stores"), "{embedded}");
    let moved = plain_run(run.args("d", "two"));
    assert_eq!(moved.code, Some(2), "{moved:?}");
    assert!(moved.stderr.contains("not another one"), "{moved:?}");

    let master_key = "5a".repeat(32);
    let with_key = [("KEYBATON_MASTER_KEY", master_key.as_str())];
    run.make_database("three").expect("made");
    let mut first = start_as(keybaton(), &with_key, run.args("f", "three"));
    first.line(|line| line.contains("begins")).expect("the rotation");
    let second = start_as(keybaton(), &with_key, run.args("g", "three")).end();
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains("another keybaton process works on"), "{second:?}");
    demand_held("the one that had the journal", &first.end());
    let third = start_as(keybaton(), &with_key, run.args("h", "three")).end();
    assert_eq!(third.code, Some(2), "{third:?}");
    assert!(third.stderr.contains("whose secrets are kept elsewhere"), "{third:?}");
}

#[test]
fn a_store_that_cannot_be_used_is_a_clear_error_at_the_start() {
    let Some(run) = unless_missing(Run::open()) else { return };
    let with = |name: &str, value: &str| {
        let mut args = run.args("d", "one");
        let place = args.iter().position(|arg| arg == name).expect("an option");
        value.clone_into(&mut args[place + 1]);
        let ended = plain_run(args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        ended.stderr
    };
    let wrong = with("--postgres-password-file", &run.redis_word);
    assert!(wrong.contains("refuses to let us in") && wrong.contains("password file"), "{wrong}");
    let wrong = with("--redis-password-file", &run.postgres_word);
    assert!(wrong.contains("events cannot be told"), "{wrong}");
    run.postgres.stop().expect("stopped");
    let away = with("--redis-user", "keybaton");
    assert!(away.contains("not available") && away.contains("check that it runs"), "{away}");
}

#[test]
fn an_address_with_a_password_is_refused_and_not_repeated() {
    let cases = [
        ["--journal", "postgres://u:canary@localhost/db", "password file"],
        ["--journal", "postgres://u@localhost/db?password=canary", "password file"],
        ["--journal", "mysql://u:canary@localhost/db", "--journal takes"],
        ["--bus", "redis://:canary@localhost:6379/0", "must not hold a user or a password"],
        ["--bus", "canary", "redis://host:port/db"],
        ["--secrets", "https://u:canary@vault:8200", "--secrets takes"],
    ];
    for [option, address, remedy] in cases {
        let said = refused(["demo", "--tasks", AGENTS, option, address]);
        assert!(said.contains(remedy), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let address = "https://u:canary@vault:8200";
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token").display().to_string();
    let vault = ["--secrets", "vault", "--vault-token-file", &token, "--vault-address", address];
    let said = refused(["demo", "--tasks", AGENTS].into_iter().chain(vault));
    assert!(said.contains("holds a user or a password") && !said.contains("canary"), "{said}");
}

#[test]
fn a_server_that_is_not_here_is_named_with_what_to_install() {
    let bare = tempfile::tempdir().expect("a directory");
    if let Some(setpriv) = on_path("setpriv") {
        std::os::unix::fs::symlink(setpriv, bare.path().join("setpriv")).expect("a link");
    }
    let bare = bare.path().display().to_string();
    let variables = [("PATH", bare.as_str()), (CACHE, bare.as_str())];
    let args = ["demo", "--servers", "start", "--journal", "redb"];
    let ended = start_as(keybaton(), &variables, args).end();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let last = ended.stderr.lines().last().expect("a line");
    for part in
        ["Vault is not on this machine", "Redis is not", "cargo xtask servers", "--bus local"]
    {
        assert!(last.contains(part), "{part} in {last}");
    }
}

fn find(kinds: &[Kind]) -> Result<(), Missing> {
    kinds.iter().try_for_each(|kind| kind.find().map(drop).ok_or_else(|| kind.missing()))
}

/// Runs the demo on servers that it starts, and returns the stores that it says it used.
fn on_started(choice: &[&str]) -> [String; 3] {
    let started = ["demo", "--servers", "start", "--tasks", AGENTS, "-o", "json"];
    let ended = start(started.iter().chain(choice)).end();
    let verdict = demand_held(&choice.join(" "), &ended);
    ["journal", "secrets", "bus"].map(|store| {
        let said = verdict["stores"][store].as_str().unwrap_or_default();
        said.split([',', ' ']).next().unwrap_or_default().to_owned()
    })
}

/// Every choice of stores has its verdict in the matrix of the crash points.
#[test]
fn the_demo_starts_the_servers_that_it_works_on() {
    let there = find(&[Kind::Vault, Kind::Postgres, Kind::Redis]).map_err(Into::into);
    let Some(()) = unless_missing(there) else { return };
    assert_eq!(on_started(&[]), ["Postgres", "Vault", "Redis"]);
    let in_redis = ["--journal", "redis", "--accepted-loss", "failover", "--secrets", "embedded"];
    assert_eq!(on_started(&in_redis), ["Redis", "embedded", "Redis"]);
}
