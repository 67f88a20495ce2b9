//! Agents come and go: as many at once as were asked for, and with `--arrival` new ones at planned
//! moments, whatever the node does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use keybaton::{SpawnError, TaskHandle};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::demo::stage::PROVIDER;
use super::agent::{BenchAgent, Notes};
use super::limits::{FLIGHT_WAIT_MAX, LOOK_EVERY, SPAWNS_AT_ONCE};
use super::options::DrainArgs;
use super::stage::Stage;
use super::times::micros;

/// The agents of a run.
pub struct Population {
    tasks: u32,
    arrival: Option<f64>,
    /// Steps of an agent that comes and goes.
    steps: Option<u64>,
    payload: usize,
    spawned: AtomicU32,
    late_max_us: AtomicU64,
    handles: Mutex<Vec<TaskHandle<BenchAgent>>>,
}

impl Population {
    /// The one that was asked for; nobody is there yet.
    pub fn of(args: &DrainArgs, stage: &Stage) -> Self {
        // As many leave as arrive: a life is the crowd divided by the arrivals.
        let life = args.arrival.map(|rate| Duration::from_secs_f64(f64::from(args.tasks) / rate));
        Self {
            tasks: args.tasks,
            arrival: args.arrival,
            steps: life.map(|life| stage.load.steps_in(life)),
            payload: usize::try_from(args.payload).unwrap_or(usize::MAX),
            spawned: AtomicU32::new(0),
            late_max_us: AtomicU64::new(0),
            handles: Mutex::default(),
        }
    }

    /// Spawns those that are there from the beginning, and waits until each has begun a step.
    ///
    /// # Errors
    /// When one is not admitted, or they do not get going.
    pub async fn settle(&self, stage: &Stage) -> anyhow::Result<()> {
        stream::iter(0..self.tasks)
            .map(|number| {
                let steps = self.steps.map(|steps| stage.load.steps_left(number, steps));
                self.spawn(stage, steps)
            })
            .buffer_unordered(SPAWNS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let all = usize::try_from(self.tasks).unwrap_or(usize::MAX);
        let begin = async {
            while stage.recorder.begun() < all {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(FLIGHT_WAIT_MAX, begin).await.is_err() {
            anyhow::bail!(
                "after {FLIGHT_WAIT_MAX:?} only {} of {all} agents have begun; take fewer",
                stage.recorder.begun()
            );
        }
        Ok(())
    }

    /// Lets agents arrive at their moments, for ever; pending when none are to arrive.
    pub async fn arrive(&self, stage: &Stage) -> anyhow::Result<()> {
        let Some(rate) = self.arrival else {
            return std::future::pending().await;
        };
        let mut due = Instant::now();
        for pause in stage.load.arrivals(rate) {
            due += pause;
            tokio::time::sleep_until(due).await;
            self.spawn(stage, self.steps).await?;
            // The next one's moment is planned from this one's, not from when it was carried out.
            self.late_max_us.fetch_max(micros(due.elapsed()), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn spawn(&self, stage: &Stage, steps: Option<u64>) -> Result<(), SpawnError> {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let place = number as usize % stage.tenants.len();
        let notes = Notes {
            number,
            tenant: number % u32::try_from(stage.tenants.len()).unwrap_or(u32::MAX),
            steps,
            taken: 0,
            memory: vec![0x5a; self.payload],
        };
        let name = format!("agent-{number:06}");
        let handle =
            stage.node.spawn::<BenchAgent>(&stage.tenants[place], PROVIDER, &name, notes).await?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// How many were spawned.
    pub fn spawned(&self) -> u32 {
        self.spawned.load(Ordering::Relaxed)
    }

    /// The longest that an arrival was behind its moment, in microseconds.
    pub fn late_max_us(&self) -> u64 {
        self.late_max_us.load(Ordering::Relaxed)
    }

    /// Waits until all have ended; says why those failed that did.
    pub async fn end(&self) -> Vec<String> {
        let handles = std::mem::take(&mut *self.handles.lock());
        let mut failures = Vec::new();
        for handle in handles {
            let task = handle.key().to_string();
            if let Err(failure) = handle.join().await {
                failures.push(format!("{task}: {failure}"));
            }
        }
        failures
    }
}
