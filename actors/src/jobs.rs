//! The effects that ask the world, each one a job whose answer comes back as an input.
//!
//! **Invariant:** every job answers within its deadline, also when it panics; only Issue is never
//! asked again.
//! **Invariant:** a secret lives here only between the provider's answer and the secret store.

mod issue;

use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use futures::FutureExt;
use keybaton_messages::{Label, PairId, ProviderKeyId, SecretVersion, Timestamp, Version};
use keybaton_ports::{Denial, Generation, Refusal, Witness, crash_point};
use keybaton_rotation::{Class, Effect, Health, Input, PairRecord};
use ractor::ActorRef;
use tracing::Instrument;

use crate::limits::{
    DEAD_QUESTIONS_MAX, QUESTION_MAX, SECRET_PUT_PATIENCE, STORE_RETRY, STORE_RETRY_MAX,
};
use crate::rotation_actor::RotationMessage;
use crate::shared::{ProviderEntry, Shared};
use crate::sweeper::{SweepRequest, SweeperMessage};

/// Starts the job behind an effect.
pub(crate) fn start(
    shared: &Arc<Shared>,
    actor: &ActorRef<RotationMessage>,
    record: Option<&PairRecord>,
    pair: &PairId,
    effect: Effect,
) {
    let job = Job { shared: shared.clone(), actor: actor.clone(), pair: pair.clone() };
    match effect {
        Effect::Sweep { label } => {
            let request = SweepRequest { pair: pair.clone(), label };
            shared.sweeper.cast(SweeperMessage::Sweep(request));
        }
        Effect::Publish => job.detach(Job::publish),
        Effect::Witness => {
            if let Some(record) = record {
                let (rev, epoch, active) = (record.rev, record.epoch, record.active);
                let journal = Some(Generation::of(&shared.ports.deployment));
                let witness = Witness { rev, epoch, active, journal };
                job.detach(move |job| async move { job.witness(witness).await });
            }
        }
        question => job.ask(question),
    }
}

struct Job {
    shared: Arc<Shared>,
    actor: ActorRef<RotationMessage>,
    pair: PairId,
}

