//! What the journal remembers of pairs: it saves a round trip, and no answer is another one for it.

use std::sync::Arc;

use keybaton_ports::{CommitError, Journal};
use keybaton_servers::redis::Flavour;
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::records::{Writer, pair};
use keybaton_tests::harness::soon;

use crate::redis_journal::faults::ask_again;
use crate::redis_journal::{Place, open_at, shared};
use crate::remembered;

/// Two stores on one database, as two processes have them.
async fn two() -> Option<(Arc<dyn Journal>, Arc<dyn Journal>)> {
    let place = shared(Flavour::Redis)?;
    let settings = place.settings(place.database());
    let one = open_at(&settings).await.expect("a new store");
    let other = open_at(&settings).await.expect("the same store");
    Some((one.journal, other.journal))
}

remembered::on!(two);

/// How often the journal has read: each time it asks for all lives.
fn readings(place: &Place) -> u64 {
    place.calls("hgetall")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_is_written_without_reading_and_what_is_in_doubt_is_read() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let store = open_at(&place.settings(place.database())).await.expect("a new store");
    let mut writer = Writer::provisioned(store.journal.clone(), "n1", pair("acme"), 1).await;
    let before = readings(&place);
    writer.commit(|_| {}).await;
    assert_eq!(readings(&place), before, "it remembers");

    // Killed with a question on its way: nobody knows how that one ended.
    let transaction = writer.next(|_| {});
    place.server.pause().expect("paused");
    let (journal, asked) = (store.journal.clone(), transaction.clone());
    let written = tokio::spawn(async move { journal.commit(asked).await });
    place.server.kill().expect("killed");
    let answer = soon("the answer", written).await.expect("no panic");
    let is_away = matches!(answer, Err(CommitError::Unknown(_) | CommitError::Unavailable(_)));
    assert!(is_away, "{answer:?}");
    place.server.restart().expect("restarted");
    let before = readings(&place);
    assert_eq!(ask_again(&*store.journal, &transaction).await, Ok(transaction.record.rev));
    assert_ne!(readings(&place), before, "it reads");
}
