//! The demo is killed with SIGKILL at every phase of its rotation and started again on its
//! directory: the rotation and the agents go on to the same verdict.
//!
//! Each case is two or three lives of the real program against a simulator in a process of its
//! own. Stalls at the provider hold the phases open that would be over before the kill.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use keybaton_tests::harness::{Ended, Running, SimulatorProcess, plain_run, start};
use tempfile::TempDir;

/// Cases at the same time; each is two processes that mostly wait.
const AT_ONCE: usize = 4;

const AGENTS: &str = "24";

/// When a life is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// When it has said this.
    Says(&'static str),
    /// So many milliseconds after the rotation began.
    After(u64),
}

/// One case: who is killed when, and then started again.
struct Case {
    kills: &'static [When],
    simulator: &'static [&'static str],
    demo: &'static [&'static str],
}

const fn case(kills: &'static [When]) -> Case {
    Case { kills, simulator: &[], demo: &[] }
}

/// Holds Issuing, Verifying and Revoking of the rotation open: the provider thinks for a while.
/// The first issue and the first probe are those of the first key.
const SLOW: &[&str] = &[
    "--fault",
    "issue@acme:2=stall:1500",
    "--fault",
    "probe@acme:2=stall:1500",
    "--fault",
    "revoke@acme:1=stall:1500",
];

const SLOW_B: &[&str] =
    &["--class", "b", "--fault", "issue@acme:2=stall:1500", "--fault", "probe@acme:2=stall:1500"];

const CLASS_B: &[&str] = &["--provider-class", "b"];

/// One run of the demo in a directory of its own.
struct Run {
    dir: TempDir,
    simulator: SimulatorProcess,
    args: &'static [&'static str],
}

impl Run {
    fn open(simulator: &[&str], args: &'static [&'static str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let simulator = SimulatorProcess::start(&dir.path().join("provider"), simulator);
        Self { dir, simulator, args }
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("demo")
    }

    fn live(&self) -> Running {
        let data = self.data().display().to_string();
        let provider = self.simulator.dir().display().to_string();
        let mut args = vec!["demo", "--data-dir", &data, "--tasks", AGENTS, "-o", "json"];
        args.extend(["--simulator", self.simulator.url()]);
        args.extend(["--simulator-dir", &provider]);
        args.extend(self.args);
        start(args)
    }

    fn status(&self) -> serde_json::Value {
        let data = self.data().display().to_string();
        let asked = plain_run(["status", "--data-dir", &data, "-o", "json"]);
        assert_eq!(asked.code, Some(0), "{asked:?}");
        asked.object()
    }
}

fn demand_held(name: &str, ended: &Ended) -> serde_json::Value {
    assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
    let verdict = ended.object();
    assert_eq!(verdict["verdict"], "held", "{name}: {ended:?}");
    assert_eq!(verdict["tasks"], 24, "{name}");
    assert_eq!(verdict["old_key_dead"], true, "{name}");
    for none in ["tasks_dropped", "steps_lost", "steps_doubled", "other_tenants_touched"] {
        assert_eq!(verdict[none], 0, "{name}: {none}: {ended:?}");
    }
    let live = &verdict["live_keys"];
    assert_eq!(live["expected"], live["found"], "{name}");
    verdict
}

fn wait_for(life: &mut Running, when: When) {
    match when {
        When::Says(what) => {
            // A life that resumed behind this point ends without having said it.
            life.line(|line| line.contains(what));
        }
        When::After(millis) => {
            life.line(|line| line.contains("begins"));
            life.linger(Instant::now() + Duration::from_millis(millis));
        }
    }
}

fn survives(case: &Case) {
    let name = format!("{:?} {:?}", case.kills, case.demo);
    // Says which case it was when a wait below fails.
    let _said = Said(&name);
    let run = Run::open(case.simulator, case.demo);
    for (number, kill) in case.kills.iter().enumerate() {
        let mut life = run.live();
        wait_for(&mut life, *kill);
        let killed = life.kill();
        if number == 0 {
            assert_eq!(killed.code, None, "{name}: it ended before it was killed: {killed:?}");
        }
    }
    let ended = run.live().end();
    assert!(ended.stderr.contains("going on with"), "{name}: the run is continued: {ended:?}");
    demand_held(&name, &ended);
}

/// Names the case that failed on the way out.
struct Said<'a>(&'a str);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody listens to a standard error that is closed.
            let _ = writeln!(std::io::stderr(), "case {}", self.0);
        }
    }
}

fn all_survive(cases: impl IntoIterator<Item = Case>) {
    let queue: Mutex<VecDeque<Case>> = Mutex::new(cases.into_iter().collect());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let next = || queue.lock().expect("no case panics here").pop_front();
                while let Some(case) = next() {
                    survives(&case);
                }
            });
        }
    });
}