impl Job {
    fn detach<F: Future<Output = ()> + Send + 'static>(self, work: impl FnOnce(Self) -> F) {
        let span = tracing::Span::current();
        tokio::spawn(work(self).instrument(span));
    }

    /// Runs a question and sends its answer; a question that panics or hangs is answered by its
    /// most careful answer.
    fn ask(self, effect: Effect) {
        let careful = careful_answer(&effect);
        let limit = time_limit(&effect);
        let is_locate = matches!(effect, Effect::Locate { .. });
        let span = tracing::Span::current();
        let job = async move {
            let actor = self.actor.clone();
            let work = std::panic::AssertUnwindSafe(self.answer(effect)).catch_unwind();
            let answer = match tokio::time::timeout(limit, work).await {
                Ok(Ok(answer)) => answer,
                // Whether the label has a secret must be a fact; the actor begins again and asks.
                Ok(Err(_panic)) if is_locate => {
                    let _timer = actor.send_after(STORE_RETRY_MAX, || RotationMessage::Begin);
                    return;
                }
                Ok(Err(_panic)) => careful,
                Err(_elapsed) => careful,
            };
            if let Some(input) = answer {
                // An actor that is gone asks again when it starts.
                let _ = actor.cast(RotationMessage::Happened(input));
            }
        };
        tokio::spawn(job.instrument(span));
    }

    async fn answer(self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Preflight { attempt } => Some(self.preflight(attempt).await),
            Effect::Issue { version, label, lifetime, timeout } => {
                Some(self.issue(version, label, lifetime, timeout).await)
            }
            Effect::Locate { version, label } => self.locate(version, &label).await,
            Effect::Probe { version, secret, attempt } => {
                let health = self.probe(secret).await;
                Some(Input::Probed { version, attempt, health })
            }
            Effect::Revoke { version, key_id, confirm_dead } => {
                Some(self.revoke(version, &key_id, confirm_dead).await)
            }
            Effect::Destroy { version, secret, label } => {
                Some(self.destroy(version, secret, label).await)
            }
            Effect::Count { version } => {
                if crash_point::is_mutant("counts-nobody") {
                    return Some(Input::GrantReturned { version, left: 0 });
                }
                let counted = self.shared.ports.journal.count_grants(&self.pair, version).await;
                counted.ok().map(|left| Input::GrantReturned { version, left })
            }
            Effect::Ask { version, label, until } => {
                tracing::warn!(
                    pair = %self.pair, %version, %label, until_ms = until.0,
                    "a person must create the key with this label as its name and submit it"
                );
                None
            }
            _ => None,
        }
    }

    fn entry(&self) -> Result<&ProviderEntry, Refusal> {
        self.shared.ports.providers.get(&self.pair.provider).ok_or_else(|| {
            Refusal::denied(Denial::NotFound, "the provider is not configured on this node")
        })
    }

    async fn preflight(&self, attempt: Version) -> Input {
        match self.try_preflight().await {
            Ok(person) => Input::PreflightOk { attempt, person },
            Err(refusal) => {
                let page = matches!(refusal, Refusal::Denied { .. });
                let after = match &refusal {
                    Refusal::Busy { after, .. } => *after,
                    _ => None,
                };
                Input::PreflightRefused { attempt, after, page, why: refusal.to_string() }
            }
        }
    }

    async fn try_preflight(&self) -> Result<bool, Refusal> {
        let entry = self.entry()?;
        let capabilities = entry.provider.capabilities();
        self.shared.ports.secrets.preflight(&self.pair).await?;
        self.demand_newest_record().await?;
        if capabilities.class == Class::B {
            self.shared.ports.checkpoints.preflight().await?;
        }
        if !capabilities.person_issues {
            entry.provider.preflight(&self.pair.tenant).await?;
        }
        Ok(capabilities.person_issues)
    }

    /// A journal that was restored to an older state knows nothing of the keys that were issued
    /// since, and would give their labels and versions away once more; a journal that is another
    /// one knows of none. The secret store has seen them: its witness is written only after the
    /// record.
    async fn demand_newest_record(&self) -> Result<(), Refusal> {
        let Some(witness) = self.shared.ports.secrets.witness(&self.pair).await? else {
            return Ok(());
        };
        let this = Generation::of(&self.shared.ports.deployment);
        if let Some(other) = witness.journal.filter(|journal| *journal != this) {
            let why = format!(
                "the secret store has seen this pair in the journal {other}, and this one is {this}: \
                 go on with that one; if it is gone for good, revoke the keys that it knew and \
                 remove the witness from the secret store, and do not rotate before"
            );
            return Err(Refusal::denied(Denial::Corrupt, why));
        }
        let stored = self.shared.ports.journal.load(&self.pair).await?;
        let record = stored.as_ref().map(|stored| &stored.record);
        if record.is_some_and(|record| !record.is_behind(witness.rev, witness.active)) {
            return Ok(());
        }
        let own = record.map_or_else(
            || "no record".to_owned(),
            |record| {
                format!("revision {} with no version from {} on", record.rev, record.next_version)
            },
        );
        let seen = witness.active.map_or_else(|| "no version".to_owned(), |it| it.to_string());
        let why = format!(
            "the journal has {own} of this pair, and the secret store has seen revision {} with \
             {seen}: the journal is an older copy; restore the newest one, and do not rotate before",
            witness.rev
        );
        Err(Refusal::denied(Denial::Corrupt, why))
    }

    async fn probe(&self, secret: SecretVersion) -> Health {
        let Ok(entry) = self.entry() else {
            return Health::Unknown;
        };
        match self.shared.ports.secrets.read(&self.pair, secret).await {
            Ok(stored) => {
                crash_point::reach("probe.sending", &self.pair.tenant);
                let health = entry.provider.probe(&self.pair.tenant, &stored.secret).await;
                crash_point::reach("probe.answered", &self.pair.tenant);
                health
            }
            Err(_) => Health::Unknown,
        }
    }

    async fn revoke(
        &self,
        version: Version,
        key_id: &ProviderKeyId,
        confirm_dead: Option<SecretVersion>,
    ) -> Input {
        let refused = |after, why| Input::RevokeRefused { version, after, why };
        if !self.shared.fence.may_act(self.shared.ports.clock.as_ref()) {
            return refused(None, "this node lost its lease".into());
        }
        let entry = match self.entry() {
            Ok(entry) => entry,
            Err(refusal) => return refused(None, refusal.to_string()),
        };
        crash_point::reach("revoke.sending", &self.pair.tenant);
        let answer = entry.provider.revoke(&self.pair.tenant, key_id).await;
        crash_point::reach("revoke.answered", &self.pair.tenant);
        match answer {
            Ok(()) => {}
            Err(Refusal::Busy { after, why }) => return refused(after, why),
            Err(Refusal::Denied { why, .. }) => return refused(None, why),
            Err(Refusal::Unknown { why }) => return Input::RevokeUnknown { version, why },
        }
        match confirm_dead {
            Some(secret) if !self.is_dead(secret).await => {
                let why = "the provider still accepts the revoked key".into();
                Input::RevokeUnknown { version, why }
            }
            _ => Input::Revoked { version },
        }
    }

    async fn is_dead(&self, secret: SecretVersion) -> bool {
        let ask = async || {
            // Of a secret that is destroyed nothing is left to try the provider with.
            let dead = self.is_destroyed(secret).await || self.probe(secret).await == Health::Dead;
            dead.then_some(()).ok_or(())
        };
        ask.retry(STORE_RETRY.with_max_times(DEAD_QUESTIONS_MAX)).await.is_ok()
    }

    async fn is_destroyed(&self, secret: SecretVersion) -> bool {
        let read = self.shared.ports.secrets.read(&self.pair, secret).await;
        matches!(read, Err(Refusal::Denied { denial: Denial::NotFound, .. }))
    }

    async fn destroy(
        &self,
        version: Version,
        secret: Option<SecretVersion>,
        label: Option<Label>,
    ) -> Input {
        crash_point::reach("secret.destroying", &self.pair.tenant);
        match self.try_destroy(secret, label).await {
            Ok(()) => {
                crash_point::reach("secret.destroyed", &self.pair.tenant);
                Input::Destroyed { version }
            }
            Err(refusal) => Input::DestroyFailed { version, why: refusal.to_string() },
        }
    }

    async fn try_destroy(
        &self,
        secret: Option<SecretVersion>,
        label: Option<Label>,
    ) -> Result<(), Refusal> {
        let secrets = &self.shared.ports.secrets;
        if let Some(secret) = secret {
            secrets.destroy(&self.pair, secret).await?;
        }
        if let Some(label) = label {
            // A put that was late may lie under the label.
            self.shared.issue_jobs.ended(&label).await;
            if let Some((late, _)) = secrets.find(&self.pair, &label).await? {
                secrets.destroy(&self.pair, late).await?;
            }
        }
        Ok(())
    }

    async fn publish(self) {
        let Ok(events) = self.shared.ports.journal.outbox(&self.pair).await else {
            return;
        };
        let mut published = None;
        crash_point::reach("event.publishing", &self.pair.tenant);
        for event in &events {
            let trace = self.shared.ports.trace(event);
            if let Err(refusal) = self.shared.ports.bus.publish(event, trace).await {
                tracing::warn!(pair = %self.pair, %refusal, "event not published; readers learn it from the record");
                break;
            }
            published = Some(event.rev);
        }
        crash_point::reach("event.published", &self.pair.tenant);
        if let Some(rev) = published {
            let _ = self.actor.cast(RotationMessage::Published(rev));
        }
    }

    async fn witness(self, witness: Witness) {
        crash_point::reach("witness.writing", &self.pair.tenant);
        if let Err(refusal) = self.shared.ports.secrets.put_witness(&self.pair, witness).await {
            tracing::warn!(pair = %self.pair, %refusal, "witness not written");
        }
    }
}

