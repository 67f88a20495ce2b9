//! Looks for burned labels at the providers, paced, so that rotations come first.
//!
//! **Invariant:** never touches a key: it tells the record what a listing shows, and the record
//! decides, after checking that nobody claims the key.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
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
pub struct Pace(Arc<DefaultKeyedRateLimiter<ProviderName>>);

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
        Ok(Pace(Arc::new(RateLimiter::keyed(Quota::per_second(per_second)))))
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
            pace.until_key_ready(&request.pair.provider).await;
            for input in jobs::sweep(&shared, &request).await {
                shared.to_pair(&request.pair, RotationMessage::Happened(input));
            }
        });
        Ok(())
    }
}