#[test]
fn a_class_a_rotation_survives_a_kill_at_every_phase() {
    use When::{After, Says};
    let slow = |kills| Case { simulator: SLOW, ..case(kills) };
    all_survive([
        case(&[Says("starting")]),
        case(&[Says("Queued")]),
        case(&[Says("Preflight")]),
        slow(&[Says("Issuing")]),
        slow(&[Says("Verifying")]),
        case(&[Says("Draining")]),
        case(&[Says("Overlap")]),
        slow(&[Says("Revoking")]),
        case(&[Says("Complete")]),
        case(&[After(900)]),
        // The one who recovers is killed as well.
        slow(&[Says("Issuing"), Says("Draining"), Says("Overlap")]),
        // The answer with the new key is lost, and then the process that looks for it.
        Case { demo: &["--fault", "ack-lost"], ..case(&[Says("Locating")]) },
    ]);
}

#[test]
fn a_class_b_rotation_and_an_emergency_survive_a_kill() {
    use When::{After, Says};
    let class_b = |kills| Case { kills, simulator: SLOW_B, demo: CLASS_B };
    all_survive([
        class_b(&[Says("Emptying")]),
        class_b(&[Says("Issuing")]),
        class_b(&[Says("Verifying")]),
        class_b(&[After(300), Says("Settling")]),
        Case { demo: &["--emergency"], ..case(&[Says("Checkpointing")]) },
        Case { simulator: SLOW, demo: &["--emergency"], ..case(&[Says("Verifying")]) },
    ]);
}

#[test]
fn the_provider_is_killed_too_and_comes_back_on_its_ledger() {
    let mut run = Run::open(&[], &[]);
    let mut life = run.live();
    life.line(|line| line.contains("Overlap")).expect("a phase");

    run.simulator.kill_and_start_again();

    let ended = life.end();
    demand_held("the provider was killed", &ended);
}

#[test]
fn status_explains_a_running_directory_and_one_whose_process_was_killed() {
    let run = Run::open(SLOW, &[]);
    let mut life = run.live();
    life.line(|line| line.contains("Verifying")).expect("a phase");

    // Verification lasts until `status` has looked, however slowly that starts.
    let running = run.simulator.frozen(|| run.status());

    assert_eq!(running["running"], true);
    let acme = pair(&running, "acme/openai");
    assert_eq!(acme["rotation"], "acme/openai#2");
    assert_eq!(acme["shown"], "ISSUING");
    assert_eq!(acme["phase"], "Verifying");
    assert!(acme["why"].as_str().is_some_and(|why| why.contains("tries the key of v2")));
    let holders = acme["holders"].as_array().expect("a list");
    assert!(
        holders.iter().any(|held| held["version"] == 1 && held["leases"].as_u64() > Some(0)),
        "a session holder holds v1: {acme}"
    );

    life.line(|line| line.contains("Overlap")).expect("a phase");
    drop(life.kill());
    let killed = run.status();

    assert_eq!(killed["running"], false);
    let acme = pair(&killed, "acme/openai");
    assert_eq!(acme["phase"], "Overlap");
    assert_eq!(acme["active"], 2);
    assert!(acme["why"].as_str().is_some_and(|why| why.contains("nobody holds v1")));
    assert_eq!(acme["next"][0], "Overlap", "the next timer: {acme}");
    assert!(killed["tasks"]["running"].as_u64() > Some(0));
    let text = shown(&run.data());
    for word in ["stopped", "acme/openai#2", "DRAINING", "nobody holds v1"] {
        assert!(text.contains(word), "{word} in:\n{text}");
    }

    let verified = plain_run(["audit", "verify", "--data-dir", &run.data().display().to_string()]);
    // What the killed process had not shipped yet is in the journal only.
    assert!(!verified.stdout.contains("BROKEN"), "{verified:?}");
    let is_whole = verified.stdout.contains("whole");
    assert!(is_whole || verified.stdout.contains("not shipped yet"), "{verified:?}");
    assert_eq!(verified.code, Some(i32::from(!is_whole)), "{verified:?}");
    demand_held("after the looks", &run.live().end());
}

fn pair<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let pairs = status["pairs"].as_array().expect("a list");
    let it = pairs.iter().find(|pair| pair["pair"] == name);
    it.unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// The words of the text for people, put together where the table broke its lines.
fn shown(data: &Path) -> String {
    let asked = plain_run(["status", "--data-dir", &data.display().to_string()]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    asked.stdout
}

#[test]
fn the_first_interrupt_stops_at_boundaries_and_names_the_command_that_goes_on() {
    let run = Run::open(&[], &[]);
    let mut life = run.live();
    life.line(|line| line.contains("Draining")).expect("a phase");

    let pid = life.pid().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill runs").success());
    let ended = life.end();

    assert_eq!(ended.code, Some(130), "{ended:?}");
    let command = ended.stderr.lines().find(|line| line.contains("keybaton demo --data-dir"));
    let command = command.unwrap_or_else(|| panic!("no command in {ended:?}"));
    let words: Vec<_> = command.split_whitespace().skip(1).collect();
    let resumed = plain_run(words.into_iter().chain(["-o", "json"]));
    let verdict = demand_held("after an interrupt", &resumed);
    assert_eq!(verdict["calls_cut_by_kill"], 0, "every step was finished before the stop");
}
