//! One pair's rotation. Owns the pair record and nothing else.
//!
//! Told what to do by triggers and orders; told what happened by its jobs and timers. Each input
//! goes through `rotation::step`, the decision is committed, and only then are its effects started.
//!
//! **Invariant:** never holds secret bytes; it holds version numbers.
//! **Invariant:** acts only on what is already in the journal, and decides nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use keybaton_messages::{PairId, Rev, RotationId, TxnId};
use keybaton_ports::{CommitError, Refusal, Transaction, crash_point};
use keybaton_rotation::{
    Context, Decision, Effect, Guard, Input, Order, Owner, PairRecord, Policy, Reply, Timer,
    Trigger, step,
};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::audit_shipper::AuditMessage;
use crate::broker_actor::BrokerMessage;
use crate::jobs;
use crate::limits::{GUARD_ROUNDS_MAX, STORE_RETRY};
use crate::scheduler::SchedulerMessage;
use crate::shared::Shared;
use crate::telemetry;

/// Where the answer to a trigger or an order goes.
pub type ReplyPort = oneshot::Sender<Reply>;

/// What a RotationActor is told.
pub enum RotationMessage {
    /// Read the record and go on with it. The first message of every life.
    Begin,
    /// Something happened.
    Happened(Input),
    /// Somebody wants something.
    Triggered(Trigger, ReplyPort),
    /// An operator orders something.
    Ordered(Order, ReplyPort),
    /// A timer rang; one that was replaced since carries an old number.
    Rang(Timer, u64),
    /// Events up to this revision were published.
    Published(Rev),
}

impl ractor::Message for RotationMessage {}

/// Works on one pair.
pub struct RotationActor(pub Arc<Shared>);

type TimerHandle = JoinHandle<Result<(), MessagingErr<RotationMessage>>>;

/// A pair at work.
pub struct PairWork {
    pair: PairId,
    record: Option<Arc<PairRecord>>,
    /// A person must look; nothing is done any more.
    stopped: Option<String>,
    timers: BTreeMap<Timer, (u64, TimerHandle)>,
    timer_numbers: u64,
    published: Option<Rev>,
}

impl Drop for PairWork {
    fn drop(&mut self) {
        for (_, timer) in self.timers.values() {
            timer.abort();
        }
    }
}

/// What became of one commit.
enum Committed {
    Yes,
    /// The guard says this happened.
    Instead(Input),
    /// Read the record again.
    Reload,
    /// Nothing more to do here.
    Stopped(String),
}

impl Actor for RotationActor {
    type Msg = RotationMessage;
    type State = PairWork;
    type Arguments = PairId;

    async fn pre_start(
        &self,
        myself: ActorRef<RotationMessage>,
        pair: PairId,
    ) -> Result<PairWork, ActorProcessingErr> {
        self.0.rotations.insert(pair.clone(), myself.clone());
        myself.cast(RotationMessage::Begin)?;
        Ok(PairWork {
            pair,
            record: None,
            stopped: None,
            timers: BTreeMap::new(),
            timer_numbers: 0,
            published: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RotationMessage>,
        message: RotationMessage,
        work: &mut PairWork,
    ) -> Result<(), ActorProcessingErr> {
        let mut turn = Turn { shared: &self.0, myself: &myself, work };
        // Boxed, so that an idle pair does not carry the size of its busiest moment.
        let span = telemetry::span(&turn.work.pair, turn.rotation().as_ref());
        Box::pin(turn.handle(message).instrument(span)).await.map_err(Into::into)
    }
}

struct Turn<'a> {
    shared: &'a Arc<Shared>,
    myself: &'a ActorRef<RotationMessage>,
    work: &'a mut PairWork,
}

impl Turn<'_> {
    async fn handle(&mut self, message: RotationMessage) -> Result<(), String> {
        let (input, reply) = match message {
            RotationMessage::Begin => return self.begin().await,
            RotationMessage::Published(rev) => {
                self.work.published = self.work.published.max(Some(rev));
                return Ok(());
            }
            RotationMessage::Rang(timer, number) => match self.work.timers.get(&timer) {
                Some((armed, _)) if *armed == number => {
                    self.work.timers.remove(&timer);
                    (Input::Elapsed(timer), None)
                }
                _ => return Ok(()),
            },
            RotationMessage::Happened(input) => (input, None),
            RotationMessage::Triggered(trigger, reply) => (Input::Triggered(trigger), Some(reply)),
            RotationMessage::Ordered(order, reply) => (Input::Ordered(order), Some(reply)),
        };
        self.take(input, reply).await
    }

