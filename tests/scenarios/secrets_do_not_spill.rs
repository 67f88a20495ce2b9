//! No byte of a key is anywhere but in the secret store, in memory and on its way to the provider.
//!
//! Every secret that a provider hands out is remembered by a recorder on the way to the node.
//! Then everything that the node leaves behind is searched for every form of each: logs at TRACE,
//! panics, errors, debug prints, the data directory, exports, status.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use keybaton::{Class, Secret, read_status, verify_audit};
use keybaton_tests::harness::{
    Cue, Deed, Find, Hunt, PROVIDER, Place, Puppet, Role, Setup, SimulatorProcess, World,
    plain_run, soon,
};
use parking_lot::Mutex;

/// Everything that was written to it, for the search.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Logs everything, from every crate, as a line of JSON with all spans.
fn everything_to(paper: &Paper) -> tracing::Dispatch {
    let paper = paper.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .json()
        .with_writer(move || paper.clone())
        .finish();
    tracing::Dispatch::new(subscriber)
}

/// What every panic of this process said, whichever test it belongs to.
fn panics() -> &'static Paper {
    static SAID: OnceLock<Paper> = OnceLock::new();
    SAID.get_or_init(|| {
        let said = Paper::default();
        let (before, paper) = (std::panic::take_hook(), said.clone());
        std::panic::set_hook(Box::new(move |panic| {
            paper.0.lock().extend_from_slice(panic.to_string().as_bytes());
            before(panic);
        }));
        said
    })
}

