//! The work that is asked of agents, all of it from one seed.
//!
//! keybaton and every comparator run under the same load: the same agent takes the same steps.
//!
//! **Invariant:** what an agent does at a step depends on seed, agent and step alone, never on when
//! it is asked.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::demo::agents::Stop;
use super::limits::{CHUNKS_MAX, STEP_MIN};
use super::steps::StepDist;

/// What agents do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How long steps last.
    pub steps: StepDist,
    /// Share of the steps whose answers are streamed.
    pub streaming: f64,
    /// Share of the agents that keep a key over many steps.
    pub sessions: f64,
    /// Share of a step that such an agent works without a call.
    pub own_work: f64,
}

impl Load {
    fn rng(&self, what: u64, number: u32, step: u64) -> StdRng {
        let agent = self.seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(u64::from(number));
        StdRng::seed_from_u64(
            agent ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ what.rotate_left(32),
        )
    }

    /// Whether the agent keeps its key from step to step.
    pub fn keeps_key(&self, number: u32) -> bool {
        self.rng(1, number, 0).random_bool(self.sessions)
    }

    /// What the agent's step is: how long it works by itself, and then what it asks of the provider.
    pub fn step(&self, number: u32, step: u64) -> (Duration, Stop) {
        let mut rng = self.rng(2, number, step);
        let is_stream = rng.random_bool(self.streaming);
        let mut length = self.steps.draw(&mut rng);
        if step == 0 {
            // Agents that all began just now would all end their steps together.
            length = length.mul_f64(rng.random_range(0.0..1.0)).max(STEP_MIN);
        }
        let share = if self.keeps_key(number) { self.own_work } else { 0.0 };
        let own = length.mul_f64(share);
        let ms = u64::try_from((length - own).as_millis()).unwrap_or(u64::MAX).max(1);
        let stop = if is_stream {
            let chunks = (ms / 100).clamp(1, CHUNKS_MAX);
            Stop::Stream { chunks, every_ms: ms / chunks }
        } else {
            Stop::Chat { latency_ms: ms }
        };
        (own, stop)
    }

    /// Works for as long as the step says. A timer would make even nothing last a millisecond.
    pub async fn work(own: Duration) {
        if !own.is_zero() {
            tokio::time::sleep(own).await;
        }
    }

    /// How many steps an agent takes that lives about as long as this.
    pub fn steps_in(&self, life: Duration) -> u64 {
        let mean = self.steps.mean().as_micros().max(1);
        u64::try_from((life.as_micros() + mean / 2) / mean).unwrap_or(u64::MAX).max(1)
    }

    /// How many of its steps an agent has left that is met at a chance moment of its life.
    pub fn steps_left(&self, number: u32, steps: u64) -> u64 {
        self.rng(3, number, 0).random_range(1..=steps.max(1))
    }

    /// The pauses between arrivals at `rate` a second: as they come, not one by one.
    pub fn arrivals(&self, rate: f64) -> impl Iterator<Item = Duration> + Send + use<> {
        let mut rng = self.rng(4, 0, 0);
        std::iter::repeat_with(move || {
            // A Poisson process: each moment is as likely as any other.
            let chance: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
            Duration::try_from_secs_f64(-chance.ln() / rate).unwrap_or(Duration::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(seed: u64) -> Load {
        let steps = "lognormal:p50=200ms,p99=2s".parse().expect("a distribution");
        Load { seed, steps, streaming: 0.3, sessions: 0.5, own_work: 0.0 }
    }

    #[test]
    fn an_agents_steps_depend_on_seed_agent_and_step_alone() {
        let steps =
            |seed| (0..200).map(|n| load(seed).step(n % 20, u64::from(n))).collect::<Vec<_>>();
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        let streams = (0..1000).filter(|n| matches!(load(1).step(*n, 3).1, Stop::Stream { .. }));
        assert!((250..350).contains(&streams.count()));
        let keeping = (0..1000).filter(|n| load(1).keeps_key(*n)).count();
        assert!((440..560).contains(&keeping), "{keeping}");
    }

    #[test]
    fn own_work_is_a_share_of_the_step_of_those_who_keep_a_key() {
        let all_call = load(1);
        let some_work = Load { own_work: 0.75, ..load(1) };
        let at_provider = |load: &Load, number| match load.step(number, 3).1 {
            Stop::Chat { latency_ms } => latency_ms,
            Stop::Stream { chunks, every_ms } => chunks * every_ms,
            Stop::Tool { .. } => unreachable!("these agents call no tool"),
        };
        for number in 0..100 {
            let own = some_work.step(number, 3).0;
            if !all_call.keeps_key(number) {
                assert_eq!(own, Duration::ZERO);
                continue;
            }
            let called = Duration::from_millis(at_provider(&some_work, number));
            let whole = Duration::from_millis(at_provider(&all_call, number));
            // Streams are cut into pieces of whole milliseconds.
            let lost = whole.abs_diff(own + called);
            assert!(lost <= Duration::from_millis(60), "{whole:?} is not {own:?} and {called:?}");
            assert!(own >= called, "{own:?} of {whole:?}");
        }
    }

    #[test]
    fn arrivals_come_at_their_rate() {
        let sum: Duration = load(1).arrivals(50.0).take(5000).sum();
        assert!((90.0..110.0).contains(&sum.as_secs_f64()), "{sum:?}");
    }
}
