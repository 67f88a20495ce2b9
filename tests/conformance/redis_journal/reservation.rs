//! One process at a time works on a store in Redis.

use keybaton_adapters::journals::{
    RedisJournalSettings, RedisReservation, RedisStore, RedisStoreError,
};
use keybaton_servers::redis::Flavour;
use keybaton_servers::unless_missing;
use keybaton_tests::harness::soon;

use crate::redis_journal::{Place, open_at, shared};

async fn reserved(settings: &RedisJournalSettings) -> (RedisStore, RedisReservation) {
    let store = open_at(settings).await.expect("a store");
    let reservation = store.reserve().await.expect("nobody else is there");
    (store, reservation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_until_the_first_has_ended() {
    let Some(place) = shared(Flavour::Redis) else { return };
    let settings = place.settings(place.database());
    let (first, reservation) = reserved(&settings).await;
    let second = open_at(&settings).await.expect("opening alone takes nothing");
    let refused = second.reserve().await.err().expect("refused");
    assert!(matches!(refused, RedisStoreError::InUse { .. }), "{refused:?}");
    let own = format!("process {} on ", std::process::id());
    assert!(refused.to_string().contains(&own), "it says who: {refused}");
    assert!(reservation.lost().borrow().is_none());
    drop((first, reservation));
    second.reserve().await.expect("the first has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_was_left_behind_is_waited_for_and_no_longer() {
    let Some(place) = shared(Flavour::Valkey) else { return };
    let database = place.database();
    let store = open_at(&place.settings(database)).await.expect("a store");
    // As a process leaves it that was killed: six seconds of the server's, begun a while ago.
    let leave = "local now = redis.call('TIME')[1] * 1000
        redis.call('SELECT', ARGV[1])
        return redis.call('HSET', 'keybaton:owner', 'process', 'dead', 'whose', 'a dead one',
            'until', string.format('%.0f', now + 2000))";
    place.admin(&["EVAL", leave, "0", &database.to_string()]);
    soon("the end of the note", store.reserve()).await.expect("the dead one keeps nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_outlives_its_server_and_says_when_another_process_has_taken_it() {
    let Some(place) = unless_missing(Place::start(Flavour::Redis)) else { return };
    let (_store, reservation) = reserved(&place.settings(0)).await;
    let until = || {
        let text = place.admin(&["HGET", "keybaton:owner", "until"]);
        text.parse::<u64>().unwrap_or_default()
    };
    place.server.kill().expect("killed");
    place.server.restart().expect("restarted");
    let before = until();
    let again = || {
        anyhow::ensure!(until() > before, "not yet");
        Ok(())
    };
    place.server.server().wait_until("reserved anew", again).expect("reserved anew");
    assert!(reservation.lost().borrow().is_none());

    let far = "99999999999999";
    place.admin(&["HSET", "keybaton:owner", "process", "p", "whose", "another", "until", far]);
    let mut lost = reservation.lost();
    let told = soon("the loss is told", lost.wait_for(Option::is_some)).await;
    let why = told.expect("it looks").clone().expect("a reason");
    assert!(why.contains("another keybaton process") && why.contains("(another)"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_looks_makes_nothing() {
    let Some(place) = shared(Flavour::Redis) else { return };
    let database = place.database();
    let settings = place.settings(database);
    let looking = RedisJournalSettings { create: false, ..place.settings(database) };
    let refused = open_at(&looking).await.err().expect("there is no store");
    assert!(matches!(refused, RedisStoreError::Missing), "{refused:?}");
    let (_store, _reservation) = reserved(&settings).await;
    let look = open_at(&looking).await.expect("a store that is in use");
    assert!(look.journal.pairs().await.expect("read").is_empty());
}