/// An error with everything behind it, for people and for programmers.
fn chain(said: &mut String, error: &(dyn std::error::Error + 'static)) {
    // Writing to a String cannot fail.
    let _ = write!(said, "{error:?}\n{error}\n");
    let mut source = error.source();
    while let Some(error) = source {
        let _ = writeln!(said, "{error:?}\n{error}");
        source = error.source();
    }
}

/// Agents at work, a key kept across a panic, faults at the provider, a leaked key, a crash.
async fn live(world: &mut World, said: &mut String) {
    for tenant in ["acme", "globex"] {
        world.provision(tenant).await;
    }
    let mut handles = Vec::new();
    for number in 0..6 {
        let tenant = if number % 3 == 2 { "globex" } else { "acme" };
        handles.push(world.spawn(tenant, &format!("agent-{number}"), Role::mixed(number, 5)).await);
    }
    world.strings.hang("keeper", 1, Place::After, Cue::Panic);
    let keeper = Role::of(vec![Deed::Chat(5); 6]).keeping().resting(30);
    handles.push(world.spawn("acme", "keeper", keeper).await);
    world.strings.came("keeper", 0, Place::After).await;
    world.arm("issue@acme:1=bad-key");
    world.arm("issue@acme:2=foreign-key");
    world.arm("issue@acme:3=truncated");
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    world.crash().await;
    world.start().await;
    let asked = world.node().emergency("acme", PROVIDER, "it has leaked", None);
    let rotation = soon("an emergency", asked).await.expect("accepted");
    world.complete(&rotation).await;
    for handle in handles {
        let (tenant, task) = (handle.key().tenant.as_str(), handle.key().task.as_str());
        // One that ended before the crash is not followed any more.
        let Some(again) = world.node().task::<Puppet>(tenant, task) else {
            continue;
        };
        // An emergency may cost a task its tries; whatever it says is searched.
        if let Err(failure) = soon("an agent", again.join()).await {
            chain(said, &failure);
        }
    }
    world.debts_paid("acme").await;
}

/// Everything that goes wrong at the front door, with a key in hand.
async fn refusals(world: &World, said: &mut String) {
    let known = world.secrets.lock().first().cloned().expect("a key");
    let text = String::from_utf8(known.clone()).expect("keys are text");
    // A key where a name belongs is refused, and not repeated at length.
    let secret = || Secret::new(known.clone()).map_err(|refusal| refusal.to_string());
    let refused = world.node().import("nobody-here", "nowhere", "k", secret().expect("a key"));
    chain(said, &refused.await.expect_err("an unknown provider"));
    let refused = world.node().import("acme", PROVIDER, "acme/agents/k", secret().expect("a key"));
    if let Err(error) = refused.await {
        chain(said, &error);
    }
    world.debts_paid("acme").await;
    assert!(Secret::new(text.into_bytes()).is_ok(), "it is a key all the same");
}

fn demand_clean(finds: &[Find]) {
    assert!(finds.is_empty(), "spilled: {finds:#?}");
}

async fn nothing_spills(class: Class) {
    let paper = Paper::default();
    let mut world =
        World::with(Setup { class, log: Some(everything_to(&paper)), ..Setup::default() }).await;
    let panicked = panics();
    let mut said = String::new();
    live(&mut world, &mut said).await;
    refusals(&world, &mut said).await;
    let status = read_status(&world.node_dir(), None).await.expect("a status");
    let view = world.node().watch(&world.pair("acme")).borrow().clone();
    let _ = write!(said, "{status:?}{view:?}{:?}", world.node().tasks(None));
    said.push_str(&serde_json::to_string(&status).expect("JSON"));
    let secrets = world.secrets.clone();
    let (verdict, dir) = world.judged(&[], |_| ()).await;
    let audit = verify_audit(&dir.path().join("node"), None, None).await.expect("an audit");
    let _ = write!(said, "{verdict:?}{audit:?}");

    let secrets = secrets.lock();
    assert!(secrets.len() >= 4, "two first keys, a bad one, new ones: {}", secrets.len());
    let hunt = Hunt::of(secrets.iter().map(Vec::as_slice));
    let log = paper.0.lock();
    assert!(log.windows(5).any(|word| word == b"TRACE"), "the log is the whole log");
    demand_clean(&hunt.search("the log at TRACE", &log));
    demand_clean(&hunt.search("panics", &panicked.0.lock()));
    demand_clean(&hunt.search("errors, debug prints, status", said.as_bytes()));
    demand_clean(&hunt.search_dir(dir.path(), &[]));
    prove_the_hunt(&hunt, &secrets[0], dir.path());
}

/// The same search, with a key where none should be: it must be found, or the rest proves nothing.
fn prove_the_hunt(hunt: &Hunt, secret: &[u8], dir: &std::path::Path) {
    let text = std::str::from_utf8(secret).expect("keys are text");
    let random = text.rsplit('-').next().expect("a last part");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let planted = [
        ("as it is", format!("authorization: Bearer {text}\r\n")),
        ("as it is", format!("{{\"key\":\"{}\"}}", &random[10..30])),
        ("as a list of numbers", format!("{secret:?}")),
        ("hexadecimal", hex.clone()),
        ("hexadecimal", hex.to_uppercase()),
        ("backwards", random.chars().rev().collect()),
    ];
    for (form, spill) in planted {
        let finds = hunt.search("planted", spill.as_bytes());
        assert!(finds.iter().any(|find| find.form == form), "{form} is not found");
    }
    for before in ["", "a", "ab"] {
        let encoded = data_encoding::BASE64.encode(format!("{before}{text}").as_bytes());
        assert!(!hunt.search("planted", encoded.as_bytes()).is_empty(), "base64 is not found");
    }
    let deep = dir.join("node").join("planted");
    std::fs::write(&deep, [&[0xff; 1000], secret, &[0; 10]].concat()).expect("written");
    assert!(!hunt.search_dir(dir, &[]).is_empty(), "a file is not found");
    assert!(hunt.search_dir(dir, &["planted"]).is_empty(), "and only that file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_found_anywhere_under_class_a() {
    nothing_spills(Class::A).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_found_anywhere_under_class_b() {
    nothing_spills(Class::B).await;
}

#[test]
fn the_program_prints_no_key_even_when_it_logs_everything() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let simulator = SimulatorProcess::start(&dir.path().join("provider"), &[]);
    let data = dir.path().join("demo").display().to_string();
    let provider = simulator.dir().display().to_string();
    let common = ["demo", "--log", "trace", "--tasks", "12", "-o", "json", "--fault", "bad-key"];
    let places = ["--data-dir", &data, "--simulator", simulator.url()];
    let rest = ["--simulator-dir", provider.as_str()];
    let ended = plain_run(common.iter().chain(&places).chain(&rest));
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stderr.contains("TRACE"), "the log is the whole log");

    // What the simulator's keys begin with, and the key to its administration.
    let hunt = Hunt::of_beginnings(&["sk-svcacct-", "sk-bad-", "sk-admin-simulator"]);
    demand_clean(&hunt.search("standard error", ended.stderr.as_bytes()));
    demand_clean(&hunt.search("standard output", ended.stdout.as_bytes()));
    demand_clean(&hunt.search_dir(dir.path(), &[]));
    let spilled = format!("{}key=sk-svcacct-abc", ended.stderr);
    assert_eq!(hunt.search("planted", spilled.as_bytes()).len(), 1);
}
