//! Stores that are slow, full, sealed, killed or away in the middle of work: whoever has a key goes on
//! with it, whoever asks for one waits and is told why, and nothing is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keybaton::messages::Version;
use keybaton::postgres::PostgresSettings;
use keybaton::vault::MOUNT_DEFAULT;
use keybaton_servers::postgres::{ADMIN, DATABASE};
use keybaton_servers::{Postgres, Vault, unless_missing};
use keybaton_tests::harness::{
    Cue, Deed, PROVIDER, Place, Role, Running, Setup, World, plain_run, soon, start,
};
use serde_json::json;

use crate::stores::{Run, demand_held};

const ACME: &str = "acme";
const GLOBEX: &str = "globex";

/// How often a state that must come is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long an answer of a slow store takes.
const SLOWNESS: Duration = Duration::from_secs(5);

/// How long a store refuses: longer than every pause between two tries of the demo.
const REFUSING: Duration = Duration::from_secs(2);

/// What Postgres says on a full disk, to whoever writes a record, a step or a grant.
const FILL: &str =
    "create function keybaton.disk_full() returns trigger language plpgsql as $$ begin
        raise exception 'could not extend file: No space left on device' using errcode = '53100';
    end $$;
    create trigger disk_full before insert or update on keybaton.pair
        for each statement execute function keybaton.disk_full();
    create trigger disk_full before insert or update on keybaton.task_entry
        for each statement execute function keybaton.disk_full();
    create trigger disk_full before insert or update on keybaton.grant_row
        for each statement execute function keybaton.disk_full()";

const EMPTY: &str = "drop function keybaton.disk_full() cascade";

/// A world whose journal is in this Postgres.
async fn world_on(server: &Arc<Postgres>) -> World {
    let word = server.server().home().write("word", server.password()).expect("written");
    let its = Arc::clone(server);
    let stores = move |builder: keybaton::NodeBuilder| {
        let mut settings = PostgresSettings::new(its.url(ADMIN, DATABASE));
        settings.password_file = Some(word.clone());
        builder.postgres(settings)
    };
    World::with(Setup { stores: Some(Box::new(stores)), ..Setup::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_journal_is_away_tasks_keep_their_key_and_who_asks_first_is_told_why() {
    let Some(server) = unless_missing(Postgres::start()).map(Arc::new) else { return };
    let world = world_on(&server).await;
    world.provision(ACME).await;
    world.provision(GLOBEX).await;
    world.strings.hang("holder", 1, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Chat(5); 3]).keeping();
    let holder = world.spawn(ACME, "holder", role).await;
    world.strings.came("holder", 1, Place::Before).await;
    server.kill().expect("killed");

    // Of this pair the node has a grant already: the step in the middle goes on with its key, and
    // others get it as before.
    world.strings.release("holder", 1);
    world.strings.came("holder", 1, Place::After).await;
    let holds = world.node().holders(&world.pair(ACME), Version(1));
    assert_eq!(holds.len(), 1, "{holds:?}");
    let other = world.node().credential(ACME, PROVIDER, "other").expect("a handle");
    drop(soon("a key that is here", other.call()).await.expect("no question to the journal"));

    // Of this pair it has none, and nobody to ask for one.
    let first = world.node().credential(GLOBEX, PROVIDER, "somebody").expect("a handle");
    let asking = tokio::spawn(async move { first.call().await.map(drop) });
    let cell = world.node().shared().broker.cell(&world.pair(GLOBEX));
    let reason = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while !cell.why().contains("connect") {
            look.tick().await;
        }
    };
    soon("the reason", reason).await;
    assert!(!asking.is_finished(), "nobody has the key");

    server.restart().expect("back on its data");
    soon("the key", asking).await.expect("no panic").expect("it is there");
    let rotation = world.rotate(ACME).await;
    world.complete(&rotation).await;
    soon("the holder", holder.join()).await.expect("done");
    world.debts_paid(ACME).await;
    world.demand_held(&[ACME], |_| ()).await;
}

/// A Vault in which the demo's tenants have their policies, and the options to sign in by AppRole.
fn vault_by_approle() -> Result<(Vault, Vec<String>)> {
    let vault = Vault::start()?;
    vault.mount_kv(MOUNT_DEFAULT)?;
    let mut policies = Vec::new();
    for tenant in [ACME, GLOBEX, "initech", "umbrella"] {
        let printed = plain_run(["vault", "policy", "--tenant", tenant, "--role", "rotator"]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let (name, text) = (format!("rotator-{tenant}"), json!({ "policy": printed.stdout }));
        vault.request_as_root("PUT", &format!("sys/policies/acl/{name}"), Some(&text))?;
        policies.push(name);
    }
    let enable = json!({ "type": "approle" });
    vault.request_as_root("POST", "sys/auth/approle", Some(&enable))?;
    let (role, wish) = ("auth/approle/role/node", json!({ "token_policies": policies }));
    vault.request_as_root("POST", role, Some(&wish))?;
    let id = vault.request_as_root("GET", &format!("{role}/role-id"), None)?;
    let secret = vault.request_as_root("POST", &format!("{role}/secret-id"), None)?;
    let word = |said: &serde_json::Value, name: &str| {
        said["data"][name].as_str().map(str::to_owned).with_context(|| format!("no {name}"))
    };
    let file = vault.server().home().write("secret-id", &word(&secret, "secret_id")?)?;
    let mut options = vec!["--secrets".to_owned(), "vault".to_owned()];
    options.extend(["--vault-address".to_owned(), vault.address()]);
    options.extend(["--vault-role-id".to_owned(), word(&id, "role_id")?]);
    options.extend(["--vault-secret-id-file".to_owned(), file.display().to_string()]);
    Ok((vault, options))
}

/// Waits until the demo says this.
fn until(life: &mut Running, word: &str) {
    life.line(|line| line.contains(word)).unwrap_or_else(|| panic!("the demo says {word}"));
}

#[test]
fn a_rotation_outlasts_stores_that_are_sealed_full_killed_and_slow_one_after_the_other() {
    let Some((vault, by_approle)) = unless_missing(vault_by_approle()) else { return };
    let Some(run) = unless_missing(Run::open()) else { return };
    let journal = |sql: &str| run.postgres.query_as_admin_in("one", sql).expect("done");
    let redis =
        |max: &str| run.redis.command_as_admin(&["CONFIG", "SET", "maxmemory", max]).expect("done");
    let mut life = start(run.args("d", "one").into_iter().chain(by_approle));

    until(&mut life, "begins");
    vault.seal().expect("sealed");
    life.linger(Instant::now() + REFUSING);
    vault.unseal().expect("unsealed");

    until(&mut life, "Draining");
    vault.kill().expect("killed");
    journal(FILL);
    redis("1");
    life.linger(Instant::now() + REFUSING);
    redis("0");
    journal(EMPTY);
    vault.restart().expect("back on its data");
    vault.unseal().expect("unsealed");

    until(&mut life, "Overlap");
    run.postgres.pause().expect("paused");
    run.redis.pause().expect("paused");
    life.linger(Instant::now() + SLOWNESS);
    run.redis.resume().expect("resumed");
    run.postgres.resume().expect("resumed");
    demand_held("everything was away once", &life.end());
}
