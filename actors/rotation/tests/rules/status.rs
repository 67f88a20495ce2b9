//! What people are told.

use keybaton_messages::Shown;
use keybaton_rotation::{Timer, explain};

use crate::script::Bench;

#[track_caller]
fn told(script: &str, shown: Option<Shown>, why: &str) {
    let bench = Bench::play(script);
    let explanation = explain(&bench.record, bench.now());
    assert_eq!(explanation.shown, shown, "{script}");
    assert_eq!(explanation.why, why, "{script}");
}

#[test]
fn every_wait_says_what_for_and_until_when() {
    told("start", None, "no rotation yet; provision or import a key");
    told(
        "first rotate wait:0 unready:3600",
        Some(Shown::Pending),
        "waits for its next attempt in 60 min; last refusal: no",
    );
    told(
        "promoted wait:100",
        Some(Shown::Checkpointing),
        "asked the holders of v1 again; policy decides in 8 min",
    );
    told(
        "promoted returned:v1 wait:200",
        Some(Shown::Draining),
        "nobody holds v1; kept for a rollback, it is revoked in 100 s",
    );
    told(
        "first emergency wait:0 ready",
        Some(Shown::Issuing),
        "asks the provider for v2; emergency: the key is revoked in 60 s",
    );
    told(
        "promoted rollback",
        Some(Shown::Draining),
        "waits for the holders of v1; policy decides in 10 min; a rollback was ordered, so the \
         old key is probed",
    );
    told(
        "B first rotate wait:0 ready returned:v1 unknown nothing wait:9",
        Some(Shown::Issuing),
        "waits out a call that may still execute, in 60 s; no key is handed out, tasks wait; \
         last refusal: no secret under its label",
    );
    told(
        "first rotate wait:0 ready denied",
        Some(Shown::Failed),
        "the provider refuses the admin credential; last refusal: no",
    );
}

#[test]
fn what_is_owed_is_listed_and_the_next_moment_named() {
    let bench = Bench::play("promoted emergency:v2 wait:0 ready unknown nothing");
    let explanation = explain(&bench.record, bench.now());
    assert_eq!(
        explanation.obligations,
        [
            "drain and revoke v1; its calls are cut in 60 min",
            "look for v3 at the provider; asked 0 times, again in 5 s",
        ]
    );
    let next = explanation.next.map(|(timer, at)| (timer, bench.now().until(at).as_secs()));
    assert!(matches!(next, Some((Timer::Owed | Timer::Retry, 5))), "{next:?}");
}
