//! The examples that people copy: they compile, run against a provider, and survive a rotation.

use std::process::Command;

use keybaton_simulator::{ADMIN_KEY_DEFAULT, Simulator};
use keybaton_tests::harness;

/// Runs an example of the node's package against a fresh simulator, as a reader would.
async fn run(example: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let simulator = Simulator::builder().dir(dir.path()).start().await.expect("starts");
    let url = format!("{}/v1", simulator.base_url());
    let name = example.to_owned();
    let ended = tokio::task::spawn_blocking(move || {
        Command::new(harness::example(&name))
            .env("KEYBATON_EXAMPLE_URL", url)
            .env("OPENAI_ADMIN_KEY", ADMIN_KEY_DEFAULT)
            .output()
    });
    let ended = ended.await.expect("no panic").expect("it runs");
    simulator.stop().await;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{example}: {said}");
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_under_sixty_lines_survives_a_rotation() {
    let answers = run("agent").await;
    assert!(answers.starts_with("6 answers"), "{answers}");
    let source = include_str!("../../cluster/node/examples/agent.rs");
    assert!(source.lines().count() < 60, "{} lines", source.lines().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_async_openai_survives_a_rotation() {
    let answers = run("async_openai_agent").await;
    assert!(answers.starts_with("6 answers"), "{answers}");
}
