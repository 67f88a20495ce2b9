//! The journal of tasks: after every entry the results of its task are counted.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{TaskKey, TenantId};
use keybaton_ports::{
    Claimed, Entry, Refusal, TaskError, TaskJournal, TaskRow, TaskSpec, TaskWrite,
};

use super::{at_once, read, shown, write};
use crate::call::Port;
use crate::world::World;

pub(super) struct SimTasks(pub(super) Arc<World>);

const TASKS: Port = Port::Tasks;

#[async_trait]
impl TaskJournal for SimTasks {
    async fn create(&self, key: &TaskKey, spec: &TaskSpec) -> Result<TaskRow, TaskError> {
        let call = write(TASKS, "create", self.0.words(|| key.to_string()));
        let (key, spec) = (key.clone(), spec.clone());
        self.0.ask(call, move |world| at_once(world.tasks.create(&key, &spec)), shown).await
    }

    async fn claim(&self, key: &TaskKey) -> Result<Claimed, TaskError> {
        let call = write(TASKS, "claim", self.0.words(|| key.to_string()));
        let key = key.clone();
        self.0.ask(call, move |world| at_once(world.tasks.claim(&key)), shown).await
    }

    async fn append(&self, write_down: &TaskWrite) -> Result<(), TaskError> {
        let call = write(TASKS, "append", self.0.words(|| format!("{write_down:?}")));
        let write_down = write_down.clone();
        let append = move |world: &Arc<World>| {
            let appended = at_once(world.tasks.append(&write_down));
            appended.inspect(|()| world.appended(&write_down.key))
        };
        self.0.ask(call, append, shown).await
    }

    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<TaskRow>, Refusal> {
        let call = read(TASKS, "tasks", String::new());
        let tenant = tenant.cloned();
        self.0.ask(call, move |world| at_once(world.tasks.list(tenant.as_ref())), shown).await
    }

    async fn entries(&self, key: &TaskKey) -> Result<Vec<Entry>, TaskError> {
        let call = read(TASKS, "entries", self.0.words(|| key.to_string()));
        let key = key.clone();
        self.0.ask(call, move |world| at_once(world.tasks.entries(&key)), shown).await
    }

    async fn forget(&self, key: &TaskKey) -> Result<(), TaskError> {
        let call = write(TASKS, "forget", self.0.words(|| key.to_string()));
        let key = key.clone();
        self.0.ask(call, move |world| at_once(world.tasks.forget(&key)), shown).await
    }
}
