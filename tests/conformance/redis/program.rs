//! `keybaton redis acl`: what it prints is what a server takes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keybaton_tests::harness::{Ended, start};
use redis::Cmd;

use super::place::Place;

async fn acl(args: &[&str]) -> Ended {
    let mut all = vec!["redis".to_owned(), "acl".to_owned()];
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    // Has its own end; the first one to ask for the program builds it, which takes its time.
    tokio::task::spawn_blocking(move || start(all).end()).await.expect("no panic")
}

fn password_file(dir: &Path) -> String {
    let path = dir.join("password");
    std::fs::write(&path, "pw-of-umbrella\n").expect("written");
    let only_us = std::fs::Permissions::from_mode(0o400);
    std::fs::set_permissions(&path, only_us).expect("set");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_line_makes_a_user_that_can_sign_in_and_read_its_own_tenant_only() {
    let Some(server) = Place::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = password_file(dir.path());
    let printed = acl(&["--tenant", "umbrella", "--password-file", &file]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!printed.stdout.contains("pw-of-umbrella"), "{}", printed.stdout);
    let line = printed.stdout.trim_end();
    let rules = line.strip_prefix("user ").expect("a line for an aclfile");
    let _: String = server.admin(&format!("ACL SETUSER {rules}"));
    let ask = |words: &[&str]| {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        server.ask_as::<u64>("kb.umbrella", "pw-of-umbrella", &command)
    };
    assert_eq!(ask(&["XLEN", "kb.umbrella"]).expect("its own"), 0);
    let refusal = ask(&["XLEN", "kb.acme"]).expect_err("another tenant's");
    assert_eq!(refusal.code(), Some("NOPERM"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_a_password_opens_nothing_and_says_so() {
    let printed = acl(&["--node"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.starts_with("user keybaton off "), "{}", printed.stdout);
    assert!(printed.stderr.contains("--password-file"), "{}", printed.stderr);
    let bad = acl(&["--tenant", "../x"]).await;
    assert_ne!(bad.code, Some(0), "{bad:?}");
    let neither = acl(&[]).await;
    assert_ne!(neither.code, Some(0), "{neither:?}");
}
