//! What goes wrong, and what people ask for meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keybaton_actors::rotation_actor::RotationMessage;
use keybaton_actors::shared::Shared;
use keybaton_messages::{PairId, Version};
use keybaton_rotation::{Input, Order, Reason, Want};
use ractor::ActorRef;

use crate::agenda::Bound;
use crate::call::Port;
use crate::flaws::Flaw;
use crate::limits::{CHAOS, LOOK_EVERY};
use crate::run::Mode;
use crate::world::World;

impl World {
    /// Begins the story: some tasks, a first key for some, and trouble until its end.
    pub(crate) fn begin_chaos(&self) {
        self.after(CHAOS, Bound::World, |world| match world.mode {
            Mode::Safety => world.end(),
            Mode::Liveness => world.heal(),
        });
        self.after(Duration::from_millis(100), Bound::World, |world| world.trouble());
    }

    fn trouble(self: &Arc<Self>) {
        if !self.is_chaos() || self.is_over() {
            return;
        }
        let wait = match self.dice.between(0, 3) {
            0 => self.dice.millis(1, 500),
            _ => self.dice.millis(500, 9_000),
        };
        self.after(wait, Bound::World, |world| world.trouble());
        self.check_stopped();
        let Some(pair) = self.dice.pick(&self.pairs).cloned() else { return };
        if self.node().is_none() {
            return;
        }
        match self.dice.between(0, 99) {
            0..22 => self.wish_task(),
            22..45 => self.random_want(&pair),
            45..57 => self.random_order(&pair),
            57..70 => self.kill_somebody(),
            70..76 => self.crash("at random"),
            76..80 => self.vendor_kills(&pair),
            80..88 => self.lie_about_grants(&pair),
            88..95 => {
                let port = *self.dice.pick(&Port::ALL).expect("some");
                let wait = self.dice.seconds(1, 25);
                self.note(|| format!("{port:?} is away for {wait:?}"));
                self.take_away(port, wait);
            }
            95..98 => self.cancel_a_task(),
            _ => self.wish_again(),
        }
    }

    fn random_version(&self, pair: &PairId) -> Option<Version> {
        let made = self.record(pair).map_or(1, |record| record.next_version.0);
        let version = u32::try_from(self.dice.between(1, u64::from(made))).expect("few versions");
        self.dice.chance(400).then_some(Version(version))
    }

    fn random_want(self: &Arc<Self>, pair: &PairId) {
        let reason = Reason::Requested("test".into());
        let want = match self.dice.between(0, 9) {
            0..2 => Want::Provision,
            2..6 => Want::Rotate { target: self.random_version(pair), reason },
            6..9 => Want::Emergency {
                compromised: self.random_version(pair),
                deadline: self.dice.chance(300).then(|| self.dice.seconds(1, 10)),
                reason,
            },
            _ => return self.import(pair),
        };
        self.want(pair, want);
    }

    fn random_order(self: &Arc<Self>, pair: &PairId) {
        let order = match self.dice.between(0, 9) {
            0..3 => Order::Abort,
            3..6 => Order::RollBack,
            6 => Order::Cut,
            7 => Order::Extend(Duration::from_secs(5)),
            _ => Order::RetryNow,
        };
        self.order(pair, order);
    }

    fn vendor_kills(self: &Arc<Self>, pair: &PairId) {
        let books = &self.vendor(pair).books;
        let alive: Vec<_> = books.keys().into_iter().filter(|key| key.is_alive).collect();
        if let Some(key) = self.dice.pick(&alive) {
            self.note(|| format!("the vendor kills {}", key.id));
            books.kill(&key.id);
            self.vendor_changed(&pair.provider, false);
        }
    }

    /// A hint that was true once arrives again, or was never true: hints decide nothing.
    fn lie_about_grants(&self, pair: &PairId) {
        let Some(record) = self.record(pair) else { return };
        let leaving = record.rotation.as_ref().and_then(|rotation| rotation.phase.leaving());
        let versions: Vec<_> = record.versions.keys().copied().collect();
        let version = leaving.filter(|_| self.dice.chance(800));
        let Some(version) = version.or(self.dice.pick(&versions).copied()) else { return };
        self.note(|| format!("a hint says that {pair} {version} is empty"));
        if let Some(node) = self.node() {
            let input = Input::GrantReturned { version, left: 0 };
            node.to_pair(pair, RotationMessage::Happened(input));
        }
    }

