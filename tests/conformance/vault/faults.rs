//! A Vault that is sealed, silent or gone: every call ends, and none of them guesses.

use std::time::{Duration, Instant};

use keybaton_adapters::secrets::vault::VaultSecrets;
use keybaton_ports::{Denial, SecretStore};
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use keybaton_tests::harness::VaultServer;

use super::{given, is_busy, is_denied, is_unknown, settings, started, why};

const ACME: &str = "acme";

/// How long a call may hang in these tests.
const SHORT_WAIT: Duration = Duration::from_secs(1);

fn impatient(server: &VaultServer) -> VaultSecrets {
    let mut settings = settings(server, "p", given(server.root_token()));
    settings.call_wait_max = SHORT_WAIT;
    VaultSecrets::new(settings).expect("good settings")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_vault_says_that_nothing_happened_and_serves_again_when_it_is_unsealed() {
    let Some(server) = started() else { return };
    let secrets = super::store(&server, "p", given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    server.seal();
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    let put = secrets.put(&two, &secret("sk-two")).await;
    assert!(is_busy(&put));
    assert!(why(put).contains("sealed"), "it says what to do");
    assert!(is_busy(&secrets.preflight(&pair(ACME)).await));
    assert!(is_busy(&secrets.read(&pair(ACME), first).await));
    assert!(is_busy(&secrets.find(&pair(ACME), &label(1)).await), "not found would be a lie");
    assert!(is_busy(&secrets.destroy(&pair(ACME), first).await));
    server.unseal();
    let second = secrets.put(&two, &secret("sk-two")).await.expect("stored");
    assert_eq!(secrets.list(&pair(ACME)).await, Ok(vec![(first, one), (second, two)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_vault_leaves_a_write_unknown_and_its_repetition_stores_it_once() {
    let Some(server) = started() else { return };
    let secrets = impatient(&server);
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    server.pause();
    let begun = Instant::now();
    assert!(is_busy(&secrets.read(&pair(ACME), first).await), "a read changes nothing");
    assert!(is_unknown(&secrets.destroy(&pair(ACME), first).await));
    assert!(begun.elapsed() < SHORT_WAIT * 10, "every call ends");
    server.resume();
    secrets.destroy(&pair(ACME), first).await.expect("destroyed");
    assert!(is_denied(&secrets.read(&pair(ACME), first).await, Denial::NotFound));
}

/// The write itself is caught between its question and its answer: the server is paused when the
/// last look before the write has been answered, which is when a second writer's version is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_found_and_not_stored_twice() {
    let Some(server) = started() else { return };
    let mut unknown = 0;
    for n in 1..=20 {
        let secrets = impatient(&server);
        let one = meta(&pair(ACME), Some(label(n)), &format!("key_{n}"));
        let text = format!("sk-{n}");
        let putting = secrets.put(&one, &secret(&text));
        tokio::pin!(putting);
        // Each round stops the server a little later within the same sequence of calls.
        let mut polls = 0;
        let answer = loop {
            let polled = futures::poll!(putting.as_mut());
            if let std::task::Poll::Ready(answer) = polled {
                break answer;
            }
            polls += 1;
            if polls == n * 3 {
                server.pause();
                let answer = putting.as_mut().await;
                server.resume();
                break answer;
            }
            tokio::task::yield_now().await;
        };
        unknown += u32::from(is_unknown(&answer));
        let version = match answer {
            Ok(version) => version,
            Err(_) => impatient(&server).put(&one, &secret(&text)).await.expect("stored"),
        };
        let listed = secrets.list(&pair(ACME)).await.expect("read");
        let ours: Vec<_> = listed.iter().filter(|(_, it)| it.label == one.label).collect();
        assert_eq!(ours, [&(version, one.clone())], "round {n}: once, and under this number");
        secrets.destroy(&pair(ACME), version).await.expect("destroyed");
    }
    drop(unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_killed_is_busy_and_has_lost_nothing_when_it_is_back() {
    let Some(server) = started() else { return };
    let secrets = super::store(&server, "p", given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    server.kill();
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    assert!(is_busy(&secrets.put(&two, &secret("sk-two")).await));
    assert!(is_busy(&secrets.read(&pair(ACME), first).await));
    server.restart();
    assert!(is_busy(&secrets.read(&pair(ACME), first).await), "it comes back sealed");
    server.unseal();
    let read = secrets.read(&pair(ACME), first).await.expect("still there");
    assert!(read.secret.is_same(&secret("sk-one")));
    secrets.put(&two, &secret("sk-two")).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_be_put_together_while_vault_is_away() {
    let Some(server) = started() else { return };
    server.kill();
    let secrets = super::store(&server, "p", given(server.root_token()));
    assert!(is_busy(&secrets.preflight(&pair(ACME)).await));
    server.restart();
    server.unseal();
    assert_eq!(secrets.preflight(&pair(ACME)).await, Ok(()));
}
