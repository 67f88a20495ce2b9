//! What the journal remembers of pairs: it saves a round trip, and no answer is another one for it.

use std::sync::Arc;

use keybaton_ports::{CommitError, Journal};
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::records::{Writer, pair};

use crate::postgres::faults::{ask_again, commit, session, until};
use crate::postgres::{Place, open_at, shared};
use crate::remembered;

/// Two stores on one database, as two processes have them.
async fn two() -> Option<(Arc<dyn Journal>, Arc<dyn Journal>)> {
    let place = shared()?;
    let settings = place.settings(&place.database());
    let one = open_at(&settings).await.expect("a new store");
    let other = open_at(&settings).await.expect("the same store");
    Some((one.journal, other.journal))
}

remembered::on!(two);

/// Whoever reads before it writes looks for facts in the audit, and waits for this; a transaction
/// without facts writes none.
const STOP_READERS: &str = "begin; lock table keybaton.audit in access exclusive mode";
const WAITING: &str = "select count(*) from pg_locks where not granted";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_is_written_without_reading_and_what_is_in_doubt_is_read() {
    let Some(place) = unless_missing(Place::start()) else { return };
    let database = place.database();
    let store = open_at(&place.settings(&database)).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let blocker = session(&place, &database).await;
    blocker.batch_execute(STOP_READERS).await.expect("locked");
    writer.commit(|_| {}).await;
    blocker.batch_execute("commit").await.expect("unlocked");

    // Killed while it waits for the row: nobody knows how that one ended.
    blocker.batch_execute("begin; select from keybaton.pair for update").await.expect("locked");
    let transaction = writer.next(|_| {});
    let written = commit(&store, &transaction);
    until(&place, &database, WAITING, "1").await;
    place.server.kill().expect("killed");
    let answer = written.await.expect("no panic");
    assert!(matches!(answer, Err(CommitError::Unknown(_))), "{answer:?}");
    place.server.restart().expect("restarted");

    let blocker = session(&place, &database).await;
    blocker.batch_execute(STOP_READERS).await.expect("locked");
    let (again, ()) = tokio::join!(ask_again(&store, &transaction), async {
        until(&place, &database, WAITING, "1").await;
        blocker.batch_execute("commit").await.expect("unlocked");
    });
    assert_eq!(again, Ok(transaction.record.rev));
}
