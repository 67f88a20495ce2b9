//! What a restarted simulator still knows. A copy of the ledger taken while the simulator runs
//! is exactly what a SIGKILL at that instant would leave behind.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use keybaton_simulator::ledger::{DeathCause, Event, FILE_NAME, LedgerError};
use keybaton_simulator::{Simulator, StartError};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Vendor, issue_path, text};

#[tokio::test]
async fn keys_live_and_dead_survive_a_crash() {
    let vendor = Vendor::start().await;
    let (dead_id, dead) = vendor.key("p", "dead").await;
    let (live_id, live) = vendor.key("p", "live").await;
    vendor.revoke("p", &dead_id).await;
    let copy = crash(&vendor);
    let after = Vendor::on(copy, |it| it).await;
    assert_eq!(after.probe(&live).await, 200);
    assert_eq!(after.probe(&dead).await, 401);
    assert_eq!(after.labels("p").await, ["live"]);
    assert_eq!(after.revoke("p", &live_id).await.0, 200);
    let lines = after.lines();
    let opened = lines.iter().filter(|line| matches!(line.event, Event::Opened { .. })).count();
    assert_eq!(opened, 2);
    assert!(lines.iter().zip(1..).all(|(line, seq)| line.seq == seq), "seq goes on");
    after.stop().await;
    vendor.stop().await;
}

#[tokio::test]
async fn an_answered_issue_and_an_answered_revoke_are_on_disk_at_once() {
    let vendor = Vendor::start().await;
    for n in 0..20 {
        let (id, secret) = vendor.key("p", &format!("label-{n}")).await;
        let written = fs::read_to_string(vendor.simulator.ledger_path()).unwrap();
        assert!(written.contains(&id), "born before it is answered");
        vendor.revoke("p", &id).await;
        assert_eq!(vendor.probe(&secret).await, 401);
        let written = fs::read_to_string(vendor.simulator.ledger_path()).unwrap();
        let died = format!(r#""event":"key_died","project":"p","key_id":"{id}""#);
        assert!(written.contains(&died), "dead before anyone is refused");
    }
    vendor.stop().await;
}

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_the_next_one_is_whole() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let copy = crash(&vendor);
    let mut file = OpenOptions::new().append(true).open(copy.path().join(FILE_NAME)).unwrap();
    file.write_all(br#"{"schema":1,"seq":4,"event":"key_died","project":"p","key"#).unwrap();
    drop(file);
    let after = Vendor::on(copy, |it| it).await;
    assert_eq!(after.probe(&secret).await, 200, "the death was never told to anyone");
    after.stop().await;
    vendor.stop().await;
}

#[tokio::test]
async fn a_slow_revoke_that_was_promised_is_kept_by_the_next_life() {
    let vendor = Vendor::struck("revoke:1=slow-revoke:3600000").await;
    let (id, secret) = vendor.key("p", "label").await;
    assert_eq!(vendor.revoke("p", &id).await.0, 200);
    assert_eq!(vendor.probe(&secret).await, 200);
    let copy = crash(&vendor);
    let after = Vendor::on(copy, |it| it).await;
    assert_eq!(after.probe(&secret).await, 401);
    let died = Event::KeyDied { project: "p".into(), key_id: id, cause: DeathCause::Revoked };
    assert!(after.events().contains(&died));
    after.stop().await;
    vendor.stop().await;
}

#[tokio::test]
async fn an_expiry_survives_a_crash() {
    let vendor = Vendor::start().await;
    let body = json!({"name": "label", "expires_in_seconds": 1});
    let (_, issued) = vendor.admin(Method::POST, &issue_path("p"), Some(body)).await;
    let copy = crash(&vendor);
    let after = Vendor::on(copy, |it| it).await;
    after.until(|state| state.keys_alive == 0).await;
    assert_eq!(after.probe(&text(&issued["value"])).await, 401);
    after.stop().await;
    vendor.stop().await;
}

#[tokio::test]
async fn a_first_key_keeps_the_name_of_its_account() {
    let vendor = Vendor::start().await;
    let accounts = "/v1/organization/projects/p/service_accounts";
    vendor.admin(Method::POST, accounts, Some(json!({"name": "label-1"}))).await;
    let list = "/v1/organization/projects/p/api_keys";
    let before = vendor.admin(Method::GET, list, None).await;
    let dir = vendor.stop().await;
    let after = Vendor::on(dir, |it| it).await;
    assert_eq!(after.admin(Method::GET, list, None).await, before);
    after.stop().await;
}

#[tokio::test]
async fn a_restart_on_the_same_address_is_possible_at_once() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let addr = vendor.simulator.addr();
    let dir = vendor.stop().await;
    let after = Vendor::on(dir, |it| it.bind(addr)).await;
    assert_eq!(after.simulator.addr(), addr);
    assert_eq!(after.probe(&secret).await, 200);
    after.stop().await;
}

#[tokio::test]
async fn a_dropped_simulator_lets_the_next_one_have_its_directory() {
    let vendor = Vendor::start().await;
    let (_, secret) = vendor.key("p", "label").await;
    let Vendor { simulator, dir, .. } = vendor;
    drop(simulator);
    let after = Vendor::on(dir, |it| it).await;
    assert_eq!(after.probe(&secret).await, 200);
    after.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_a_ledger_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE_NAME);
    fs::write(&path, "dear diary\n").unwrap();
    let refused = Simulator::builder().dir(dir.path()).start().await;
    let is_foreign =
        matches!(&refused, Err(StartError::Ledger(LedgerError::Foreign { line: 1, .. })));
    assert!(is_foreign, "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary\n");
}

fn crash(vendor: &Vendor) -> TempDir {
    let copy = TempDir::new().unwrap();
    fs::copy(vendor.simulator.ledger_path(), copy.path().join(FILE_NAME)).unwrap();
    copy
}
