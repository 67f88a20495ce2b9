//! A Vault that is sealed, silent or gone: every call ends, and none of them guesses.

use std::time::{Duration, Instant};

use keybaton_adapters::secrets::vault::VaultSecrets;
use keybaton_ports::{Denial, SecretStore};
use keybaton_servers::Vault;
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use keybaton_tests::harness::soon;
use tokio::sync::oneshot;

use super::proxy::{Loss, Proxy};
use super::{given, is_busy, is_denied, is_unknown, new_prefix, settings, shared, started, why};

const ACME: &str = "acme";

/// How long a call may hang in these tests. A Vault that is well answers sooner even on a busy
/// machine.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// How long an answer takes at a Vault that is slow and well.
const SLOWNESS: Duration = Duration::from_secs(5);

fn impatient(server: &Vault) -> VaultSecrets {
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
    server.seal().expect("sealed");
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    let put = secrets.put(&two, &secret("sk-two")).await;
    assert!(is_busy(&put));
    assert!(why(put).contains("sealed"), "it says what to do");
    assert!(is_busy(&secrets.preflight(&pair(ACME)).await));
    assert!(is_busy(&secrets.read(&pair(ACME), first).await));
    assert!(is_busy(&secrets.find(&pair(ACME), &label(1)).await), "not found would be a lie");
    assert!(is_busy(&secrets.destroy(&pair(ACME), first).await));
    server.unseal().expect("unsealed");
    let second = secrets.put(&two, &secret("sk-two")).await.expect("stored");
    assert_eq!(secrets.list(&pair(ACME)).await, Ok(vec![(first, one), (second, two)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_vault_leaves_a_change_unknown_and_a_read_undone() {
    let Some(server) = started() else { return };
    let secrets = impatient(&server);
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    server.pause().expect("paused");
    let begun = Instant::now();
    assert!(is_busy(&secrets.read(&pair(ACME), first).await), "a read changes nothing");
    assert!(is_unknown(&secrets.destroy(&pair(ACME), first).await));
    assert!(begun.elapsed() < SHORT_WAIT * 10, "every call ends");
    server.resume().expect("resumed");
    secrets.destroy(&pair(ACME), first).await.expect("destroyed");
    assert!(is_denied(&secrets.read(&pair(ACME), first).await, Denial::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_vault_is_waited_for() {
    let Some(server) = started() else { return };
    let secrets = super::store(&server, "p", given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    secrets.preflight(&pair(ACME)).await.expect("ready");
    server.pause().expect("paused");
    let text = secret("sk-one");
    let mut put = std::pin::pin!(secrets.put(&one, &text));
    assert!(tokio::time::timeout(SLOWNESS, &mut put).await.is_err(), "it waits");
    server.resume().expect("resumed");
    let version = put.await.expect("stored");
    assert_eq!(secrets.list(&pair(ACME)).await, Ok(vec![(version, one.clone())]), "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_lost_is_stored_once_whatever_became_of_it() {
    let Some(server) = shared() else { return };
    let prefix = new_prefix();
    let proxy = Proxy::start(server.address()).await;
    let mut settings = settings(server, &prefix, given(server.root_token()));
    proxy.address().clone_into(&mut settings.address);
    settings.call_wait_max = SHORT_WAIT;
    let secrets = VaultSecrets::new(settings).expect("good settings");
    for (n, loss) in [(1, Loss::Request), (2, Loss::Answer)] {
        let meta = meta(&pair(ACME), Some(label(n)), &format!("key_{n}"));
        proxy.lose(loss);
        assert!(is_unknown(&secrets.put(&meta, &secret("sk-one")).await), "{n}");
        let again = secrets.put(&meta, &secret("sk-one")).await.expect("stored");
        assert_eq!(again.0, u64::from(n), "one number for each secret");
    }
    // Imported keys have no label: they are known by their key id and their bytes.
    let imported = meta(&pair(ACME), None, "key_imported");
    proxy.lose(Loss::Answer);
    assert!(is_unknown(&secrets.put(&imported, &secret("sk-imported")).await));
    assert_eq!(secrets.put(&imported, &secret("sk-imported")).await.map(|it| it.0), Ok(3));
    assert_eq!(secrets.list(&pair(ACME)).await.expect("read").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_arrives_late_and_its_repetition_do_not_both_succeed() {
    let Some(server) = shared() else { return };
    for is_late_first in [true, false] {
        let prefix = new_prefix();
        let proxy = Proxy::start(server.address()).await;
        let mut settings = settings(server, &prefix, given(server.root_token()));
        proxy.address().clone_into(&mut settings.address);
        settings.call_wait_max = SHORT_WAIT;
        let secrets = VaultSecrets::new(settings).expect("good settings");
        let one = meta(&pair(ACME), Some(label(1)), "key_1");
        let ((go, waits), (done, status)) = (oneshot::channel(), oneshot::channel());
        proxy.lose(Loss::Late(waits, done));
        assert!(is_unknown(&secrets.put(&one, &secret("sk-one")).await));
        let version = if is_late_first {
            go.send(()).expect("it waits");
            assert_eq!(soon("the late write", status).await, Ok(200));
            secrets.put(&one, &secret("sk-one")).await.expect("found")
        } else {
            let version = secrets.put(&one, &secret("sk-one")).await.expect("stored");
            go.send(()).expect("it waits");
            assert_eq!(soon("the late write", status).await, Ok(400), "its check does not hold");
            version
        };
        assert_eq!(secrets.list(&pair(ACME)).await, Ok(vec![(version, one)]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_killed_is_busy_and_has_lost_nothing_when_it_is_back() {
    let Some(server) = started() else { return };
    let secrets = super::store(&server, "p", given(server.root_token()));
    let one = meta(&pair(ACME), Some(label(1)), "key_1");
    let first = secrets.put(&one, &secret("sk-one")).await.expect("stored");
    server.kill().expect("killed");
    let two = meta(&pair(ACME), Some(label(2)), "key_2");
    assert!(is_busy(&secrets.put(&two, &secret("sk-two")).await));
    assert!(is_busy(&secrets.read(&pair(ACME), first).await));
    server.restart().expect("restarted");
    assert!(is_busy(&secrets.read(&pair(ACME), first).await), "it comes back sealed");
    server.unseal().expect("unsealed");
    let read = secrets.read(&pair(ACME), first).await.expect("still there");
    assert!(read.secret.is_same(&secret("sk-one")));
    secrets.put(&two, &secret("sk-two")).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_be_put_together_while_vault_is_away() {
    let Some(server) = started() else { return };
    server.kill().expect("killed");
    let secrets = super::store(&server, "p", given(server.root_token()));
    assert!(is_busy(&secrets.preflight(&pair(ACME)).await));
    server.restart().expect("restarted");
    server.unseal().expect("unsealed");
    assert_eq!(secrets.preflight(&pair(ACME)).await, Ok(()));
}
