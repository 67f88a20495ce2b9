//! No byte of a key is anywhere but in the secret store, in memory and on its way to the provider.
//!
//! Every secret that a provider hands out is remembered by a recorder on the way to the node.
//! Then everything that the node leaves behind is searched for every form of each: logs at TRACE,
//! panics, errors, debug prints, events, the data directory, exports, status, and what lies sealed
//! in the store, opened: records, audit, task journals, checkpoints.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use keybaton::{Class, Secret, read_status, verify_audit};
use keybaton_evidence::{Evidence, Mutant, budget, command};
use keybaton_ports::Entry;
use keybaton_tests::harness::{
    Cue, Deed, Find, HeardBus, Hunt, PROVIDER, Place, Puppet, Role, Setup, SimulatorProcess, World,
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
    // One that keeps its key while it rests is asked for it, and writes a checkpoint.
    let keeping = Role::of(vec![Deed::Chat(5); 2]).keeping().resting(600_000);
    let handle = world.spawn("acme", "sleeper", keeping).await;
    world.strings.came("sleeper", 0, Place::After).await;
    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;
    handle.cancel();
    if let Err(failure) = soon("the end", handle.join()).await {
        chain(said, &failure);
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

/// What lies sealed in the store, opened and printed: nothing of it may hold a key either. The
/// secrets themselves are the only thing that is left out.
async fn opened(world: &World, said: &mut String) {
    let ports = &world.node().shared().ports;
    for summary in ports.journal.pairs().await.expect("the pairs") {
        let pair = &summary.pair;
        let stored = ports.journal.load(pair).await.expect("a record");
        let audit = ports.journal.audit(pair, 0).await.expect("the audit");
        let outbox = ports.journal.outbox(pair).await.expect("the outbox");
        let listed = ports.secrets.list(pair).await.expect("what is beside the secrets");
        let witness = ports.secrets.witness(pair).await.expect("the witness");
        let _ = writeln!(said, "{stored:?}{audit:?}{outbox:?}{listed:?}{witness:?}");
    }
    let mut checkpoints = 0;
    for row in ports.tasks.list(None).await.expect("the tasks") {
        for entry in ports.tasks.entries(&row.key).await.expect("the entries") {
            let _ = writeln!(said, "{row:?}{entry:?}");
            let (Entry::Checkpoint { checkpoint: at, .. }
            | Entry::Result { checkpoint: Some(at), .. }) = entry
            else {
                continue;
            };
            let opened = ports.checkpoints.get(&row.key, &at).await.expect("a checkpoint");
            let text = String::from_utf8_lossy(&opened.state).into_owned();
            let _ = writeln!(said, "{opened:?}{text}");
            checkpoints += 1;
        }
    }
    assert!(checkpoints > 0, "a task has written a checkpoint");
}

/// Everything that was left behind, by place.
struct Trail {
    places: Vec<(&'static str, Vec<u8>)>,
    dir: tempfile::TempDir,
    secrets: Vec<Vec<u8>>,
}

impl Trail {
    fn hunt(&self) -> Hunt {
        Hunt::of(self.secrets.iter().map(Vec::as_slice))
    }

    fn finds(&self) -> Vec<Find> {
        let hunt = self.hunt();
        let places = self.places.iter();
        let mut finds: Vec<_> =
            places.flat_map(|(place, bytes)| hunt.search(place, bytes)).collect();
        finds.extend(hunt.search_dir(self.dir.path(), &[]));
        finds
    }

    fn bytes(&self) -> u64 {
        self.places.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + size(self.dir.path())
    }

    /// The same hunt with one key where none should be.
    fn planted(&mut self, place: &str) -> Mutant {
        let secret = self.secrets[0].clone();
        let (_, bytes) = self.places.iter_mut().find(|(name, _)| *name == place).expect("a place");
        let before = bytes.len();
        // In the middle, as one line among the others would stand.
        let _ = bytes.splice(before / 2..before / 2, secret.iter().copied()).count();
        let finds = self.finds();
        let (_, bytes) = self.places.iter_mut().find(|(name, _)| *name == place).expect("a place");
        bytes.drain(before / 2..before / 2 + secret.len());
        Mutant {
            name: format!("a key is put into what was collected from {place}"),
            refuted: finds.iter().any(|find| find.place.starts_with(place)),
            how: finds.first().map(|find| format!("{find:?}")).unwrap_or_default(),
        }
    }

    /// The same with a file.
    fn planted_file(&self) -> Mutant {
        let path = self.dir.path().join("node").join("planted");
        std::fs::write(&path, [&[0xff; 1000], &self.secrets[0][..], &[0; 10]].concat())
            .expect("written");
        let finds = self.finds();
        std::fs::remove_file(&path).expect("removed");
        Mutant {
            name: "a key is written into a file of the data directory".into(),
            refuted: finds.iter().any(|find| find.place.contains("planted")),
            how: finds.first().map(|find| format!("{find:?}")).unwrap_or_default(),
        }
    }
}

fn size(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { size(&path) } else { path.metadata().map_or(0, |it| it.len()) }
        })
        .sum()
}

/// Everything that can happen to a key, and what it left behind.
async fn lived(class: Class) -> Trail {
    let (paper, bus) = (Paper::default(), Arc::new(HeardBus::default()));
    let setup = Setup {
        class,
        log: Some(everything_to(&paper)),
        bus: Some(bus.clone()),
        ..Setup::default()
    };
    let mut world = World::with(setup).await;
    let panicked = panics();
    let mut said = String::new();
    live(&mut world, &mut said).await;
    refusals(&world, &mut said).await;
    let mut store = String::new();
    opened(&world, &mut store).await;
    let status = read_status(&world.node_dir(), None).await.expect("a status");
    let view = world.node().watch(&world.pair("acme")).borrow().clone();
    let _ = write!(said, "{status:?}{view:?}{:?}", world.node().tasks(None));
    said.push_str(&serde_json::to_string(&status).expect("JSON"));
    let secrets = world.secrets.clone();
    let (verdict, dir) = world.judged(&[], |_| ()).await;
    let audit = verify_audit(&dir.path().join("node"), None, None).await.expect("an audit");
    let _ = write!(said, "{verdict:?}{audit:?}");
    let heard = bus.heard();
    let events = format!("{heard:?}{}", serde_json::to_string(&heard).expect("JSON"));
    assert!(heard.len() > 4, "events of the rotations: {heard:?}");

    let secrets = secrets.lock().clone();
    assert!(secrets.len() >= 4, "two first keys, a bad one, new ones: {}", secrets.len());
    let log = paper.0.lock().clone();
    assert!(log.windows(5).any(|word| word == b"TRACE"), "the log is the whole log");
    let panics = panicked.0.lock().clone();
    assert!(!panics.is_empty(), "the panics were heard");
    let places = vec![
        ("the log at TRACE", log),
        ("panics", panics),
        ("errors, debug prints, status", said.into_bytes()),
        ("events", events.into_bytes()),
        ("the opened store", store.into_bytes()),
    ];
    Trail { places, dir, secrets }
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
async fn canary() {
    let began = Instant::now();
    let limit = budget(Duration::ZERO);
    let (mut bytes, mut keys, mut finds, mut mutants) = (0, 0, Vec::new(), Vec::new());
    // Once for each class of provider, and again for as long as there is time.
    for class in [Class::A, Class::B].into_iter().cycle() {
        let mut trail = lived(class).await;
        bytes += trail.bytes();
        keys += trail.secrets.len();
        finds.extend(trail.finds());
        if mutants.is_empty() {
            prove_the_hunt(&trail.hunt(), &trail.secrets[0], trail.dir.path());
            let places: Vec<_> = trail.places.iter().map(|(place, _)| *place).collect();
            mutants.extend(places.into_iter().map(|place| trail.planted(place)));
            mutants.push(trail.planted_file());
        }
        if class == Class::B && began.elapsed() >= limit {
            break;
        }
    }
    Evidence {
        claim: "canary".into(),
        statement:
            "no piece of a key is in a file, a log at TRACE, a panic, an error, an event, a \
                    debug print, the journals or a checkpoint"
                .into(),
        method: "every key of a run is searched for in all its forms, in all that is left behind"
            .into(),
        cases: bytes,
        unit: "bytes searched".into(),
        seconds: began.elapsed().as_secs_f64(),
        holds: finds.is_empty(),
        counterexample: if finds.is_empty() { String::new() } else { format!("{finds:#?}") },
        mutants,
        command: command("cargo test -p keybaton-tests --test scenarios canary"),
        notes: vec![
            format!(
                "{keys} keys: as they are, backwards, hexadecimal, base64, as numbers; in pieces \
                 of eight bytes, so that a stretch of fewer than fifteen may pass"
            ),
            "types that hold a secret have no Debug, Display, Clone or Serialize: the compiler \
             checks it in tests/scenarios/secret_types.rs"
                .into(),
        ],
        series: Vec::new(),
    }
    .demand();
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
