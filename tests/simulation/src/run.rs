//! One run: a world, and one node after the other until the story has ended.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::flaws::Flaw;
use crate::limits::TRACE_SHOWN;
use crate::node::live;
use crate::world::World;

/// What a run must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Faults never end: no promise is broken.
    Safety,
    /// Faults end: everything finishes.
    Liveness,
}

impl Mode {
    /// Its word in lists of seeds.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Liveness => "liveness",
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The promise that was broken, and by what.
    pub violation: Option<String>,
    /// Every port call with its answer, every event; empty unless it was asked for.
    pub trace: String,
    /// How much happened.
    pub events: u64,
    /// How long it lasted in the world.
    pub virtual_time: Duration,
    /// Lives of the node.
    pub lives: u32,
}

impl Outcome {
    /// The last lines of the trace.
    #[must_use]
    pub fn story(&self) -> String {
        let lines: Vec<_> = self.trace.lines().collect();
        lines[lines.len().saturating_sub(TRACE_SHOWN)..].join("\n")
    }
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, mode: Mode, flaw: Option<Flaw>) -> Outcome {
    run_with(seed, mode, flaw, false)
}

/// As [`run`], and writes down what happens.
#[must_use]
pub fn run_traced(seed: u64, mode: Mode, flaw: Option<Flaw>) -> Outcome {
    run_with(seed, mode, flaw, true)
}

fn run_with(seed: u64, mode: Mode, flaw: Option<Flaw>, is_traced: bool) -> Outcome {
    count_panics();
    let before = PANICS.get();
    let http = HTTP.with(Clone::clone);
    let world = World::new(seed, mode, flaw, is_traced);
    while !world.is_over() {
        let life = world.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let runtime = runtime(seed, life);
        runtime.block_on(live(&world, &http));
        // From here on the dead node is nobody's; its actors end with the runtime.
        world.set_node(None);
        drop(runtime);
        if world.is_crashed() && !world.is_over() {
            world.bury();
            if world.dice.chance(200) {
                world.clock.set_forward(world.dice.seconds(1, 120));
            }
            let down = world.dice.millis(1, 8_000);
            world.pass(down);
        }
    }
    if world.violation().is_none() {
        world.check_audit();
    }
    let panics = PANICS.get() - before;
    if panics > 0 {
        world.violate("panic", format!("{panics} in the code of the node"));
    }
    Outcome {
        violation: world.violation(),
        trace: world.trace.take(),
        events: world.trace.events(),
        virtual_time: world.now(),
        lives: world.lives.load(Ordering::Relaxed),
    }
}

fn runtime(seed: u64, life: u32) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    seed_choices(&mut builder, seed, life);
    builder.build().expect("a runtime without sockets")
}

/// The order in which `select!` looks at its branches follows from the seed.
#[cfg(tokio_unstable)]
fn seed_choices(builder: &mut tokio::runtime::Builder, seed: u64, life: u32) {
    let seed = tokio::runtime::RngSeed::from_bytes(format!("{seed}/{life}").as_bytes());
    builder.rng_seed(seed);
}

/// Without the unstable part of tokio its `select!` draws from chance: promises are looked at all
/// the same, but no run can be repeated.
#[cfg(not(tokio_unstable))]
fn seed_choices(_: &mut tokio::runtime::Builder, _: u64, _: u32) {}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
    /// Nothing is ever sent with it; making one reads the certificates of the system.
    static HTTP: reqwest::Client = reqwest::Client::new();
}

/// A panic in an actor or a job is mended by whoever started it, and must not be missed here.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}
