//! The examples that people copy: they compile, run against a provider, and survive a rotation.

use std::process::Command;

use keybaton_simulator::{ADMIN_KEY_DEFAULT, Simulator};

/// Runs an example of the node's package against a fresh simulator, as a reader would.
async fn run(example: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let simulator = Simulator::builder().dir(dir.path()).start().await.expect("starts");
    let url = format!("{}/v1", simulator.base_url());
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--quiet", "--package", "keybaton", "--example", example])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KEYBATON_EXAMPLE_URL", url)
        .env("OPENAI_ADMIN_KEY", ADMIN_KEY_DEFAULT);
    let ended = tokio::task::spawn_blocking(move || cargo.output()).await.expect("no panic");
    simulator.stop().await;
    let ended = ended.expect("cargo runs");
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
