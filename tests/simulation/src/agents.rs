//! The tasks of the simulation: calls of the vendors, tools with side effects, rests; some take a
//! version for each call, some keep one across steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use keybaton_actors::program::{
    CredentialUse, Effects, Program, Progress, RestartPolicy, Step, StepContext, StepError,
};
use keybaton_messages::{PairId, TaskKey, Version};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::world::World;

/// What a task does, and what it has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    /// How long each step's call lasts, in milliseconds.
    pub(crate) calls: Vec<u64>,
    /// Rest after each step, in milliseconds.
    pub(crate) rest: u64,
    pub(crate) keeps: bool,
    pub(crate) risk: Risk,
    /// The steps so far, each by its number.
    pub(crate) done: Vec<u64>,
}

/// What the steps do to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Risk {
    Repeatable,
    Idempotent,
    Queryable,
    Neither,
}

/// Side effects by task and step, each with the idempotency key it was done under.
pub(crate) type Tools = Mutex<BTreeMap<(TaskKey, u64), Vec<[u8; 16]>>>;

/// The program.
pub(crate) struct Agent {
    pub(crate) world: Arc<World>,
    pub(crate) tools: Arc<Tools>,
}

/// What a vendor answers to a call.
enum Answer {
    Well,
    /// 401: not executed.
    Refused,
    /// 500.
    Broken,
}

/// Calls of one step before it is tried again from its beginning.
const CALLS_MAX: u32 = 3;

impl Program for Agent {
    const KIND: &'static str = "agent";
    type State = Role;
    type Outcome = u64;

    fn credential_use(&self, role: &Role) -> CredentialUse {
        if role.keeps { CredentialUse::PerSession } else { CredentialUse::PerCall }
    }

    fn effects(&self, role: &Role) -> Effects {
        match role.risk {
            Risk::Repeatable => Effects::Repeatable,
            Risk::Idempotent => Effects::Idempotent,
            Risk::Queryable => Effects::Queryable,
            Risk::Neither => Effects::Neither,
        }
    }

    /// A step is tried until it succeeds: no task may be dropped, whatever the world does.
    fn restart_policy(&self) -> RestartPolicy {
        let (pause_min, pause_max) = (Duration::from_millis(50), Duration::from_secs(3));
        RestartPolicy { attempts: u32::MAX, pause_min, pause_max }
    }

    async fn step(&self, role: &Role, context: &StepContext<'_>) -> Step<u64> {
        let lasts = role.calls.get(role.done.len()).copied().unwrap_or(0);
        self.call(context, Duration::from_millis(lasts)).await?;
        self.use_tool(role, context);
        Ok(progress(role, context.n))
    }

    async fn look(
        &self,
        role: &Role,
        context: &StepContext<'_>,
    ) -> Result<Option<Progress<u64>>, StepError> {
        let is_done = self.tools.lock().contains_key(&(context.task.clone(), context.n));
        Ok(is_done.then(|| progress(role, context.n)))
    }

    fn apply(&self, role: &mut Role, step: u64) {
        role.done.push(step);
    }
}

fn progress(role: &Role, n: u64) -> Progress<u64> {
    let rest = Duration::from_millis(role.rest);
    if role.done.len() + 1 == role.calls.len() {
        Progress::Done(n)
    } else if rest.is_zero() {
        Progress::Continue(n)
    } else {
        Progress::Rest(n, rest)
    }
}

impl Agent {
    async fn call(&self, context: &StepContext<'_>, lasts: Duration) -> Result<(), StepError> {
        match context.session {
            Some(_) => self.call_in_session(context, lasts).await,
            None => self.call_by_handle(context, lasts).await,
        }
    }

