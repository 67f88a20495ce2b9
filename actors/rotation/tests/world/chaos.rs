//! What goes wrong, and what people ask for meanwhile.

use std::time::Duration;

use keybaton_messages::{TriggerId, Version};
use keybaton_rotation::{Class, Input, OnStuck, Order, OverlapFrom, Policy, Reason, Trigger, Want};
use rand::Rng;
use rand::rngs::StdRng;

use crate::provider::Plan;
use crate::world::{Event, HOUR, SECOND, World};

impl World {
    pub fn chaos(&mut self) {
        if !self.is_chaos {
            return;
        }
        let wait = self.between(100, 15 * SECOND);
        self.after(wait, Event::Chaos);
        match self.rng.random_range(0..100) {
            0..30 => self.random_trigger(),
            30..45 => self.random_order(),
            45..55 => self.crash_node(0),
            55..62 => self.crash_node(1),
            62..72 => self.crash_actor(),
            72..78 => {
                let jump = i64::try_from(self.between(0, 2 * HOUR)).unwrap_or(0);
                self.clock_offset = jump - i64::try_from(HOUR).unwrap_or(0);
            }
            78..83 => self.vendor_kills_a_key(),
            83..90 => self.count_lies(),
            _ => {
                let node = usize::from(self.rng.random_bool(0.5));
                self.acquire(node);
            }
        }
    }

    /// The actor alone dies; jobs of its process go on and their answers find its successor.
    pub fn crash_actor(&mut self) {
        if self.actor.take().is_some() {
            self.note(|| "the actor dies".to_owned());
            self.timers.clear();
            let wait = self.between(0, 5 * SECOND);
            self.after(wait, Event::ActorStarts);
        }
    }

    fn vendor_kills_a_key(&mut self) {
        let now = self.now;
        let alive: Vec<_> = self
            .provider
            .keys
            .iter()
            .filter(|(key_id, key)| key.alive && **key_id != self.foreign.0)
            .map(|(key_id, _)| key_id.clone())
            .collect();
        if !alive.is_empty() {
            let key_id = &alive[self.rng.random_range(0..alive.len())];
            let _ = self.provider.revoke(key_id, now);
            self.note(|| format!("the vendor kills {key_id}"));
        }
    }

    fn count_lies(&mut self) {
        let Some(record) = &self.journal.record else {
            return;
        };
        let made = record.next_version.0;
        if made > 1 {
            let version = Version(self.rng.random_range(made.saturating_sub(3).max(1)..made));
            let left = u32::from(self.rng.random_bool(0.2));
            let input = Input::GrantReturned { version, left };
            self.after(0, Event::Deliver { process: None, input });
        }
    }

    fn random_version(&mut self) -> Option<Version> {
        let made = self.journal.record.as_ref().map_or(1, |r| r.next_version.0);
        self.rng.random_bool(0.5).then(|| Version(self.rng.random_range(1..=made)))
    }

    fn random_trigger(&mut self) {
        let number = self.rng.random_range(0..1000);
        let id = TriggerId::new(&format!("t{number}")).expect("a trigger id");
        let reason = Reason::Requested("test".to_owned());
        let want = match self.rng.random_range(0..10) {
            0..3 => Want::Provision,
            3..6 => Want::Rotate { target: self.random_version(), reason },
            6..9 => Want::Emergency {
                compromised: self.random_version(),
                deadline: self.rng.random_bool(0.3).then_some(Duration::from_secs(10)),
                reason,
            },
            _ => self.random_import(),
        };
        let input = Input::Triggered(Trigger { id, want });
        self.after(0, Event::Deliver { process: None, input });
    }

    fn random_import(&mut self) -> Want {
        let now = self.now;
        let (key_id, fp) =
            if self.rng.random_bool(0.2) { self.foreign.clone() } else { self.provider.plant(now) };
        if self.rng.random_bool(0.2) && key_id != self.foreign.0 {
            let _ = self.provider.revoke(&key_id, now);
        }
        let found = self.secrets.put(None, key_id, fp);
        self.seen.imported.insert(found.key_id.clone());
        Want::Import { key_id: found.key_id, secret: found.secret, fp }
    }

    fn random_order(&mut self) {
        let order = match self.rng.random_range(0..10) {
            0..3 => Order::Abort,
            3..5 => Order::RollBack,
            5 => Order::Cut,
            6 => Order::Extend(Duration::from_secs(30)),
            _ => Order::RetryNow,
        };
        let input = Input::Ordered(order);
        self.after(0, Event::Deliver { process: None, input });
    }

    pub fn random_plan(&mut self) -> Plan {
        if !self.is_chaos {
            return Plan::Answered;
        }
        match self.rng.random_range(0..100) {
            0..50 => Plan::Answered,
            50..60 => Plan::Refused { admin: self.rng.random_bool(0.2) },
            60..67 => Plan::AckLost,
            67..74 => Plan::Dropped,
            74..83 => Plan::Late,
            83..88 => Plan::Bad,
            88..93 => Plan::Foreign,
            93..97 => Plan::NotStored,
            _ => Plan::StoredUnheard,
        }
    }
}

/// A policy of this seed.
pub fn random_policy(rng: &mut StdRng, class: Class) -> Policy {
    let mut policy = Policy { sweep_horizon: Duration::from_secs(3 * 3600), ..Policy::default() };
    policy.on_stuck = [OnStuck::Wait, OnStuck::CutCalls, OnStuck::RollBack][rng.random_range(0..3)];
    policy.on_stuck_b = [OnStuck::Reopen, OnStuck::CutCalls][rng.random_range(0..2)];
    policy.revoke_without_replacement = rng.random_bool(0.8);
    if rng.random_bool(0.3) {
        policy.overlap_from = OverlapFrom::Drained;
    }
    if rng.random_bool(0.5) {
        policy.overlap = Duration::from_secs(20);
        policy.hard_deadline = Duration::from_secs(90);
        policy.drain_max = Duration::from_secs(5 * 60);
    }
    if rng.random_bool(0.3) && class == Class::A {
        policy.overlap = Duration::ZERO;
    }
    policy
}