    /// Starting, restarting and going on after a conflict are one routine.
    async fn begin(&mut self) -> Result<(), String> {
        let stored = match self.load().await {
            Ok(stored) => stored,
            // Started again it would read the same bytes: the pair waits for a person.
            Err(why) => return self.stop(why),
        };
        let Owner { node, incarnation } = self.me();
        let pair = &self.work.pair;
        let record = match stored {
            Some(mut record) => {
                if crash_point::is_mutant("forgets-obligations") {
                    Arc::make_mut(&mut record).obligations.clear();
                }
                record
            }
            None => {
                let Some(entry) = self.shared.ports.providers.get(&pair.provider) else {
                    return self.stop("its provider is not configured on this node".into());
                };
                let tag = self.shared.ports.pair_tag(pair);
                let deployment = self.shared.ports.deployment.clone();
                let class = entry.provider.capabilities().class;
                Arc::new(PairRecord::new(pair.clone(), deployment, tag, class, self.me()))
            }
        };
        self.work.record = Some(record);
        self.take(Input::Started { node, incarnation }, None).await
    }

    fn me(&self) -> Owner {
        let life = &self.shared.life;
        Owner { node: life.node.clone(), incarnation: life.incarnation }
    }

    /// Asks until the journal answers; an error says why the record cannot be read.
    async fn load(&self) -> Result<Option<Arc<PairRecord>>, String> {
        let load = || self.shared.ports.journal.load(&self.work.pair);
        let answer = load
            .retry(STORE_RETRY)
            .when(|refusal| !matches!(refusal, Refusal::Denied { .. }))
            .notify(|refusal, _| {
                tracing::warn!(pair = %self.work.pair, %refusal, "the journal is away");
            });
        match answer.await {
            Ok(stored) => Ok(stored.map(|stored| stored.record)),
            Err(refusal) => Err(format!("its record cannot be read: {refusal}")),
        }
    }

    /// One input: step, commit, effects. A refused guard is answered by the input that it means.
    async fn take(&mut self, input: Input, mut reply: Option<ReplyPort>) -> Result<(), String> {
        let mut input = input;
        for _ in 0..GUARD_ROUNDS_MAX {
            if let Some(why) = &self.work.stopped {
                send(reply.take(), Reply::Refused(format!("the pair is stopped: {why}")));
                return Ok(());
            }
            let Some(record) = self.work.record.clone() else {
                return Box::pin(self.begin()).await;
            };
            let mut decision = match self.decide(&record, &input) {
                Ok(decision) => decision,
                Err(why) => return self.stop(why),
            };
            let effects = match decision.record.take().map(Arc::new) {
                None => decision.effects,
                Some(next) => match self.commit(&record, next.clone(), &decision).await {
                    Committed::Yes => {
                        crash_point::committed(&record, &next);
                        self.committed(&record, next);
                        decision.effects
                    }
                    Committed::Instead(meant) => {
                        if let Some(port) = reply.take() {
                            send(Some(port), Reply::Refused("the key is already known".into()));
                        }
                        input = meant;
                        continue;
                    }
                    Committed::Reload => {
                        self.work.record = None;
                        Box::pin(self.begin()).await?;
                        continue;
                    }
                    Committed::Stopped(why) => return self.stop(why),
                },
            };
            self.carry_out(effects, &mut reply);
            return Ok(());
        }
        Err(format!("{}: guards were refused {GUARD_ROUNDS_MAX} times in a row", self.work.pair))
    }

    /// What a write means that was refused because somebody began to own the pair.
    async fn fenced(&self, before: &PairRecord) -> Committed {
        match self.load().await {
            Ok(Some(stored)) if !stored.is_taken_from(&self.me(), before) => Committed::Reload,
            Ok(_) => Committed::Stopped("another owner writes this pair".into()),
            Err(why) => Committed::Stopped(why),
        }
    }

    fn decide(&self, record: &PairRecord, input: &Input) -> Result<Decision, String> {
        let default = Policy::default();
        let policy = self
            .shared
            .ports
            .providers
            .get(&self.work.pair.provider)
            .map_or(&default, |entry| &entry.policy);
        let context = Context {
            now: self.shared.ports.clock.now(),
            jitter: self.shared.ports.entropy.bits(),
            policy,
        };
        tracing::trace!(pair = %self.work.pair, ?input, "step");
        step(record, input.clone(), &context).map_err(|impossible| impossible.to_string())
    }

