//! What holds for any server, shown with one that is always there: a shell.

use std::time::Instant;

use keybaton_servers::limits::SIGNAL_MAX;
use keybaton_servers::process::{Home, Launch, Server};
use rustix::process::{Pid, test_kill_process};

/// A shell with a child, ready when it has said so.
fn shell(script: &str) -> anyhow::Result<Server> {
    let home = Home::make()?;
    let log = home.path().join("log");
    let probe = move || match std::fs::read_to_string(&log)?.contains("ready") {
        true => Ok(()),
        false => Err(anyhow::anyhow!("it has not said so")),
    };
    let launch = Launch::new("/bin/sh").args(["-c", script]);
    Server::start("a shell", home, launch, Box::new(probe))
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The shell and its child.
fn both(server: &Server) -> [i32; 2] {
    let log = server.log();
    let child = log.lines().find_map(|line| line.strip_prefix("child ")).expect("it said so");
    let shell = server.pid().expect("it runs");
    [i32::try_from(shell).expect("a process id"), child.parse().expect("a process id")]
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + SIGNAL_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} within {SIGNAL_MAX:?}");
        std::thread::yield_now();
    }
}

/// The child waits for something that never comes; so does the shell, for the child.
const WITH_A_CHILD: &str = "mkfifo never; cat never & echo child $!; echo ready; wait";

#[test]
fn a_killed_server_takes_its_children_along() {
    let server = shell(WITH_A_CHILD).expect("started");
    let all = both(&server);
    assert!(all.into_iter().all(is_alive));
    server.kill().expect("killed");
    assert_eq!(server.pid(), None);
    for pid in all {
        assert!(matches!(state(pid), None | Some('Z')), "process {pid}: {:?}", state(pid));
    }
    server.kill().expect("one that does not run stays as it is");
}

#[test]
fn a_paused_server_stands_with_its_children_until_it_is_resumed() {
    let server = shell(WITH_A_CHILD).expect("started");
    let all = both(&server);
    server.pause().expect("paused");
    assert!(all.into_iter().all(|pid| state(pid) == Some('T')));
    server.resume().expect("resumed");
    wait_until("both go on", || all.into_iter().all(|pid| state(pid) != Some('T')));
    server.pause().expect("paused");
    server.kill().expect("a paused one can be killed");
    assert!(server.pause().is_err() && server.resume().is_err(), "there is nobody to stop");
}

#[test]
fn a_dropped_server_is_gone_with_its_directory() {
    let server = shell(WITH_A_CHILD).expect("started");
    let (all, directory) = (both(&server), server.directory().to_owned());
    drop(server);
    assert!(all.into_iter().all(|pid| matches!(state(pid), None | Some('Z'))));
    assert!(!directory.exists());
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let started = std::thread::spawn(|| shell(WITH_A_CHILD).expect("started")).join();
    let server = started.expect("no panic");
    let [pid, _] = both(&server);
    assert!(matches!(state(pid), Some('S' | 'R' | 'D')), "{:?}", state(pid));
}

#[test]
fn a_server_that_ends_at_once_says_why() {
    let failed = shell("echo no room here; exit 7").err().expect("it did not start");
    let text = failed.to_string();
    assert!(text.contains("exit status: 7") && text.contains("no room here"), "{text}");
}

#[test]
fn a_restarted_server_finds_its_directory() {
    let server = shell("echo life >> lives; echo ready; mkfifo -m 600 $$; exec cat $$");
    let server = server.expect("started");
    let first = server.pid();
    server.restart().expect("restarted");
    assert_ne!(server.pid(), first);
    let lives = || std::fs::read_to_string(server.directory().join("lives")).expect("there");
    wait_until("the second life is written down", || lives() == "life\nlife\n");
}
