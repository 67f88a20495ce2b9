//! A Vault that was restored from an older snapshot, and a record store that was.

use keybaton_messages::{Epoch, Rev, Version};
use keybaton_ports::{Denial, SecretStore, Witness};
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};

use super::{given, is_denied, path, started, store, why};

const ACME: &str = "acme";

fn witness(rev: u64) -> Witness {
    Witness { rev: Rev(rev), epoch: Epoch(1), active: Some(Version(1)), journal: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_went_back_gives_no_number_a_second_time() {
    let Some(server) = started() else { return };
    let secrets = store(&server, "p", given(server.root_token()));
    let put = |n: u32| {
        let secrets = &secrets;
        async move {
            let meta = meta(&pair(ACME), Some(label(n)), &format!("key_{n}"));
            secrets.put(&meta, &secret(&format!("sk-{n}"))).await
        }
    };
    let first = put(1).await.expect("stored");
    secrets.put_witness(&pair(ACME), witness(10)).await.expect("written");
    let snapshot = server.snapshot().expect("a snapshot");
    let second = put(2).await.expect("stored");
    secrets.put_witness(&pair(ACME), witness(20)).await.expect("written");

    server.restore_snapshot(snapshot).expect("taken");
    let taken_in = || {
        let said = server.request_as_root("GET", &path("metadata", "p", ACME), None)?;
        anyhow::ensure!(said["data"]["current_version"] == 1, "{said}");
        Ok(())
    };
    server.server().wait_until("back in time", taken_in).expect("restored");

    assert!(secrets.read(&pair(ACME), first).await.is_ok());
    let lost = secrets.read(&pair(ACME), second).await;
    assert!(is_denied(&lost, Denial::NotFound), "{}", why(lost));
    assert_eq!(secrets.witness(&pair(ACME)).await, Ok(Some(witness(10))), "the caller compares");
    for _ in 0..2 {
        let late = put(3).await;
        assert!(is_denied(&late, Denial::Corrupt), "{}", why(late));
    }
    let text = why(secrets.preflight(&pair(ACME)).await);
    assert!(text.contains("went back from s2 to s1"), "{text}");
    assert_eq!(secrets.list(&pair(ACME)).await.expect("read").len(), 1, "nothing was written");
}