    /// As a credential handle sends: acquire, check the fence, send; repeat under a newer version
    /// what was refused.
    async fn call_by_handle(
        &self,
        context: &StepContext<'_>,
        lasts: Duration,
    ) -> Result<(), StepError> {
        let credential = context.credential;
        let pair = credential.pair();
        for _ in 0..CALLS_MAX {
            let lease = credential.call().await?;
            let version = lease.version();
            self.world.check_lease(pair, version);
            let mut headers = HeaderMap::new();
            credential.authorize(&lease, &mut headers)?;
            let key = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
            let key = key.and_then(|bytes| bytes.strip_prefix(b"Bearer ")).unwrap_or_default();
            let answer = tokio::select! {
                biased;
                () = lease.cut() => return Err(StepError::Again(format!("{version} was cut"))),
                answer = self.send(context.task, pair, version, key, lasts) => answer,
            };
            drop(lease);
            match answer {
                Answer::Well => return Ok(()),
                Answer::Broken => return Err(StepError::Again("the vendor broke down".into())),
                Answer::Refused if credential.newer_than(version).await => {}
                Answer::Refused => break,
            }
        }
        Err(StepError::Again("the vendor refuses the key".into()))
    }

    async fn call_in_session(
        &self,
        context: &StepContext<'_>,
        lasts: Duration,
    ) -> Result<(), StepError> {
        let session = context.session.expect("whoever keeps a key has a session");
        let pair = context.credential.pair();
        let version = session.version();
        let key = session.danger_expose_key();
        let answer = tokio::select! {
            biased;
            () = session.cut() => return Err(StepError::Again(format!("{version} was cut"))),
            answer = self.send(context.task, pair, version, key, lasts) => answer,
        };
        match answer {
            Answer::Well => Ok(()),
            Answer::Broken => Err(StepError::Again("the vendor broke down".into())),
            Answer::Refused => {
                context.credential.newer_than(version).await;
                Err(StepError::Again("the vendor refuses the key".into()))
            }
        }
    }

    /// A call as the vendor sees it: it looks at the key when the call arrives.
    async fn send(
        &self,
        task: &TaskKey,
        pair: &PairId,
        version: Version,
        key: &[u8],
        lasts: Duration,
    ) -> Answer {
        let world = &self.world;
        world.live_on().await;
        let owner = world.vendor(pair).books.key_of(key);
        world.note(|| format!("> call {task} {version} {:?}", owner.as_ref().map(|it| &it.id)));
        let answer = match owner {
            None => {
                world.violate("R8", format!("{task} calls with a key that nobody has issued"));
                Answer::Refused
            }
            Some(owner) if owner.tenant != pair.tenant => {
                world.violate("S5", format!("{task} calls with a key of {}", owner.tenant));
                Answer::Refused
            }
            Some(owner) if !owner.is_alive => {
                world.check_call(pair, version, &owner.id);
                Answer::Refused
            }
            Some(_) if world.is_chaos() && world.dice.chance(60) => Answer::Broken,
            Some(_) => {
                tokio::time::sleep(lasts).await;
                Answer::Well
            }
        };
        world.live_on().await;
        world.note(|| {
            let word = match answer {
                Answer::Well => "well",
                Answer::Refused => "refused",
                Answer::Broken => "broken",
            };
            format!("< call {task} {version} -> {word}")
        });
        answer
    }

    /// S6: no side effect takes place twice, unless under the idempotency key that it had.
    fn use_tool(&self, role: &Role, context: &StepContext<'_>) {
        if role.risk == Risk::Repeatable || self.world.is_crashed() {
            return;
        }
        let place = (context.task.clone(), context.n);
        let mut tools = self.tools.lock();
        let uses = tools.entry(place).or_default();
        uses.push(context.idem);
        let is_well = match role.risk {
            Risk::Idempotent => uses.iter().all(|idem| *idem == context.idem),
            _ => uses.len() == 1,
        };
        let times = uses.len();
        drop(tools);
        self.world.note(|| format!("  tool {} step {}, {times}", context.task, context.n));
        if !is_well {
            let (task, n, risk) = (context.task, context.n, role.risk);
            self.world
                .violate("S6", format!("{task} step {n} ({risk:?}) took place {times} times"));
        }
    }
}
