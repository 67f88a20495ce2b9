//! Today's way, judged by the same oracle: the verdict can fail, and it fails for the right reason.

use keybaton_tests::harness::plain_run;

#[test]
fn a_key_that_is_revoked_by_the_clock_costs_refused_calls_and_lost_work() {
    let ended = plain_run(["demo", "--naive", "--tasks", "60", "-o", "json"]);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    let verdict = ended.object();
    assert_eq!(verdict["verdict"], "broken", "{ended:?}");
    let refused = verdict["calls_refused"].as_u64().unwrap_or(0);
    let interrupted = verdict["calls_interrupted"].as_u64().unwrap_or(0);
    assert!(refused + interrupted > 0, "{verdict}");
    assert!(verdict["steps_lost"].as_u64() > Some(0), "{verdict}");
    // The same agents, the same ledger, the other way.
    let kept = &verdict["keybaton"];
    assert_eq!(kept["verdict"], "held", "{kept}");
    assert_eq!(kept["calls_refused"], 0);
}