    /// Commits one decision. An unknown outcome is asked again under the same transaction id until
    /// it is known: either it had been applied, or it applies now.
    async fn commit(
        &mut self,
        before: &PairRecord,
        next: Arc<PairRecord>,
        decision: &Decision,
    ) -> Committed {
        let transaction = Transaction {
            id: TxnId(self.shared.ports.entropy.bytes16()),
            by: self.shared.life.clone(),
            expect: (before.epoch, before.rev),
            record: next,
            guards: if crash_point::is_mutant("counts-nobody") {
                Vec::new()
            } else {
                decision.guards.clone()
            },
            grants: decision.grants,
            audit: decision.audit.clone(),
            outbox: decision.outbox.clone(),
            published: self.work.published,
        };
        let is_issue = |effect: &Effect| matches!(effect, Effect::Issue { .. });
        if crash_point::is_mutant("forgets-intent") && decision.effects.iter().any(is_issue) {
            return Committed::Yes;
        }
        crash_point::committing(before, &transaction.record);
        if crash_point::doubles("commit", &self.work.pair.tenant) {
            drop(self.shared.ports.journal.commit(transaction.clone()).await);
        }
        let is_asked_again = |error: &CommitError| {
            matches!(error, CommitError::Unknown(_) | CommitError::Unavailable(_))
        };
        let commit = || self.shared.ports.journal.commit(transaction.clone());
        let answer = commit.retry(STORE_RETRY).when(is_asked_again).notify(|error, _| {
            tracing::warn!(pair = %self.work.pair, %error, "the commit is asked again");
        });
        match answer.await {
            Ok(_) => Committed::Yes,
            Err(CommitError::Refused { guard, left }) => Committed::Instead(meaning(guard, left)),
            Err(CommitError::Fenced) => self.fenced(before).await,
            Err(CommitError::Corrupt(why)) => Committed::Stopped(why),
            // Nothing is known any more: the record tells.
            Err(CommitError::Conflict | CommitError::Unknown(_) | CommitError::Unavailable(_)) => {
                Committed::Reload
            }
        }
    }

    fn committed(&mut self, before: &PairRecord, next: Arc<PairRecord>) {
        let now = self.shared.ports.clock.now();
        let began = self.shared.views.phase_began(&self.work.pair);
        telemetry::record_changed(before, &next, now, began.map(|at| at.until(now)));
        self.shared.views.show(&next, now);
        let changes_handing_out = before.gate != next.gate
            || before.active != next.active
            || before.epoch != next.epoch
            || before.versions.iter().any(|(v, entry)| next.status(*v) != Some(entry.status));
        self.work.record = Some(next);
        if changes_handing_out {
            self.shared.broker_inbox.cast(BrokerMessage::Attend(self.work.pair.clone()));
        }
        self.shared.shipper.cast(AuditMessage::Ship(self.work.pair.clone()));
    }

    fn carry_out(&mut self, effects: Vec<Effect>, reply: &mut Option<ReplyPort>) {
        for effect in effects {
            if crash_point::doubles_effect(&effect, &self.work.pair.tenant) {
                self.start(effect.clone(), reply);
            }
            self.start(effect, reply);
        }
        send(reply.take(), Reply::Done);
    }

    fn start(&mut self, effect: Effect, reply: &mut Option<ReplyPort>) {
        let pair = self.work.pair.clone();
        match effect {
            Effect::Arm(Timer::Rotate, due) => {
                self.shared.scheduler.cast(SchedulerMessage::Due(pair, due.at));
            }
            Effect::Arm(timer, due) => {
                let now = self.shared.ports.clock.now();
                self.arm(timer, now.until(due.at).min(due.wait));
            }
            Effect::ArmFor(timer, wait) => self.arm(timer, wait),
            Effect::Close { .. } => {
                self.shared.broker_inbox.cast(BrokerMessage::Attend(pair));
            }
            Effect::Signal { version, .. } => {
                self.shared.broker_inbox.cast(BrokerMessage::Signal(pair, version));
            }
            Effect::Cut { version } => {
                self.shared.broker_inbox.cast(BrokerMessage::Cut(pair, version));
            }
            Effect::Page(page) => telemetry::page(&pair, self.rotation().as_ref(), &page.why),
            Effect::Reply(answer) => send(reply.take(), answer),
            job => jobs::start(self.shared, self.myself, self.work.record.as_deref(), &pair, job),
        }
    }

    fn arm(&mut self, timer: Timer, wait: Duration) {
        self.work.timer_numbers += 1;
        let number = self.work.timer_numbers;
        let handle = self.myself.send_after(wait, move || RotationMessage::Rang(timer, number));
        if let Some((_, replaced)) = self.work.timers.insert(timer, (number, handle)) {
            replaced.abort();
        }
    }

    fn rotation(&self) -> Option<RotationId> {
        self.work.record.as_ref()?.rotation.as_ref().map(|rotation| rotation.id.clone())
    }

    /// The pair stops: a wrong guess about a key is worse than a key that is not rotated.
    fn stop(&mut self, why: String) -> Result<(), String> {
        telemetry::page(&self.work.pair, self.rotation().as_ref(), &format!("pair stopped: {why}"));
        self.shared.views.show_stopped(&self.work.pair, &why);
        for (_, timer) in std::mem::take(&mut self.work.timers).into_values() {
            timer.abort();
        }
        self.work.stopped = Some(why);
        Ok(())
    }
}

fn meaning(guard: Guard, left: u32) -> Input {
    match guard {
        Guard::NoGrants(version) => Input::GrantReturned { version, left: left.max(1) },
        Guard::KeyUnclaimed { version, .. } => Input::KeyClaimed { version },
    }
}

fn send(port: Option<ReplyPort>, reply: Reply) {
    if let Some(port) = port {
        // The caller may have stopped waiting; its trigger stands all the same.
        let _ = port.send(reply);
    }
}