fn time_limit(effect: &Effect) -> Duration {
    match effect {
        Effect::Issue { timeout, .. } => *timeout + SECRET_PUT_PATIENCE + QUESTION_MAX,
        // Asks until the store answers.
        Effect::Locate { .. } => Duration::MAX,
        _ => QUESTION_MAX,
    }
}

/// What is true when nothing is known.
fn careful_answer(effect: &Effect) -> Option<Input> {
    let why = || "the question was given up".to_owned();
    match effect {
        Effect::Preflight { attempt } => Some(Input::PreflightRefused {
            attempt: *attempt,
            after: None,
            page: false,
            why: why(),
        }),
        Effect::Issue { version, .. } => {
            Some(Input::IssueUnknown { version: *version, why: why() })
        }
        Effect::Probe { version, attempt, .. } => {
            Some(Input::Probed { version: *version, attempt: *attempt, health: Health::Unknown })
        }
        Effect::Revoke { version, .. } => {
            Some(Input::RevokeUnknown { version: *version, why: why() })
        }
        Effect::Destroy { version, .. } => {
            Some(Input::DestroyFailed { version: *version, why: why() })
        }
        _ => None,
    }
}

/// One listing of a provider, searched for a label.
pub(crate) async fn sweep(shared: &Shared, request: &SweepRequest) -> Vec<Input> {
    let SweepRequest { pair, label } = request;
    let asked: Timestamp = shared.ports.clock.now();
    let failed = |why: String| vec![Input::SweepFailed { label: label.clone(), why }];
    let Some(entry) = shared.ports.providers.get(&pair.provider) else {
        return failed("the provider is not configured on this node".into());
    };
    crash_point::reach("sweep.listing", &pair.tenant);
    let listed =
        tokio::time::timeout(QUESTION_MAX, entry.provider.list(&pair.tenant, label.as_str())).await;
    crash_point::reach("sweep.listed", &pair.tenant);
    match listed {
        Err(_elapsed) => failed("no answer to the listing".into()),
        Ok(Err(refusal)) => failed(refusal.to_string()),
        Ok(Ok(keys)) => {
            let ours: Vec<_> = keys.into_iter().filter(|key| key.name == label.as_str()).collect();
            let swept = |found| Input::Swept { label: label.clone(), asked, found };
            if ours.is_empty() {
                vec![swept(None)]
            } else {
                ours.into_iter().map(|key| swept(Some(key.key_id))).collect()
            }
        }
    }
}
