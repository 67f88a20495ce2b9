//! One life of the node, put together as the real one is: a life in the journal, the tasks that had
//! not ended, the root actor, and somebody who keeps it.

use std::sync::Arc;
use std::time::Duration;

use keybaton_actors::fence::{Fence, LeaseView};
use keybaton_actors::program::Programs;
use keybaton_actors::shared::Shared;
use keybaton_actors::supervisor::Supervisor;
use keybaton_messages::NodeId;
use keybaton_ports::TaskState;
use ractor::Actor;

use crate::agents::Agent;
use crate::limits::TASKS_MAX;
use crate::ports;
use crate::world::World;

/// Pause before a process that did not start is started again.
const START_AGAIN: Duration = Duration::from_millis(500);

/// Lives until the node crashes or the run is over. Call it inside of the node's own runtime.
pub(crate) async fn live(world: &Arc<World>, http: &reqwest::Client) {
    world.clock.begin();
    let (starting, http) = (world.clone(), http.clone());
    tokio::spawn(async move {
        loop {
            match start(&starting, &http).await {
                Ok(shared) => {
                    starting.note(|| format!("the node lives: {:?}", shared.life));
                    return keep(&shared).await;
                }
                Err(why) => {
                    starting.note(|| format!("the node does not start: {why}"));
                    tokio::time::sleep(START_AGAIN).await;
                }
            }
        }
    });
    world.drive().await;
    world.clock.end();
}

async fn start(world: &Arc<World>, http: &reqwest::Client) -> Result<Arc<Shared>, String> {
    let ports = ports::of(world);
    let node = NodeId::new("n1").expect("a name");
    let life = ports.journal.begin_life(&node).await.map_err(|error| error.to_string())?;
    let rows = ports.tasks.list(None).await.map_err(|error| error.to_string())?;
    let mut programs = Programs::default();
    programs.add(Agent { world: world.clone(), tools: world.wishes.tools.clone() });
    let fence = Fence::new(LeaseView::Held);
    let shared =
        Shared::new(life, ports, fence, programs, http.clone(), TASKS_MAX + world.pairs.len());
    let mut unfinished = Vec::new();
    for row in rows.into_iter().filter(|row| row.state == TaskState::Running) {
        let admitted = shared.tasks.admit(&row.key);
        drop(admitted.expect("no more tasks than were wished for"));
        unfinished.push(row);
    }
    world.wishes.asked.lock().clear();
    world.set_node(Some(shared.clone()));
    for row in unfinished {
        world.want_first_key(&row.key.tenant, &row.spec);
    }
    Ok(shared)
}

/// Starts the root actor, and starts it again when it breaks.
async fn keep(shared: &Arc<Shared>) {
    loop {
        if let Ok((_root, ended)) = Actor::spawn(None, Supervisor(shared.clone()), ()).await {
            drop(ended.await);
        }
        tokio::time::sleep(START_AGAIN).await;
    }
}
