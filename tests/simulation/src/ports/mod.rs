//! The ports as a node of the world has them: each call travels, and each change is looked at.

mod journal;
mod stores;
mod tasks;

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use keybaton_actors::shared::{Ports, ProviderEntry};
use keybaton_messages::DeploymentId;
use keybaton_ports::FingerprintKey;

use crate::call::{Call, Kind, Port};
use crate::provider::SimProvider;
use crate::world::World;

use self::journal::SimJournal;
use self::stores::{SimBus, SimCheckpoints, SimSecrets, SimSink};
use self::tasks::SimTasks;

/// Everything that a node asks of the world.
pub(crate) fn of(world: &Arc<World>) -> Ports {
    let providers: HashMap<_, _> = world
        .vendors
        .iter()
        .map(|(name, vendor)| {
            let provider = Arc::new(SimProvider::new(world.clone(), name.clone(), vendor));
            (name.clone(), ProviderEntry { provider, policy: vendor.policy.clone() })
        })
        .collect();
    Ports {
        journal: Arc::new(SimJournal(world.clone())),
        tasks: Arc::new(SimTasks(world.clone())),
        secrets: Arc::new(SimSecrets(world.clone())),
        checkpoints: Arc::new(SimCheckpoints(world.clone())),
        bus: Arc::new(SimBus(world.clone())),
        audit: Arc::new(SimSink(world.clone())),
        clock: world.clock.clone(),
        entropy: world.ids.clone(),
        providers,
        fingerprints: Arc::new(FingerprintKey::new([7; 32])),
        deployment: DeploymentId::from_digest(&[3; 16]),
    }
}

/// What a fake answers; none of them waits.
pub(crate) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("a fake answers at once")
}

fn read(port: Port, name: &'static str, about: String) -> Call {
    Call { port, kind: Kind::Read, name, about }
}

fn write(port: Port, name: &'static str, about: String) -> Call {
    Call { port, kind: Kind::Write, name, about }
}

fn ordered(port: Port, name: &'static str, about: String) -> Call {
    Call { port, kind: Kind::Ordered, name, about }
}

fn shown<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}")
}
