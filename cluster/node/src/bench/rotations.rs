//! Rotations on a fixed schedule, each watched from its planned beginning to its last effect.
//!
//! **Invariant:** a rotation's moment comes from the schedule. When its pair's last one still runs
//! it begins later, and what it was late is in its row.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use keybaton::PairView;
use keybaton::messages::{PairId, RotationId, Version};
use keybaton_rotation::{End, Phase};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::super::demo::ProviderClass;
use super::super::demo::stage::PROVIDER;
use super::limits::{COUNT_AGAIN_AFTER_US, COUNT_EVERY, COUNT_LEAST_EVERY, COUNT_REST, LOOK_EVERY};
use super::options::DrainArgs;
use super::sighting::{Count, Sighting};
use super::stage::Stage;

/// When rotations begin, and how long each is watched.
pub struct Schedule {
    /// Moments at which rotations begin, warm-up included.
    pub moments: u32,
    /// Rotations that begin at each.
    pub at_once: u32,
    /// All of them, warm-up included.
    pub rotations: u32,
    /// Of them, those that do not count.
    pub warm_up: u32,
    /// Between two moments.
    pub every: Duration,
    /// How long a drain is watched.
    pub deadline: Duration,
    /// How the provider behaves on issue.
    pub class: ProviderClass,
}

impl Schedule {
    /// The one that was asked for.
    pub fn of(args: &DrainArgs) -> Self {
        let moments = args.rotations.saturating_add(args.warmup);
        Self {
            moments,
            at_once: args.at_once,
            rotations: moments.saturating_mul(args.at_once),
            warm_up: args.warmup.saturating_mul(args.at_once),
            every: args.every(),
            deadline: args.deadline(),
            class: args.provider_class,
        }
    }

    /// Runs it, and tells `on_end` of each rotation. `stop` ends it early: what is watched then is
    /// counted with the time that was waited for it.
    pub async fn run(
        &self,
        stage: &Stage,
        mut stop: watch::Receiver<bool>,
        mut on_end: impl FnMut(&Sighting),
    ) -> Vec<Sighting> {
        let turns: Vec<_> = stage.tenants.iter().map(|_| Arc::new(Mutex::new(()))).collect();
        let begin = Instant::now();
        let mut watched = FuturesUnordered::new();
        let mut seen = Vec::new();
        let mut next = 0;
        loop {
            let due = begin + self.every * (next / self.at_once);
            let is_more = next < self.rotations && !*stop.borrow();
            if !is_more && watched.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due), if is_more => {
                    let tenant = next as usize % stage.tenants.len();
                    let watch = Watch { schedule: self, stage, number: next, due, tenant };
                    watched.push(watch.run(turns[tenant].clone(), stop.clone()));
                    next += 1;
                }
                Some(sighting) = watched.next() => {
                    on_end(&sighting);
                    seen.push(sighting);
                }
                _ = stop.changed(), if is_more => {}
            }
        }
        drop(watched);
        seen.sort_by_key(|sighting| sighting.number);
        seen
    }
}

/// One rotation that is watched.
struct Watch<'a> {
    schedule: &'a Schedule,
    stage: &'a Stage,
    number: u32,
    due: Instant,
    tenant: usize,
}

