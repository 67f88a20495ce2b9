//! Redis and Valkey, killed, paused and restarted.

use std::time::Duration;

use keybaton_servers::program::Kind;
use keybaton_servers::redis::{Flavour, RedisConfig};
use keybaton_servers::{Redis, unless_missing};

/// How long a paused server must say nothing. It answers within a millisecond otherwise.
const SILENCE: Duration = Duration::from_millis(300);

fn of(flavour: Flavour) -> RedisConfig {
    RedisConfig { flavour, ..RedisConfig::default() }
}

#[test]
fn what_redis_acknowledged_survives_a_kill() {
    acknowledged_survives(Flavour::Redis, Kind::Redis);
}

#[test]
fn what_valkey_acknowledged_survives_a_kill() {
    acknowledged_survives(Flavour::Valkey, Kind::Valkey);
}

fn acknowledged_survives(flavour: Flavour, kind: Kind) {
    let Some(redis) = unless_missing(Redis::start(of(flavour))) else { return };
    assert_eq!(redis.kind(), kind);
    let port = redis.port();
    for number in 0..50 {
        let number = number.to_string();
        redis.command_as_admin(&["XADD", "kb.t1", "*", "n", &number]).expect("added");
    }
    redis.kill().expect("killed");
    assert!(redis.command_as_admin(&["PING"]).is_err(), "nobody is there");
    redis.restart().expect("restarted");
    assert_eq!(redis.command_as_admin(&["XLEN", "kb.t1"]).expect("counted"), "50");
    assert_eq!(redis.port(), port);
}

#[test]
fn what_is_not_durable_is_gone_after_a_kill() {
    let config = RedisConfig { is_durable: false, ..RedisConfig::default() };
    let Some(redis) = unless_missing(Redis::start(config)) else { return };
    redis.command_as_admin(&["SET", "a", "b"]).expect("set");
    assert_eq!(redis.command_as_admin(&["GET", "a"]).expect("read"), "b");
    redis.restart().expect("restarted");
    assert_eq!(redis.command_as_admin(&["GET", "a"]).expect("read"), "");
}

#[tokio::test]
async fn while_it_is_paused_clients_hang() {
    let Some(redis) = unless_missing(Redis::start(RedisConfig::default())) else { return };
    let password = std::fs::read_to_string(redis.admin_password_file()).expect("there");
    let info: redis::ConnectionInfo = redis.url().parse().expect("a url of Redis");
    let login = info.redis_settings().clone().set_password(password);
    let client = redis::Client::open(info.set_redis_settings(login)).expect("well formed");
    let mut open = client.get_multiplexed_async_connection().await.expect("connected");
    redis.pause().expect("paused");
    let ask = async {
        let answer: String = redis::cmd("PING").query_async(&mut open).await.expect("answered");
        answer
    };
    let mut answer = std::pin::pin!(ask);
    assert!(tokio::time::timeout(SILENCE, &mut answer).await.is_err(), "it hangs");
    redis.resume().expect("resumed");
    assert_eq!(answer.await, "PONG");
}

#[test]
fn a_user_may_do_what_its_line_says_and_nobody_else_anything() {
    let users = vec!["user t1 on >word ~kb.t1 -@all +get".to_owned()];
    let config = RedisConfig { users, ..RedisConfig::default() };
    let Some(redis) = unless_missing(Redis::start(config)) else { return };
    assert_eq!(redis.command("t1", "word", &["GET", "kb.t1"]).expect("read"), "");
    let refused = |user, password, words: &[&str]| {
        format!("{:#}", redis.command(user, password, words).expect_err("refused"))
    };
    let expect = |user, password, words: &[&str], why: &str| {
        let text = refused(user, password, words);
        assert!(text.contains(why), "{text}");
    };
    expect("t1", "word", &["GET", "kb.t2"], "NOPERM");
    expect("t1", "word", &["SET", "kb.t1", "x"], "NOPERM");
    expect("t1", "wrong", &["GET", "kb.t1"], "AuthenticationFailed");
    expect("default", "", &["PING"], "AuthenticationFailed");
}

#[test]
fn valkey_can_wait_for_its_append_only_file() {
    let Some(valkey) = unless_missing(Redis::start(of(Flavour::Valkey))) else { return };
    valkey.command_as_admin(&["SET", "a", "b"]).expect("set");
    let answer = valkey.command_as_admin(&["WAITAOF", "0", "0", "1000"]).expect("known");
    assert_eq!(answer.lines().count(), 2, "{answer}");
}
