//! A way to a broken promise, one line a step.

use crate::actions::Action;
use crate::config::Promise;
use crate::state::State;
use crate::words;
use crate::world::World;

/// The promise, then numbered steps.
pub(crate) fn told(world: &World, promise: Promise, path: &[(State, Option<Action>)]) -> String {
    let mut lines = vec![format!("broken is {}", promise.words())];
    for (place, pair) in path.windows(2).enumerate() {
        if let [(before, Some(action)), (after, _)] = pair {
            lines.push(format!("{}. {}", place + 1, words::told(*action, before, after)));
        }
    }
    let last = path.last().map(|(state, _)| state);
    if let (Promise::Finishes, Some(last)) = (promise, last) {
        lines.push("left in peace from here it does not finish:".to_owned());
        let mut before = last.clone();
        for (action, after) in world.peace(last) {
            lines.push(format!("   {}", words::told(action, &before, &after)));
            before = after;
        }
        lines.push(format!("   and so on; {}", words::standing(&before)));
    }
    lines.join("\n")
}
