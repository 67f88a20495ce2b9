//! The world's nodes: they die, come back, hold, return, and hear late of everything.

use keybaton_rotation::{Debt, Input, Obligation};
use rand::Rng;

use crate::Mutant;
use crate::broker::{Broker, Op};
use crate::journal::Standing;
use crate::world::{Event, MINUTE, SECOND, World};

impl World {
    pub fn start_node(&mut self, node: usize) {
        if self.brokers[node].alive {
            return;
        }
        let incarnation = self.journal.begin_life(node);
        self.brokers[node].start(incarnation);
        self.after(0, Event::Heartbeat { node });
        if node == 0 {
            self.process += 1;
            self.start_actor();
        }
    }

    /// The process of a node dies: holders, jobs, timers.
    pub fn crash_node(&mut self, node: usize) {
        if !self.brokers[node].alive {
            return;
        }
        self.note(|| format!("node {node} dies"));
        let incarnation = self.brokers[node].incarnation;
        self.brokers[node] = Broker::default();
        if node == 0 {
            self.actor = None;
            self.timers.clear();
            self.process += 1;
        }
        let back = self.between(SECOND, MINUTE);
        self.after(back, Event::NodeStarts { node });
        self.after(11 * SECOND, Event::Reap { node, incarnation });
    }

    pub fn heartbeat(&mut self, node: usize) {
        if !self.brokers[node].alive {
            return;
        }
        let is_busy = self.journal.record.as_ref().is_some_and(|r| {
            let retires = |o: &Obligation| matches!(o.debt, Debt::Retire { .. });
            r.obligations.iter().any(retires)
                || r.rotation.as_ref().is_some_and(|x| x.phase.leaving().is_some())
        });
        let wait = match (is_busy, self.is_chaos) {
            (true, _) => 3 * SECOND,
            (false, true) => 30 * SECOND,
            (false, false) => 10 * MINUTE,
        };
        self.after(wait, Event::Heartbeat { node });
        self.ask_standing(node);
        self.report_dead_key();
        self.acquire(node);
    }

    pub fn ask_standing(&mut self, node: usize) {
        self.next_number += 1;
        let asked = self.next_number;
        let incarnation = self.brokers[node].incarnation;
        let wait = self.travel();
        self.after(wait, Event::Read { node, incarnation, asked });
    }

    pub fn report_dead_key(&mut self) {
        let Some(record) = &self.journal.record else {
            return;
        };
        let Some(version) = record.active else { return };
        let key_id = record.versions.get(&version).and_then(|entry| entry.key_id.clone());
        if key_id.is_some_and(|key_id| !self.provider.works(&key_id)) {
            let reports = u32::try_from(self.between(1, 5)).unwrap_or(1);
            let input = Input::KeyDead { version, reports };
            let wait = self.travel();
            self.after(wait, Event::Deliver { process: None, input });
        }
    }

    pub fn acquire(&mut self, node: usize) {
        let is_session = self.rng.random_bool(0.3);
        let lasts = if self.rng.random_bool(0.1) {
            self.between(MINUTE, 15 * MINUTE)
        } else {
            self.between(100, MINUTE)
        };
        let open = self.brokers[node].slots.iter_mut().find(|(_, slot)| slot.open);
        if let Some((_, slot)) = open.filter(|_| self.is_chaos) {
            self.next_number += 1;
            slot.holders.insert(self.next_number, is_session);
            let holder = self.next_number;
            self.after(lasts, Event::Release { node, holder });
        }
    }

    pub fn work(&mut self, node: usize) {
        let broker = &mut self.brokers[node];
        if !broker.alive || broker.op.is_some() {
            return;
        }
        let mut next = broker.next_op();
        if self.mutant == Mutant::GrantReturnedEarly {
            let view = broker.view.as_ref();
            let closed = view.and_then(|view| {
                view.grants.iter().find(|(version, _)| view.active != Some(**version))
            });
            next = closed.map(|(version, grant)| Op::Return(*version, grant.id)).or(next);
        }
        let Some(op) = next else { return };
        self.next_number += 1;
        let asked = self.next_number;
        broker.op = Some((asked, op));
        let incarnation = broker.incarnation;
        let wait = self.travel();
        self.after(wait, Event::OpRuns { node, incarnation, asked, op });
    }

    pub fn run_op(&mut self, node: usize, incarnation: u64, asked: u64, op: Op) {
        if self.journal.lives[node] != incarnation {
            return;
        }
        let standing = match op {
            Op::Grant(version) => self.journal.grant(version, node, incarnation),
            Op::Return(version, id) => self.journal.return_grant(version, node, id),
        };
        let standing = standing.filter(|_| !self.chance(10));
        let wait = self.travel();
        self.after(wait, Event::OpAnswered { node, incarnation, asked, standing });
    }

    pub fn op_answered(
        &mut self,
        node: usize,
        incarnation: u64,
        asked: u64,
        standing: Option<Standing>,
    ) {
        let latest = self.next_number;
        let broker = &mut self.brokers[node];
        let Some((number, op)) = broker.op.filter(|_| broker.incarnation == incarnation) else {
            return;
        };
        if number != asked {
            return;
        }
        let Some(standing) = standing else {
            // Nobody knows whether it was written: the same is asked again.
            let wait = self.travel();
            self.after(wait, Event::OpRuns { node, incarnation, asked, op });
            return;
        };
        broker.op = None;
        if matches!(op, Op::Return(..)) {
            broker.stale_until = latest;
        }
        if standing.rev >= broker.rev {
            broker.apply(standing);
        }
        self.work(node);
    }
}
