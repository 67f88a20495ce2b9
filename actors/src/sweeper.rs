//! Looks for burned labels at the providers, paced, so that rotations come first.
//!
//! **Invariant:** never touches a key: it tells the record what a listing shows, and the record
//! decides, after checking that nobody claims the key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use keybaton_messages::{Label, PairId, ProviderName};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::jobs;
use crate::limits::SWEEPS_PER_SECOND;
use crate::rotation_actor::RotationMessage;
use crate::shared::Shared;

/// One label to look for.
pub struct SweepRequest {
    /// Whose.
    pub pair: PairId,
    /// Which.
    pub label: Label,
}

/// What the Sweeper is told.
pub enum SweeperMessage {
    /// Look for a label.
    Sweep(SweepRequest),
}

impl ractor::Message for SweeperMessage {}

/// Owns the pace per provider; the records own what is owed.
pub struct Sweeper(pub Arc<Shared>);

/// The pace.
pub struct Pace(Arc<Limiter>);

type Limiter = RateLimiter<
    ProviderName,
    HashMapStateStore<ProviderName>,
    RuntimeClock,
    NoOpMiddleware<Instant>,
>;

/// The clock that the runtime's timers follow, so that pace and waits never disagree.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

async fn until_ready(pace: &Limiter, provider: &ProviderName) {
    while let Err(early) = pace.check_key(provider) {
        tokio::time::sleep(early.wait_time_from(RuntimeClock.now())).await;
    }
}

impl Actor for Sweeper {
    type Msg = SweeperMessage;
    type State = Pace;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<SweeperMessage>,
        (): (),
    ) -> Result<Pace, ActorProcessingErr> {
        self.0.sweeper.set(myself);
        let per_second = NonZeroU32::new(SWEEPS_PER_SECOND).expect("not zero");
        Ok(Pace(Arc::new(RateLimiter::hashmap_with_clock(
            Quota::per_second(per_second),
            RuntimeClock,
        ))))
    }

    async fn handle(
        &self,
        _myself: ActorRef<SweeperMessage>,
        message: SweeperMessage,
        pace: &mut Pace,
    ) -> Result<(), ActorProcessingErr> {
        let SweeperMessage::Sweep(request) = message;
        let shared = self.0.clone();
        let pace = pace.0.clone();
        tokio::spawn(async move {
            until_ready(&pace, &request.pair.provider).await;
            for input in jobs::sweep(&shared, &request).await {
                shared.to_pair(&request.pair, RotationMessage::Happened(input));
            }
        });
        Ok(())
    }
}