    fn cancel_a_task(&self) {
        let Some(node) = self.node() else { return };
        let tasks = node.tasks.list(None);
        if let Some((key, _)) = self.dice.pick(&tasks)
            && let Some(entry) = node.tasks.get(key)
        {
            self.note(|| format!("cancel {key}"));
            entry.cancel();
        }
    }

    fn kill_somebody(&self) {
        let Some(node) = self.node() else { return };
        let victim = match self.flaw {
            Some(Flaw::RandomVictim) => {
                let victims: HashMap<_, _> = (0..11u64).map(|number| (number, ())).collect();
                victims.into_keys().next().unwrap_or(0)
            }
            _ => self.dice.between(0, 10),
        };
        let Some(pair) = self.dice.pick(&self.pairs) else { return };
        self.note(|| format!("kill {victim} of {pair}"));
        match victim {
            0..3 => kill(node.rotations.get(pair).map(|actor| actor.value().clone())),
            3..5 => self.kill_a_task(&node),
            5 => kill(node.broker_inbox.get()),
            6 => kill(node.sweeper.get()),
            7 => kill(node.shipper.get()),
            8 => kill(node.scheduler.get()),
            9 => kill(node.checkpoint_sweeper.get()),
            _ if self.dice.chance(300) => kill_all(&node, &self.pairs),
            _ => kill_tenant(&node, &self.pairs, pair),
        }
    }

    fn kill_a_task(&self, node: &Shared) {
        let tasks = node.tasks.list(None);
        let task = self.dice.pick(&tasks).and_then(|(key, _)| node.tasks.get(key));
        if let Some(actor) = task.and_then(|task| task.actor()) {
            actor.kill();
        }
    }

    /// Faults end; whoever was not served asks again.
    fn heal(self: &Arc<Self>) {
        self.note(|| "peace".into());
        self.end_chaos();
        self.wish_calls();
        self.look();
    }

    /// Looks again and again whether everything has finished.
    fn look(self: &Arc<Self>) {
        self.check_stopped();
        self.wish_again();
        match self.unfinished() {
            None => self.check_end(),
            Some(what) if self.now() > CHAOS + crate::limits::PEACE_MAX => {
                self.violate("L", format!("not finished in peace: {what}"));
            }
            Some(_) => self.after(LOOK_EVERY, Bound::World, |world| world.look()),
        }
    }
}

fn kill<M: ractor::Message>(actor: Option<ActorRef<M>>) {
    if let Some(actor) = actor {
        actor.kill();
    }
}

/// Children die first, in an order that is ours: their supervisor would end them in the order of a
/// map that hashes with a random number.
fn kill_tenant(node: &Shared, pairs: &[PairId], of: &PairId) {
    let mut supervisor = None;
    for pair in pairs.iter().filter(|pair| pair.tenant == of.tenant) {
        if let Some(actor) = node.rotations.get(pair) {
            supervisor = supervisor.or(actor.try_get_supervisor());
            actor.kill();
        }
    }
    for (key, _) in node.tasks.list(Some(&of.tenant)) {
        if let Some(actor) = node.tasks.get(&key).and_then(|task| task.actor()) {
            supervisor = supervisor.or(actor.try_get_supervisor());
            actor.kill();
        }
    }
    if let Some(supervisor) = supervisor {
        supervisor.kill();
    }
}

fn kill_all(node: &Shared, pairs: &[PairId]) {
    for pair in pairs {
        kill_tenant(node, pairs, pair);
    }
    kill(node.broker_inbox.get());
    kill(node.scheduler.get());
    kill(node.sweeper.get());
    kill(node.shipper.get());
    kill(node.checkpoint_sweeper.get());
    kill(node.supervisor.get());
}
