//! Parsers with a fault on a rare shape, to see that the engine finds such a thing.

use keybaton_messages::{Event, EventKind, wire};
use keybaton_simulator::Script;

use crate::engine::Target;
use crate::targets::kinds_in;

/// Wrong parsers, and what is wrong with each.
pub const PLANTED: &[(&str, Target)] = &[
    (
        "panics on an event of a failed rotation of another tenant",
        Target { name: "planted-panic", run: panics, corpus: "wire-event" },
    ),
    (
        "takes as much memory as a script's count says",
        Target { name: "planted-greed", run: takes, corpus: "fault-script" },
    ),
    (
        "reads a trigger id back without its last letter when it is of full length",
        Target { name: "planted-loss", run: loses, corpus: "trigger-id" },
    ),
];

fn panics(bytes: &[u8]) -> String {
    match wire::decode::<Event>(1, bytes) {
        Ok(event) => {
            let is_foreign = event.pair.tenant != event.rotation.pair.tenant;
            let is_rare = event.kind == EventKind::Failed && is_foreign;
            assert!(!is_rare, "an event that nobody thought of");
            kinds_in(&event)
        }
        Err(refusal) => refusal.to_string(),
    }
}

fn takes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Ok(script) = text.parse::<Script>() else {
        return "no script".to_owned();
    };
    let shown = script.to_string();
    let count = shown.split('=').next().and_then(|call| call.rsplit(['x', ':']).next());
    let calls: usize = count.and_then(|count| count.parse().ok()).unwrap_or(1);
    Vec::<u8>::with_capacity(calls.min(1 << 26)).capacity();
    shown
}

fn loses(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Ok(id) = text.parse::<keybaton_messages::TriggerId>() else {
        return "no id".to_owned();
    };
    let kept = id.as_str().chars().take(127).collect::<String>();
    assert_eq!(kept, text, "it is not what it was read from");
    format!("{} letters", kept.len())
}
