//! The real program with its journal in Redis: chosen by name, best effort by its own word, and whole
//! after Redis and the program were killed.

use anyhow::Result;
use keybaton_servers::{Redis, RedisConfig, unless_missing};
use keybaton_tests::harness::{Running, plain_run, start};
use serde_json::Value;
use tempfile::TempDir;

use crate::stores::demand_held;

/// The word of the journal's user; it is looked for where it must not be.
const WORD: &str = "canary-of-a-journal";

/// A Redis with the users that `keybaton redis acl --journal` prints, and a run on it.
struct Run {
    redis: Redis,
    word: String,
    dir: TempDir,
}

impl Run {
    fn open() -> Result<Self> {
        let redis = Redis::start(RedisConfig::default())?;
        let word = redis.server().home().write("word", WORD)?.display().to_string();
        let run = Self { redis, word, dir: tempfile::tempdir()? };
        run.make_users()?;
        Ok(run)
    }

    fn make_users(&self) -> Result<()> {
        let mut asked = vec!["redis", "acl", "--journal", "--password-file", &self.word];
        if self.redis.has_waitaof() {
            asked.push("--waitaof");
        }
        let printed = plain_run(asked);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(!printed.stdout.contains(WORD), "{printed:?}");
        assert_eq!(printed.stdout.lines().count(), 2, "{printed:?}");
        for line in printed.stdout.lines() {
            let rules: Vec<_> = line.split_whitespace().skip(1).collect();
            self.redis.command_as_admin(&[&["ACL", "SETUSER"], &rules[..]].concat())?;
        }
        self.redis.command_as_admin(&["ACL", "SAVE"]).map(drop)
    }

    fn data(&self) -> String {
        self.dir.path().join("d").display().to_string()
    }

    fn args(&self, accepted: &[&str]) -> Vec<String> {
        let (data, url) = (self.data(), format!("redis://127.0.0.1:{}/0", self.redis.port()));
        let fixed = ["demo", "--tasks", "24", "-o", "json", "--data-dir", &data, "--journal", &url];
        let user = ["--redis-journal-user", "keybaton-journal"];
        let word = ["--redis-journal-password-file", &self.word];
        let all = fixed.iter().chain(&user).chain(&word).chain(accepted);
        all.map(|&arg| arg.to_owned()).collect()
    }

    fn live(&self) -> Running {
        start(self.args(&["--accepted-loss", "failover"]))
    }

    /// What status says for programs, and for people.
    fn status(&self) -> (Value, String) {
        let shown = |more: &[&str]| {
            let data = self.data();
            plain_run(["status", "--data-dir", &data].iter().chain(more))
        };
        (shown(&["-o", "json"]).object(), shown(&[]).stdout)
    }
}

#[test]
fn a_journal_in_redis_is_taken_only_where_its_loss_is_accepted_and_survives_every_kill() {
    let Some(run) = unless_missing(Run::open()) else { return };
    let unaccepted = start(run.args(&[])).end();
    assert_eq!(unaccepted.code, Some(2), "{unaccepted:?}");
    for part in ["best effort", "may lose", "--accepted-loss failover"] {
        assert!(unaccepted.stderr.contains(part), "{unaccepted:?}");
    }

    let mut life = run.live();
    life.line(|line| line.contains("Draining")).expect("a phase");
    let running = run.status();
    run.redis.kill().expect("killed");
    run.redis.restart().expect("back on its data");
    life.line(|line| line.contains("Overlap")).expect("a phase");
    drop(life.kill());
    let killed = run.status();
    let ended = run.live().end();

    for ((status, text), is_running) in [(running, true), (killed, false)] {
        assert_eq!(status["running"], is_running, "{status}");
        let stores = &status["stores"];
        assert!(stores["journal"].as_str().is_some_and(|it| it.contains("Redis")), "{stores}");
        let loss = stores["journal_may_lose"].as_str().expect("what may be lost");
        assert!(loss.contains("best_effort") && loss.contains("failover"), "{stores}");
        assert!(text.contains("journal is best_effort: a failover of Redis may lose"), "{text}");
        assert!(text.contains("acme/openai"), "{text}");
    }
    demand_held("a journal in Redis", &ended);
    let records = run.redis.command_as_admin(&["HKEYS", "keybaton:pairs"]).expect("read");
    assert_eq!(records.lines().count(), 4, "{records}");
    let verified = plain_run(["audit", "verify", "--data-dir", &run.data()]);
    assert!(verified.stdout.contains("whole"), "{verified:?}");
    let kept = std::fs::read_to_string(run.dir.path().join("d/node/stores.json")).expect("kept");
    for said in [&ended.stdout, &ended.stderr, &kept] {
        assert!(!said.contains(WORD), "{said}");
    }
}