impl Watch<'_> {
    async fn run(self, turn: Arc<Mutex<()>>, stop: watch::Receiver<bool>) -> Sighting {
        // One rotation of a pair at a time: a second one would be answered by the first.
        let _turn = turn.lock().await;
        let recorder = &self.stage.recorder;
        let mut it = Sighting {
            number: self.number,
            is_warm_up: self.number < self.schedule.warm_up,
            tenant: self.stage.tenants[self.tenant].clone(),
            planned: recorder.moment(self.due),
            asked: recorder.now(),
            is_without_revocation: self.schedule.class == ProviderClass::B,
            ended: "not ended".to_owned(),
            ..Sighting::default()
        };
        if *stop.borrow() {
            it.ended = "not started".to_owned();
            return it;
        }
        if let Err(why) = self.watch(&mut it, stop).await {
            it.ended = format!("refused: {why:#}");
        }
        it.looked = recorder.now();
        it
    }

    async fn watch(
        &self,
        it: &mut Sighting,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (node, recorder) = (&self.stage.node, &self.stage.recorder);
        let pair = node.pair(&it.tenant, PROVIDER)?;
        let mut views = node.watch(&pair);
        let active = views.borrow().record.as_ref().and_then(|record| record.active);
        let Some(old) = active else { anyhow::bail!("the pair has no key") };
        let rotation = node.rotate(&it.tenant, PROVIDER, "bench drain").await?;
        it.rotation = rotation.to_string();
        let mut next_count = Instant::now();
        // Counted from the commit, once that is there.
        let mut end = Instant::now() + self.schedule.deadline;
        let mut is_draining = false;
        loop {
            let is_over = self.look(it, &views.borrow_and_update(), &rotation);
            let begins_to_drain = it.committed.is_some() && !is_draining;
            if begins_to_drain {
                is_draining = true;
                end = Instant::now() + self.schedule.deadline;
            }
            let is_last = is_over || *stop.borrow() || Instant::now() >= end;
            if begins_to_drain || is_last || Instant::now() >= next_count {
                next_count = Instant::now() + self.rest_after(|| self.count(it, &pair, old));
            }
            if is_last {
                break;
            }
            tokio::select! {
                _ = views.changed() => {}
                () = tokio::time::sleep_until(next_count) => {}
                _ = stop.changed() => {}
                () = tokio::time::sleep_until(end) => {}
            }
        }
        // The last of them have left the old key and write down what they did with it.
        let tenant = u32::try_from(self.tenant).unwrap_or(u32::MAX);
        while !*stop.borrow() && Instant::now() < end && recorder.still_on(tenant, old.0) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let drain = node.drains(&pair).into_iter().rev().find(|drain| drain.version == old);
        if let Some(drain) = drain {
            it.closed = drain.closed_at.map(|at| recorder.moment(at));
            it.emptied = drain.drained_at.map(|at| recorder.moment(at));
            it.holders_at_close = drain.holders_at_close;
        }
        it.looked = recorder.now();
        if let Some(committed) = it.committed {
            it.tasks = recorder.take(tenant, old.0, committed);
        }
        Ok(())
    }

    /// Notes the phases that have begun; `true` when the rotation has ended.
    fn look(&self, it: &mut Sighting, view: &PairView, rotation: &RotationId) -> bool {
        let mut is_over = false;
        for mark in view.timeline.iter().filter(|mark| mark.rotation == *rotation) {
            let at = self.stage.recorder.moment(mark.seen);
            match &mark.phase {
                Phase::Emptying { .. } | Phase::Draining { .. } | Phase::Checkpointing { .. } => {
                    it.committed.get_or_insert(at);
                }
                Phase::Complete { end } => {
                    is_over = true;
                    it.ended = match end {
                        End::Rotated => "rotated".to_owned(),
                        End::Superseded => "superseded".to_owned(),
                    };
                    if !it.is_without_revocation {
                        it.acknowledged.get_or_insert(at);
                    }
                }
                Phase::Failed { cause } => {
                    is_over = true;
                    it.ended = format!("failed: {cause:?}");
                }
                _ => {}
            }
        }
        is_over
    }

    /// How long to rest after a count, beside as many others as count at the same time.
    fn rest_after(&self, count: impl FnOnce()) -> Duration {
        let begun = Instant::now();
        count();
        let rest = begun.elapsed() * COUNT_REST * self.schedule.at_once;
        rest.clamp(COUNT_EVERY, COUNT_LEAST_EVERY)
    }

    /// Counts the holders, once the old version is being left.
    fn count(&self, it: &mut Sighting, pair: &PairId, old: Version) {
        if it.committed.is_none() {
            return;
        }
        let cell = self.stage.node.shared().broker.cell(pair);
        let newer = cell.current().map(|(version, _)| version).filter(|version| *version != old);
        let count = Count {
            at: self.stage.recorder.now(),
            old: cell.holder_count(old),
            new: newer.map_or(0, |version| cell.holder_count(version)),
        };
        let is_new = it.curve.last().is_none_or(|last| {
            (last.old, last.new) != (count.old, count.new)
                || count.at - last.at >= COUNT_AGAIN_AFTER_US
        });
        if is_new {
            it.curve.push(count);
        }
    }
}
